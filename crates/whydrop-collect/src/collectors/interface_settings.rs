//! The settings of each device that decide whether its packets are refused (`rp_filter`,
//! `forwarding`, `disable_ipv6`, ...), by their sysctl names.
//!
//! Not from a file for each, of which a host with many devices has thousands, but from one dump of
//! `RTM_GETLINK` and one of `RTM_GETNEIGHTBL`. For the latter the kernel walks the devices of all
//! namespaces (`neightbl_dump_info()` in `net/core/neighbour.c`), so of few devices files are read. Only what differs from the setting for all devices (of
//! neighbours: for new ones) is kept.

use std::collections::BTreeMap;

use crate::collector::{Collector, Facts, Place, Read};
use crate::collectors::neighbour_tables::{NDTMSG, RTM_GETNEIGHTBL};
use crate::error::Why;
use crate::netlink::{Attributes, Protocol, push_attribute, text, u32_at};

pub(crate) const COLLECTOR: Collector = Collector {
    name: "interface_settings",
    what: "settings of network devices (sysctl)",
    read: Read::Closing(read),
};

const RTM_GETLINK: u16 = 18;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;

/// Devices of which files are read: as dear as a dump on a host with some hundred namespaces.
const FEW: usize = 8;
/// Attributes of a neighbour table.
const NDTA_NAME: u16 = 1;
const NDTA_PARMS: u16 = 6;
const NDTPA_IFINDEX: u16 = 1;
const NDTPA_QUEUE_LENBYTES: u16 = 16;

/// Names with their places in the array that the kernel sends: `IPV4_DEVCONF_*` of
/// `include/uapi/linux/ip.h` less one. Places never change; an older kernel's array is shorter.
const IPV4: [(usize, &str); 10] = [
    (0, "forwarding"),
    (7, "rp_filter"),
    (8, "accept_source_route"),
    (10, "log_martians"),
    (12, "arp_filter"),
    (18, "arp_ignore"),
    (22, "accept_local"),
    (25, "route_localnet"),
    (29, "drop_unicast_in_l2_multicast"),
    (30, "drop_gratuitous_arp"),
];
/// Likewise, `DEVCONF_*` of `include/uapi/linux/ipv6.h`.
const IPV6: [(usize, &str); 6] = [
    (0, "forwarding"),
    (3, "accept_ra"),
    (24, "accept_source_route"),
    (26, "disable_ipv6"),
    (40, "drop_unicast_in_l2_multicast"),
    (41, "drop_unsolicited_na"),
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut general = BTreeMap::new();
    for (family, names) in [("ipv4", &IPV4[..]), ("ipv6", &IPV6[..])] {
        let names = names.iter().map(|(_, name)| format!("net.{family}.conf.all.{name}"));
        for name in names.chain([format!("net.{family}.neigh.default.unres_qlen_bytes")]) {
            if let Some(value) = place.sysctl(&name)? {
                general.insert(name, value);
            }
        }
    }
    let mut socket = place.netlink(Protocol::Route)?;
    let mut request = vec![0; IFINFOMSG];
    push_attribute(&mut request, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let devices = socket.dump(RTM_GETLINK, &request, place.buffer, parse)?.items;
    let queues = if devices.len() <= FEW {
        devices.iter().flat_map(|device| queues_of(device, place)).collect()
    } else {
        socket.dump(RTM_GETNEIGHTBL, &[0; NDTMSG], place.buffer, parse_queue)?.items
    };
    let mut special = differing(&devices, &queues, &general);
    facts.sysctls.append(&mut general);
    facts.sysctls.append(&mut special);
    Ok(())
}

/// What `RTM_GETNEIGHTBL` tells of a device, from its files.
fn queues_of(device: &Device, place: &mut Place<'_>) -> Vec<Queue> {
    let name = device.name.replace('.', "/");
    ["ipv4", "ipv6"]
        .into_iter()
        .filter_map(|family| {
            let setting = format!("net.{family}.neigh.{name}.unres_qlen_bytes");
            // Not there: the family is off on this device, or the device went away.
            let bytes = place.sysctl(&setting).ok()??.parse().ok()?;
            Some(Queue { ifindex: device.ifindex, family, bytes })
        })
        .collect()
}

/// A device and its settings by family and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    ifindex: u32,
    name: String,
    settings: Vec<(&'static str, &'static str, i32)>,
}

/// The bytes that may wait for a neighbour on a device, of `ipv4` or `ipv6`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    ifindex: u32,
    family: &'static str,
    bytes: u32,
}

pub(crate) fn differing(
    devices: &[Device],
    queues: &[Queue],
    general: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for device in devices {
        // In the notation of sysctl(8), where the name of a VLAN device holds a dot.
        let name = device.name.replace('.', "/");
        for (family, setting, value) in &device.settings {
            let value = value.to_string();
            if general.get(&format!("net.{family}.conf.all.{setting}")) != Some(&value) {
                all.insert(format!("net.{family}.conf.{name}.{setting}"), value);
            }
        }
        for queue in queues.iter().filter(|queue| queue.ifindex == device.ifindex) {
            let value = queue.bytes.to_string();
            let usual = format!("net.{}.neigh.default.unres_qlen_bytes", queue.family);
            if general.get(&usual) != Some(&value) {
                let key = format!("net.{}.neigh.{name}.unres_qlen_bytes", queue.family);
                all.insert(key, value);
            }
        }
    }
    all
}

