//! Network devices and their `rtnl_link_stats64`, from a dump of `RTM_GETLINK`
//! (`net/core/rtnetlink.c`). Not from `/proc/net/dev`, which folds several counters into one.

use crate::collector::{Collector, Facts, LinkFacts, Place, Read};
use crate::error::Why;
use crate::netlink::{Attributes, Protocol, text, u32_at, u64_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "links", what: "network devices", read: Read::Namespace(read) };

const RTM_GETLINK: u16 = 18;
/// Bytes of `struct ifinfomsg` (`include/uapi/linux/rtnetlink.h`).
const IFINFOMSG: usize = 16;
const IFF_UP: u32 = 1;
/// Attributes of `include/uapi/linux/if_link.h`.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_CARRIER: u16 = 33;
const IFLA_INFO_KIND: u16 = 1;

/// The fields of `struct rtnl_link_stats64`, in order. It grows at the end: a kernel may send fewer
/// (rx_nohandler came with 4.6, rx_otherhost_dropped with 5.19) or more.
const STATS64: [&str; 25] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Route)?;
    let dump = socket.dump(RTM_GETLINK, &[0; IFINFOMSG], place.buffer, parse)?;
    if dump.interrupted {
        facts.links_partial =
            Some(Why::new("devices came and went faster than the kernel could list them"));
    }
    facts.links = dump.items;
    Ok(())
}

/// A link from the payload of `RTM_NEWLINK`; `None` without an index or a name.
fn parse(payload: &[u8]) -> Option<LinkFacts> {
    let mut link = LinkFacts {
        ifindex: u32_at(payload, 4)?,
        up: u32_at(payload, 8)? & IFF_UP != 0,
        ..LinkFacts::default()
    };
    for (kind, value) in Attributes(payload.get(IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
            IFLA_CARRIER => link.carrier = value.first().map(|&carrier| carrier != 0),
            IFLA_LINKINFO => {
                link.kind = Attributes(value)
                    .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            IFLA_STATS64 => {
                link.stats = STATS64
                    .iter()
                    .enumerate()
                    .map_while(|(at, &name)| Some((name, u64_at(value, at * 8)?)))
                    .collect();
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn recorded() -> Vec<Vec<u8>> {
        fixture::netlink("linux-6.18-links.bin")
    }

    #[test]
    fn a_recorded_dump() {
        let links: Vec<LinkFacts> = recorded().iter().filter_map(|it| parse(it)).collect();
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "vb", "va", "br0"]);
        let va = &links[2];
        assert_eq!(va.kind.as_deref(), Some("veth"));
        assert_eq!((va.up, va.carrier, va.mtu), (true, Some(true), 1400));
        assert_eq!(va.stats.len(), STATS64.len());
        let stat = |name| va.stats.iter().find(|stat| stat.0 == name).unwrap().1;
        assert_eq!((stat("rx_packets"), stat("tx_packets")), (3, 4));
        assert_eq!(links[0].kind, None, "loopback has none");
        assert_eq!((links[3].up, links[3].carrier), (false, Some(true)));
    }

    #[test]
    fn statistics_of_an_older_and_of_a_newer_kernel() {
        let link = |stats: usize| {
            let mut bytes = vec![0; IFINFOMSG];
            bytes[4] = 2;
            for (kind, value) in [
                (IFLA_IFNAME, b"eth0\0".to_vec()),
                (900, vec![1, 2, 3]),
                (IFLA_STATS64, vec![1; stats]),
            ] {
                bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
                bytes.extend(kind.to_ne_bytes());
                bytes.extend(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            parse(&bytes).unwrap()
        };
        assert_eq!(link(23 * 8).stats.last().unwrap().0, "tx_compressed");
        assert_eq!(link(40 * 8).stats.last().unwrap().0, "rx_otherhost_dropped");
        assert_eq!(link(23 * 8 + 5).stats.len(), 23, "half a number is none");
        assert_eq!(link(0).name, "eth0");
    }

    #[test]
    fn a_cut_message_never_panics() {
        for message in recorded() {
            for length in 0..message.len() {
                parse(&message[..length]);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }
    }
}
