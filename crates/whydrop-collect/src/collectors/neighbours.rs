//! The neighbours of a namespace (ARP and neighbour discovery), from a dump of `RTM_GETNEIGH`
//! (`net/core/neighbour.c`), and the settings of their tables.

use std::collections::BTreeMap;
use std::net::IpAddr;

use whydrop_model::{Neighbour, NeighbourCount, Neighbours};

use crate::collector::{Collector, Facts, Place, Read};
use crate::collectors::addresses;
use crate::error::Why;
use crate::netlink::{Attributes, Protocol, u16_at, u32_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "neighbours", what: "neighbours (ARP, ND)", read: Read::Closing(read) };

const RTM_GETNEIGH: u16 = 30;
/// Bytes of `struct ndmsg` (`include/uapi/linux/neighbour.h`).
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// Neighbours that are read; more than `gc_thresh3` allows on any host that did not raise it far.
const MOST_READ: usize = 65_536;
/// Neighbours in trouble that are kept.
const MOST_KEPT: usize = 512;

/// The states of `include/uapi/linux/neighbour.h`, the bad ones first.
const STATES: [(u16, &str); 9] = [
    (0x20, "FAILED"),
    (0x01, "INCOMPLETE"),
    (0x10, "PROBE"),
    (0x08, "DELAY"),
    (0x00, "NONE"),
    (0x02, "REACHABLE"),
    (0x04, "STALE"),
    (0x80, "PERMANENT"),
    (0x40, "NOARP"),
];
/// So many of them mean that packets may have to wait or may be lost.
const TROUBLED: usize = 5;

/// Exist in the initial namespace only, except the last of each family.
const SYSCTLS: &[&str] = &[
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv4.neigh.default.unres_qlen_bytes",
    "net.ipv6.neigh.default.gc_thresh1",
    "net.ipv6.neigh.default.gc_thresh2",
    "net.ipv6.neigh.default.gc_thresh3",
    "net.ipv6.neigh.default.unres_qlen_bytes",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    place.sysctls(SYSCTLS, facts)?;
    let mut socket = place.netlink(Protocol::Route)?.at_most(MOST_READ);
    let seen = socket.dump(RTM_GETNEIGH, &[0; NDMSG], place.buffer, parse)?.items;
    facts.stack.neighbours = Some(summary(seen, MOST_READ, MOST_KEPT));
    Ok(())
}

/// A neighbour at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    ifindex: u32,
    address: IpAddr,
    /// Index into [`STATES`].
    state: usize,
    /// As the kernel has it; no more than [`LLADDR`] bytes.
    lladdr: Vec<u8>,
}

/// Longest hardware address that is shown (`MAX_ADDR_LEN`).
const LLADDR: usize = 32;

/// A neighbour from the payload of `RTM_NEWNEIGH`; `None` without an IP address or need for one.
pub(crate) fn parse(payload: &[u8]) -> Option<Seen> {
    let bits = u16_at(payload, 8)?;
    let state = STATES.iter().position(|(bit, _)| *bit == bits)?;
    if STATES[state].1 == "NOARP" {
        return None;
    }
    let attributes = Attributes(payload.get(NDMSG..)?);
    let find = |wanted| attributes.clone().find(|(kind, _)| *kind == wanted).map(|it| it.1);
    let address = addresses::address(find(NDA_DST)?)?;
    let lladdr = find(NDA_LLADDR).unwrap_or_default();
    let lladdr = lladdr[..lladdr.len().min(LLADDR)].to_vec();
    Some(Seen { ifindex: u32_at(payload, 4)?, address, state, lladdr })
}

pub(crate) fn summary(seen: Vec<Seen>, most_read: usize, most_kept: usize) -> Neighbours {
    let mut counts = BTreeMap::new();
    for neighbour in &seen {
        let key = (neighbour.ifindex, neighbour.address.is_ipv6(), STATES[neighbour.state].1);
        *counts.entry(key).or_insert(0) += 1;
    }
    let mut partial = seen.len() >= most_read;
    let mut troubled: Vec<Seen> = seen.into_iter().filter(|it| it.state < TROUBLED).collect();
    troubled.sort_by_key(|it| (it.state, it.ifindex, it.address));
    partial |= troubled.len() > most_kept;
    troubled.truncate(most_kept);
    Neighbours {
        counts: counts
            .into_iter()
            .map(|((ifindex, ipv6, state), count)| NeighbourCount {
                ifindex,
                ipv6,
                state: state.to_owned(),
                count,
            })
            .collect(),
        troubled: troubled
            .into_iter()
            .map(|it| Neighbour {
                ifindex: it.ifindex,
                address: it.address,
                state: STATES[it.state].1.to_owned(),
                lladdr: hardware_address(&it.lladdr),
            })
            .collect(),
        partial,
    }
}

/// As `02:fc:00:00:00:01`.
fn hardware_address(bytes: &[u8]) -> Option<String> {
    let octets: Vec<String> = bytes.iter().map(|octet| format!("{octet:02x}")).collect();
    (!octets.is_empty()).then(|| octets.join(":"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const FIXTURE: &str = "linux-6.18-neighbours.bin";

    fn recorded() -> Vec<Seen> {
        fixture::netlink(FIXTURE).iter().filter_map(|it| parse(it)).collect()
    }

    #[test]
    fn a_recorded_dump() {
        let neighbours = summary(recorded(), MOST_READ, MOST_KEPT);
        let counts: Vec<String> = neighbours
            .counts
            .iter()
            .map(|it| format!("{} {} {}", it.ifindex, it.state, it.count))
            .collect();
        let expected = [
            "2 FAILED 1",
            "2 PERMANENT 1",
            "2 REACHABLE 1",
            "3 REACHABLE 1",
            "4 FAILED 1",
            "4 REACHABLE 1",
            "5 REACHABLE 1",
        ];
        assert_eq!(counts, expected);
        let troubled: Vec<String> =
            neighbours.troubled.iter().map(|it| format!("{} {}", it.address, it.state)).collect();
        assert_eq!(troubled, ["192.0.20.99 FAILED", "192.0.22.98 FAILED"]);
        assert!(!neighbours.partial);
        let permanent =
            recorded().into_iter().find(|it| STATES[it.state].1 == "PERMANENT").unwrap();
        assert_eq!(hardware_address(&permanent.lladdr).unwrap(), "02:00:00:00:00:77");
        assert_eq!(neighbours.troubled[0].lladdr, None);
    }

    #[test]
    fn many_neighbours_are_told_to_be_part_of_more() {
        let seen = |last: u8, state| Seen {
            ifindex: 1,
            address: [10, 0, 0, last].into(),
            state,
            lladdr: vec![2; 6],
        };
        let all = vec![seen(1, 3), seen(2, 0), seen(3, 1), seen(4, 5)];
        let two = summary(all.clone(), 10, 2);
        let kept: Vec<&str> = two.troubled.iter().map(|it| it.state.as_str()).collect();
        assert_eq!((kept, two.partial), (vec!["FAILED", "INCOMPLETE"], true));
        assert!(!summary(all.clone(), 10, 3).partial);
        assert!(summary(all, 4, 3).partial);
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut(FIXTURE, |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