/// A device from the payload of `RTM_NEWLINK`.
pub(crate) fn parse(payload: &[u8]) -> Option<Device> {
    let mut device = Device { ifindex: u32_at(payload, 4)?, ..Device::default() };
    for (kind, value) in Attributes(payload.get(IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => device.name = text(value),
            IFLA_AF_SPEC => {
                for (family, nest) in Attributes(value) {
                    let (name, wanted, places) = match family {
                        AF_INET => ("ipv4", IFLA_INET_CONF, &IPV4[..]),
                        AF_INET6 => ("ipv6", IFLA_INET6_CONF, &IPV6[..]),
                        _ => continue,
                    };
                    let Some((_, array)) = Attributes(nest).find(|(kind, _)| *kind == wanted)
                    else {
                        continue;
                    };
                    device.settings.extend(places.iter().filter_map(|(place, setting)| {
                        Some((name, *setting, u32_at(array, place * 4)?.cast_signed()))
                    }));
                }
            }
            _ => {}
        }
    }
    (!device.name.is_empty()).then_some(device)
}

/// A queue from the payload of `RTM_NEWNEIGHTBL`; `None` for the message of a whole table.
pub(crate) fn parse_queue(payload: &[u8]) -> Option<Queue> {
    let attributes = Attributes(payload.get(NDTMSG..)?);
    let find = |wanted| attributes.clone().find(|(kind, _)| *kind == wanted).map(|it| it.1);
    let family = match text(find(NDTA_NAME)?).as_str() {
        "arp_cache" => "ipv4",
        "ndisc_cache" => "ipv6",
        _ => return None,
    };
    let parms = Attributes(find(NDTA_PARMS)?);
    let number = |wanted| {
        let (_, value) = parms.clone().find(|(kind, _)| *kind == wanted)?;
        u32_at(value, 0)
    };
    Some(Queue { ifindex: number(NDTPA_IFINDEX)?, family, bytes: number(NDTPA_QUEUE_LENBYTES)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const LINKS: &str = "linux-6.18-link-settings.bin";
    const TABLES: &str = "linux-6.18-neighbour-tables.bin";

    fn recorded() -> Vec<Device> {
        fixture::netlink(LINKS).iter().filter_map(|it| parse(it)).collect()
    }

    #[test]
    fn a_recorded_dump() {
        let devices = recorded();
        let v1 = devices.iter().find(|device| device.name == "v1").unwrap();
        assert_eq!((v1.ifindex, v1.settings.len()), (3, IPV4.len() + IPV6.len()));
        let value = |family, name| {
            v1.settings.iter().find(|it| (it.0, it.1) == (family, name)).map(|it| it.2)
        };
        assert_eq!(value("ipv4", "rp_filter"), Some(0));
        assert_eq!(value("ipv6", "accept_ra"), Some(1));
        let queues: Vec<Queue> =
            fixture::netlink(TABLES).iter().filter_map(|it| parse_queue(it)).collect();
        assert!(queues.contains(&Queue { ifindex: 3, family: "ipv6", bytes: 212_992 }));
        assert_eq!(queues.iter().filter(|queue| queue.ifindex == 3).count(), 2);
    }

    #[test]
    fn only_what_differs_is_kept() {
        let device = Device {
            ifindex: 3,
            name: "eth0.10".into(),
            settings: vec![("ipv4", "rp_filter", 1), ("ipv4", "forwarding", 0)],
        };
        let queues = [
            Queue { ifindex: 3, family: "ipv4", bytes: 500 },
            Queue { ifindex: 3, family: "ipv6", bytes: 212_992 },
            Queue { ifindex: 4, family: "ipv4", bytes: 7 },
        ];
        let general = BTreeMap::from(
            [
                ("net.ipv4.conf.all.rp_filter", "0"),
                ("net.ipv4.conf.all.forwarding", "0"),
                ("net.ipv4.neigh.default.unres_qlen_bytes", "212992"),
                ("net.ipv6.neigh.default.unres_qlen_bytes", "212992"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let special = differing(&[device], &queues, &general);
        let expected = [
            ("net.ipv4.conf.eth0/10.rp_filter", "1"),
            ("net.ipv4.neigh.eth0/10.unres_qlen_bytes", "500"),
        ];
        let told: Vec<(&str, &str)> =
            special.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_cut_message_never_panics() {
        for name in [LINKS, TABLES] {
            fixture::cut(name, |bytes| {
                parse(bytes);
                parse_queue(bytes);
            });
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
            parse_queue(&bytes);
        }
    }
}
