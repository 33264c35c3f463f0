//! Network devices with their settings and `rtnl_link_stats64`, from a dump of `RTM_GETLINK`
//! (`net/core/rtnetlink.c`). Not from `/proc/net/dev`, which folds several counters into one.

use whydrop_model::{Link, LowerLink};

use crate::collector::{Collector, Facts, LinkFacts, Place, Read};
use crate::error::Why;
use crate::link_info;
use crate::netlink::{Attributes, Protocol, push_attribute, text, u32_at, u64_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "links", what: "network devices", read: Read::Namespace(read) };

const RTM_GETLINK: u16 = 18;
/// Bytes of `struct ifinfomsg` (`include/uapi/linux/rtnetlink.h`).
const IFINFOMSG: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// Attributes of `include/uapi/linux/if_link.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PARENT_DEV_NAME: u16 = 56;
/// In `IFLA_EXT_MASK`: leave the statistics out (4.4+; an older kernel sends them all the same).
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// `IF_OPER_*` of `include/uapi/linux/if.h`.
const OPERSTATES: [&str; 7] =
    ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

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

/// What a device is asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<String>,
}

/// The devices of a namespace but loopback, for collectors that ask each of them.
pub(crate) fn named(place: &mut Place<'_>) -> Result<Vec<Named>, Why> {
    let mut socket = place.netlink(Protocol::Route)?;
    let mut request = vec![0; IFINFOMSG];
    push_attribute(&mut request, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let dump = socket.dump(RTM_GETLINK, &request, place.buffer, |payload| {
        let LinkFacts { about: Link { ifindex, name, mac, flags, .. }, .. } = parse(payload)?;
        (flags & IFF_LOOPBACK == 0).then_some(Named { ifindex, name, mac })
    })?;
    // One that is missed because others came and went meanwhile is missed as if it had.
    Ok(dump.items)
}

/// A link from the payload of `RTM_NEWLINK`; `None` without an index or a name.
pub(crate) fn parse(payload: &[u8]) -> Option<LinkFacts> {
    let flags = u32_at(payload, 8)?;
    let mut link =
        Link { ifindex: u32_at(payload, 4)?, up: flags & IFF_UP != 0, flags, ..Link::default() };
    let (mut lower, mut netnsid) = (None, None);
    let (mut carrier_changes, mut stats) = (None, Vec::new());
    for (kind, value) in Attributes(payload.get(IFINFOMSG..)?) {
        let number = u32_at(value, 0);
        match kind {
            IFLA_ADDRESS => link.mac = mac(value),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number.unwrap_or(0),
            // 0 for a tunnel that is bound to no device.
            IFLA_LINK => lower = number.filter(|&ifindex| ifindex != 0),
            IFLA_QDISC => link.qdisc = Some(text(value)),
            IFLA_MASTER => link.master = number,
            IFLA_TXQLEN => link.tx_queue_len = number,
            IFLA_OPERSTATE => {
                let state = value.first().and_then(|&at| OPERSTATES.get(usize::from(at)));
                link.operstate = state.map(|&state| state.to_owned());
            }
            IFLA_LINKINFO => link_info::read(value, &mut link),
            IFLA_PROMISCUITY => link.promiscuity = number.unwrap_or(0),
            IFLA_NUM_TX_QUEUES => link.tx_queues = number,
            IFLA_NUM_RX_QUEUES => link.rx_queues = number,
            IFLA_CARRIER => link.carrier = value.first().map(|&carrier| carrier != 0),
            IFLA_CARRIER_CHANGES => carrier_changes = number,
            IFLA_LINK_NETNSID => netnsid = number.map(u32::cast_signed),
            IFLA_XDP => link.xdp = link_info::xdp(value),
            IFLA_PARENT_DEV_NAME => link.parent_device = Some(text(value)),
            IFLA_STATS64 => {
                stats = STATS64
                    .iter()
                    .enumerate()
                    .map_while(|(at, &name)| Some((name, u64_at(value, at * 8)?)))
                    .collect();
            }
            _ => {}
        }
    }
    link.lower = lower.map(|ifindex| LowerLink { ifindex, netnsid, netns: None });
    (!link.name.is_empty()).then_some(LinkFacts { about: link, carrier_changes, stats })
}

/// A hardware address in the usual form; `None` for that of a loopback, and for none.
fn mac(bytes: &[u8]) -> Option<String> {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.iter().any(|byte| byte != "00").then(|| bytes.join(":"))
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
        let names: Vec<&str> = links.iter().map(|link| link.about.name.as_str()).collect();
        assert_eq!(names, ["lo", "vb", "va", "br0"]);
        let LinkFacts { about: va, stats, carrier_changes } = &links[2];
        assert_eq!(va.kind.as_deref(), Some("veth"));
        assert_eq!((va.up, va.carrier, va.mtu), (true, Some(true), 1400));
        assert_eq!(va.operstate.as_deref(), Some("up"));
        assert_eq!((va.tx_queue_len, va.qdisc.as_deref()), (Some(1000), Some("noqueue")));
        let vb = &links[1].about;
        let lower = LowerLink { ifindex: vb.ifindex, netnsid: None, netns: None };
        assert_eq!(va.lower, Some(lower), "the other end is in the same namespace");
        assert_eq!((*carrier_changes, va.xdp.as_ref(), va.promiscuity), (Some(2), None, 0));
        assert_eq!(va.mac.as_ref().map(String::len), Some(17));
        assert_eq!(stats.len(), STATS64.len());
        let stat = |name| stats.iter().find(|stat| stat.0 == name).unwrap().1;
        assert_eq!((stat("rx_packets"), stat("tx_packets")), (3, 4));
        let lo = &links[0].about;
        assert_eq!((&lo.kind, &lo.mac, lo.lower), (&None, &None, None), "loopback has none");
        assert_eq!(lo.operstate.as_deref(), Some("unknown"));
        let br0 = &links[3].about;
        assert_eq!((br0.up, br0.carrier, br0.bridge.unwrap().stp_state), (false, Some(true), 0));
    }

    #[test]
    fn recorded_links_of_many_kinds() {
        let links: Vec<Link> = fixture::netlink("linux-6.18-link-kinds.bin")
            .iter()
            .filter_map(|it| parse(it))
            .map(|it| it.about)
            .collect();
        let link = |name: &str| links.iter().find(|link| link.name == name).unwrap();
        let bridge = link("br0");
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));
        assert_eq!(bridge.bridge.unwrap().stp_state, 1);
        let port = link("p0").bridge_port.as_ref().unwrap();
        assert!(port.isolated && port.hairpin && !port.learning && !port.unicast_flood);
        assert!(port.bcast_flood && port.mcast_flood && !port.locked);
        assert_eq!(link("p0").master, Some(bridge.ifindex));
        let elsewhere = link("p2").lower.unwrap();
        assert_eq!((elsewhere.netnsid, elsewhere.netns), (Some(0), None));
        assert!(link("p2").bridge_port.as_ref().unwrap().learning);
        let xdp = link("p1").xdp.as_ref().unwrap();
        assert_eq!((xdp.mode.as_str(), xdp.programs.len()), ("generic", 1));
        assert!(link("p1").promiscuity > 0 && link("p1").flags & 0x100 != 0, "IFF_PROMISC");
        assert_eq!(link("mv0").lower.unwrap().ifindex, link("p1").ifindex);
        assert_eq!(link("mv0").macvlan_bc_queue_len, Some(1000));
        let tap = link("tp0");
        assert_eq!((tap.kind.as_deref(), tap.carrier), (Some("tun"), Some(false)));
        assert_eq!(tap.operstate.as_deref(), Some("down"));
    }

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; IFINFOMSG];
        bytes[4] = 2;
        for (kind, value) in attributes {
            push_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    #[test]
    fn statistics_of_an_older_and_of_a_newer_kernel() {
        let link = |stats: usize| {
            let stats = vec![1; stats];
            let attributes =
                [(IFLA_IFNAME, &b"eth0\0"[..]), (900, &[1, 2, 3]), (IFLA_STATS64, &stats)];
            parse(&message(&attributes)).unwrap()
        };
        assert_eq!(link(23 * 8).stats.last().unwrap().0, "tx_compressed");
        assert_eq!(link(40 * 8).stats.last().unwrap().0, "rx_otherhost_dropped");
        assert_eq!(link(23 * 8 + 5).stats.len(), 23, "half a number is none");
        assert_eq!(link(0).about.name, "eth0");
        assert_eq!(link(0).about.operstate, None);
    }

    #[test]
    fn a_device_whose_other_end_is_elsewhere() {
        let (peer, nsid, master) = (7_u32.to_ne_bytes(), 3_i32.to_ne_bytes(), 5_u32.to_ne_bytes());
        let link = |peer: &[u8]| {
            let attributes = [
                (IFLA_IFNAME, &b"veth0\0"[..]),
                (IFLA_LINK, peer),
                (IFLA_LINK_NETNSID, &nsid),
                (IFLA_MASTER, &master),
                (IFLA_OPERSTATE, &[200]),
            ];
            parse(&message(&attributes)).unwrap().about
        };
        let veth = link(&peer);
        let lower = LowerLink { ifindex: 7, netnsid: Some(3), netns: None };
        assert_eq!((veth.lower, veth.master, veth.operstate), (Some(lower), Some(5), None));
        assert_eq!(link(&[0; 4]).lower, None);
    }

    #[test]
    fn a_cut_message_never_panics() {
        let kinds = fixture::netlink("linux-6.18-link-kinds.bin");
        for message in recorded().iter().chain(&kinds) {
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
