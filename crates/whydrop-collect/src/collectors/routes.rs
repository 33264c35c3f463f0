//! Routes, policy rules that discard, and how many of each there are, from dumps of
//! `RTM_GETROUTE` and `RTM_GETRULE` (`net/ipv4/fib_trie.c`, `net/ipv6/ip6_fib.c`,
//! `net/core/fib_rules.c`).
//!
//! A router with the routes of the whole Internet has a million: then only the first are read, and
//! that is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use whydrop_model::{PolicyRule, Route, Routes};

use crate::collector::{Collector, Facts, Place, Read};
use crate::collectors::addresses;
use crate::error::Why;
use crate::netlink::{Attributes, Failure, Protocol, text, u16_at, u32_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "routes", what: "routes", read: Read::Closing(read) };

const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
/// Bytes of `struct rtmsg` and of `struct fib_rule_hdr`.
const HEADER: usize = 12;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Routes of one address family that are read: some milliseconds and less than 2 MiB.
const MOST_ROUTES: usize = 10_000;
/// Routes of one address family that are told although they neither discard nor are a default.
const MOST_TOLD: usize = 256;
/// Policy rules that are read.
const MOST_RULES: usize = 10_000;

/// Attributes of a route (`include/uapi/linux/rtnetlink.h`).
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTN_UNICAST: u8 = 1;
/// A route that the kernel made for one destination, from another one.
const RTM_F_CLONED: u32 = 0x200;

/// Attributes of a policy rule (`include/uapi/linux/fib_rules.h`).
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut routes = Routes::default();
    for (family, name) in [(AF_INET, "ipv4"), (AF_INET6, "ipv6")] {
        let mut socket = place.netlink(Protocol::Route)?.at_most(MOST_ROUTES);
        let mut request = [0; HEADER];
        request[0] = family;
        let found = match socket.dump(RTM_GETROUTE, &request, place.buffer, |it| route(it, family))
        {
            Ok(dump) => dump.items,
            // A kernel without this family.
            Err(Failure::Refused(Errno::OPNOTSUPP | Errno::AFNOSUPPORT)) => continue,
            Err(failure) => return Err(failure.into()),
        };
        if found.len() >= MOST_ROUTES {
            routes.partial.push(name.to_owned());
        }
        routes.counts.insert(name.to_owned(), found.len() as u32);
        let mut told = 0;
        for seen in found {
            let Seen::Worth(route) = seen else { continue };
            let list = match (route.kind.as_str(), route.prefix) {
                ("unicast", 0) => &mut routes.defaults,
                ("unicast", _) if told == MOST_TOLD => {
                    routes.unicast_left_out += 1;
                    continue;
                }
                ("unicast", _) => {
                    told += 1;
                    &mut routes.unicast
                }
                _ => &mut routes.discarding,
            };
            list.push(*route);
        }
    }
    if !routes.partial.is_empty() {
        let why = format!("there are so many that only the first {MOST_ROUTES} were read");
        facts.stack.missing.push(("further routes", Why::new(why)));
    }
    let mut socket = place.netlink(Protocol::Route)?.at_most(MOST_RULES);
    let rules = match socket.dump(RTM_GETRULE, &[0; HEADER], place.buffer, rule) {
        Ok(dump) => dump.items,
        // A kernel without policy routing.
        Err(Failure::Refused(Errno::OPNOTSUPP | Errno::AFNOSUPPORT)) => Vec::new(),
        Err(failure) => return Err(failure.into()),
    };
    routes.rule_count = rules.len() as u32;
    let worth = |seen| match seen {
        Seen::Worth(rule) => Some(*rule),
        Seen::Usual => None,
    };
    routes.rules = rules.into_iter().filter_map(worth).collect();
    facts.stack.routes = Some(routes);
    Ok(())
}

/// A route or a rule, if it is worth to be kept; one of a million need not take room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<T> {
    Worth(Box<T>),
    Usual,
}

/// How a route or a rule of this type discards (`RTN_*`, `FR_ACT_*`: the same numbers).
fn discards(kind: u8) -> Option<&'static str> {
    Some(match kind {
        6 => "blackhole",
        7 => "unreachable",
        8 => "prohibit",
        9 => "throw",
        _ => return None,
    })
}

/// A route from the payload of `RTM_NEWROUTE`; `None` if it is none of this family.
pub(crate) fn route(payload: &[u8], family: u8) -> Option<Seen<Route>> {
    let header = payload.get(..HEADER)?;
    let (prefix, table, kind) = (header[1], header[4], header[7]);
    if header[0] != family || u32_at(header, 8)? & RTM_F_CLONED != 0 {
        return None;
    }
    let name = match discards(kind) {
        Some(name) => name,
        None if kind == RTN_UNICAST => "unicast",
        None => return Some(Seen::Usual),
    };
    let unspecified: IpAddr = match family {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut route = Route {
        kind: name.to_owned(),
        destination: unspecified,
        prefix,
        table: table.into(),
        priority: 0,
        gateway: None,
        devices: Vec::new(),
    };
    for (attribute, value) in Attributes(&payload[HEADER..]) {
        match attribute {
            RTA_DST => route.destination = addresses::address(value).unwrap_or(unspecified),
            RTA_OIF => route.devices.extend(u32_at(value, 0)),
            RTA_GATEWAY => route.gateway = addresses::address(value),
            // The next hop is of the other family: `struct rtvia`, a family and an address.
            RTA_VIA => route.gateway = value.get(2..).and_then(addresses::address),
            RTA_PRIORITY => route.priority = u32_at(value, 0).unwrap_or(0),
            RTA_MULTIPATH => route.devices.extend(hops(value)),
            RTA_TABLE => route.table = u32_at(value, 0).unwrap_or(route.table),
            _ => {}
        }
    }
    // With the worst metric of all: IPv6's own last answer, which some kernels show.
    let last_answer = route.priority == u32::MAX && prefix == 0 && name == "unreachable";
    Some(if last_answer { Seen::Usual } else { Seen::Worth(Box::new(route)) })
}

/// The devices of several next hops (`struct rtnexthop`).
fn hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let (Some(length), Some(device)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        devices.push(device);
        let length = usize::from(length).max(8).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    devices
}

/// A rule from the payload of `RTM_NEWRULE`; `None` if it is of another family than IP.
pub(crate) fn rule(payload: &[u8]) -> Option<Seen<PolicyRule>> {
    let header = payload.get(..HEADER)?;
    let ipv6 = match header[0] {
        AF_INET => false,
        AF_INET6 => true,
        _ => return None,
    };
    let Some(action) = discards(header[7]) else { return Some(Seen::Usual) };
    let mut rule = PolicyRule { ipv6, action: action.to_owned(), ..PolicyRule::default() };
    let network = |value: &[u8], length: u8| {
        addresses::address(value).map(|address| format!("{address}/{length}"))
    };
    for (attribute, value) in Attributes(&payload[HEADER..]) {
        match attribute {
            FRA_DST => rule.destination = network(value, header[1]),
            FRA_SRC => rule.source = network(value, header[2]),
            FRA_IIFNAME => rule.iif = Some(text(value)),
            FRA_PRIORITY => rule.priority = u32_at(value, 0).unwrap_or(0),
            FRA_FWMARK => rule.fwmark = u32_at(value, 0),
            _ => {}
        }
    }
    Some(Seen::Worth(Box::new(rule)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::push_attribute;

    fn worth<T>(seen: Seen<T>) -> Option<T> {
        match seen {
            Seen::Worth(it) => Some(*it),
            Seen::Usual => None,
        }
    }

    fn recorded(family: u8) -> Vec<Route> {
        let messages = fixture::netlink("linux-6.18-routes.bin");
        messages.iter().filter_map(|it| route(it, family)).filter_map(worth).collect()
    }

    fn told(routes: &[Route]) -> Vec<String> {
        routes
            .iter()
            .map(|it| {
                let gateway = it.gateway.map(|it| format!(" via {it}")).unwrap_or_default();
                let Route { kind, destination, prefix, table, priority, devices, .. } = it;
                format!("{kind} {destination}/{prefix} {table} {priority}{gateway} {devices:?}")
            })
            .collect()
    }

    #[test]
    fn recorded_routes() {
        let expected = [
            "prohibit 203.0.114.0/24 77 0 []",
            "throw 203.0.115.0/24 77 0 []",
            "unicast 0.0.0.0/0 254 0 via 192.0.20.2 [2]",
            "unicast 0.0.0.0/0 254 500 via 192.0.21.9 [3]",
            "blackhole 198.51.100.0/24 254 0 []",
            "unreachable 203.0.113.0/24 254 7 []",
        ];
        let elsewhere = |routes: Vec<Route>| {
            let (unicast, others): (Vec<_>, Vec<_>) =
                routes.into_iter().partition(|it| it.kind == "unicast" && it.prefix > 0);
            (told(&unicast), told(&others))
        };
        let (unicast, others) = elsewhere(recorded(AF_INET));
        assert_eq!(others, expected);
        assert_eq!(
            unicast[..2],
            ["unicast 10.1.0.0/16 254 0 [2, 3]", "unicast 192.0.20.0/24 254 0 [2]"]
        );
        assert_eq!(unicast.len(), 5);
        let expected = [
            "blackhole 2001:db8:1::/48 254 1024 [1]",
            "unicast ::/0 254 1024 via 2001:db8:2::9 [2]",
        ];
        let (unicast, others) = elsewhere(recorded(AF_INET6));
        assert_eq!(others, expected);
        assert_eq!(
            (unicast.len(), unicast[0].as_str()),
            (7, "unicast 2001:db8:2::/64 254 256 [2]")
        );
        let messages = fixture::netlink("linux-6.18-routes.bin");
        assert_eq!(messages.iter().filter(|it| route(it, AF_INET).is_some()).count(), 22);
    }

    #[test]
    fn several_next_hops_and_the_last_answer() {
        let mut payload = [0; HEADER].to_vec();
        (payload[0], payload[7]) = (AF_INET, RTN_UNICAST);
        let hop = |device: u8| vec![8, 0, 0, 0, device, 0, 0, 0];
        push_attribute(&mut payload, RTA_MULTIPATH, &[hop(3), hop(5)].concat());
        let both = worth(route(&payload, AF_INET).unwrap()).unwrap();
        assert_eq!(both.devices, [3, 5]);
        assert_eq!(route(&payload, AF_INET6), None);
        (payload[0], payload[7]) = (AF_INET6, 7);
        push_attribute(&mut payload, RTA_PRIORITY, &u32::MAX.to_ne_bytes());
        assert_eq!(route(&payload, AF_INET6), Some(Seen::Usual));
        assert_eq!(hops(&[0; 64]).len(), 8, "no endless loop on zeros");
    }

    #[test]
    fn recorded_rules() {
        let messages = fixture::netlink("linux-6.18-policy-rules.bin");
        let rules: Vec<Seen<PolicyRule>> = messages.iter().filter_map(|it| rule(it)).collect();
        assert_eq!(rules.len(), 9);
        let told: Vec<String> = rules
            .into_iter()
            .filter_map(worth)
            .map(|it| {
                let PolicyRule { action, priority, source, destination, iif, fwmark, .. } = it;
                format!("{priority} {action} {source:?} {destination:?} {iif:?} {fwmark:?}")
            })
            .collect();
        let expected = [
            "100 blackhole Some(\"10.9.0.0/16\") None None None",
            "200 prohibit None None Some(\"v1\") Some(7)",
            "300 unreachable None Some(\"2001:db8:9::/48\") None None",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_cut_message_never_panics() {
        for name in ["linux-6.18-routes.bin", "linux-6.18-policy-rules.bin"] {
            fixture::cut(name, |bytes| {
                route(bytes, AF_INET);
                rule(bytes);
            });
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 12..200)) {
            bytes[0] = AF_INET;
            route(&bytes, AF_INET);
            rule(&bytes);
            hops(&bytes);
        }
    }
}
