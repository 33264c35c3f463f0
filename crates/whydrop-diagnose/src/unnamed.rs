//! Reasons that the kernel did not give.
//!
//! Before 5.17 no drop has a reason, and later kernels named more and more of them. What such a kernel
//! frees is read as having the reason that 6.18 gives at the same call site: where the site has one
//! meaning only, or where something that counts each meaning says how many there were of it. What stays
//! open keeps `NOT_SPECIFIED`; nothing is guessed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use whydrop_model::{
    DropTotal, Evidence, Exemplar, Flow, Namespace, NeighbourTable, Qdisc, TracerEvidence,
};

/// `ETH_P_IPV6` (`include/uapi/linux/if_ether.h`).
const IPV6: u16 = 0x86dd;

/// What a drop without a reason has.
const UNNAMED: &str = "NOT_SPECIFIED";

/// One meaning of a call site.
struct Meaning {
    /// The function that frees the packet.
    symbol: &'static str,
    /// The reason by its name in 6.18.
    reason: &'static str,
    /// How many of the drops have it.
    of: Of,
}

/// How many of the drops at a call site have a meaning.
enum Of {
    /// All: the site has no other.
    All,
    /// As many as these counters of the namespace grew by.
    Counted(&'static [&'static str]),
    /// As many as the counter grew by beyond the others, which count some of what it counts.
    CountedBeyond(&'static str, &'static [&'static str]),
    /// TCP segments that ask for a connection, as many as the counter grew by.
    Syns(&'static str),
    /// As many as the classifiers of the device dropped.
    Classified,
    /// All, if every flow that was seen is of this kind.
    Flows(fn(&Flow, &Namespace) -> bool),
    /// As many as the neighbour tables counted packets that had no room to wait in.
    Unresolved,
    /// All that were freed on behalf of one of these functions.
    CalledBy(&'static [&'static str]),
    /// All that are left: every other meaning is counted.
    Rest,
}

const fn meaning(symbol: &'static str, reason: &'static str, of: Of) -> Meaning {
    Meaning { symbol, reason, of }
}

/// What `Udp.InErrors` counts beside datagrams that are malformed.
const UDP_ERRORS: &[&str] = &["Udp.InCsumErrors", "Udp.RcvbufErrors", "Udp.MemErrors"];

/// Functions with which sockets end that still hold something.
const SOCKETS_END: &[&str] = &[
    "netlink_sock_destruct",
    "inet_sock_destruct",
    "unix_sock_destructor",
    "packet_sock_destruct",
];

/// Where 5.10 to 5.16 free packets; what one site means in the order in which it is taken.
const MEANINGS: &[Meaning] = &[
    meaning("nf_hook_slow", "NETFILTER_DROP", Of::All),
    meaning("__udp4_lib_rcv", "NO_SOCKET", Of::Counted(&["Udp.NoPorts"])),
    meaning("__udp4_lib_rcv", "UDP_CSUM", Of::Counted(&["Udp.InCsumErrors"])),
    meaning("__udp4_lib_rcv", "PKT_TOO_SMALL", Of::CountedBeyond("Udp.InErrors", UDP_ERRORS)),
    meaning("__udp6_lib_rcv", "NO_SOCKET", Of::Counted(&["snmp6.Udp6NoPorts"])),
    meaning("__udp6_lib_rcv", "UDP_CSUM", Of::Counted(&["snmp6.Udp6InCsumErrors"])),
    meaning("udp_queue_rcv_one_skb", "SOCKET_RCVBUFF", Of::Counted(&["Udp.RcvbufErrors"])),
    meaning("udp_queue_rcv_one_skb", "PROTO_MEM", Of::Counted(&["Udp.MemErrors"])),
    meaning("udp_queue_rcv_one_skb", "UDP_CSUM", Of::Counted(&["Udp.InCsumErrors"])),
    meaning("udpv6_queue_rcv_one_skb", "SOCKET_RCVBUFF", Of::Counted(&["snmp6.Udp6RcvbufErrors"])),
    meaning("udpv6_queue_rcv_one_skb", "PROTO_MEM", Of::Counted(&["snmp6.Udp6MemErrors"])),
    meaning("udpv6_queue_rcv_one_skb", "UDP_CSUM", Of::Counted(&["snmp6.Udp6InCsumErrors"])),
    meaning("tcp_v4_rcv", "TCP_CSUM", Of::Counted(&["Tcp.InCsumErrors"])),
    meaning("tcp_v4_rcv", "PKT_TOO_SMALL", Of::CountedBeyond("Tcp.InErrs", &["Tcp.InCsumErrors"])),
    meaning("tcp_v4_rcv", "TCP_MD5NOTFOUND", Of::Counted(&["TcpExt.TCPMD5NotFound"])),
    meaning("tcp_v4_rcv", "TCP_MD5UNEXPECTED", Of::Counted(&["TcpExt.TCPMD5Unexpected"])),
    meaning("tcp_v4_rcv", "TCP_MD5FAILURE", Of::Counted(&["TcpExt.TCPMD5Failure"])),
    meaning("tcp_v4_rcv", "TCP_MINTTL", Of::Counted(&["TcpExt.TCPMinTTLDrop"])),
    meaning("tcp_v4_rcv", "NO_SOCKET", Of::Syns("Tcp.OutRsts")),
    meaning("tcp_v6_rcv", "TCP_CSUM", Of::Counted(&["Tcp.InCsumErrors"])),
    meaning("tcp_v6_rcv", "TCP_MD5NOTFOUND", Of::Counted(&["TcpExt.TCPMD5NotFound"])),
    meaning("tcp_v6_rcv", "TCP_MD5UNEXPECTED", Of::Counted(&["TcpExt.TCPMD5Unexpected"])),
    meaning("tcp_v6_rcv", "TCP_MD5FAILURE", Of::Counted(&["TcpExt.TCPMD5Failure"])),
    meaning("tcp_v6_rcv", "TCP_MINTTL", Of::Counted(&["TcpExt.TCPMinTTLDrop"])),
    meaning("tcp_v6_rcv", "NO_SOCKET", Of::Syns("Tcp.OutRsts")),
    meaning("ip_rcv_finish_core", "IP_RPFILTER", Of::Counted(&["TcpExt.IPReversePathFilter"])),
    meaning("ip_rcv_finish_core", "IP_INVALID_SOURCE", Of::Flows(from_nowhere)),
    meaning("ip_rcv_finish_core", "IP_LOCALNET", Of::Flows(of_loopback)),
    meaning("ip_rcv_finish_core", "IP_INVALID_DEST", Of::Flows(to_nowhere)),
    meaning("ip_rcv_finish_core", "IP_LOCAL_SOURCE", Of::Flows(from_ourselves)),
    // A wrong checksum counts as a wrong header too.
    meaning("ip_rcv_core", "IP_CSUM", Of::Counted(&["IpExt.InCsumErrors"])),
    meaning(
        "ip_rcv_core",
        "IP_INHDR",
        Of::CountedBeyond("Ip.InHdrErrors", &["IpExt.InCsumErrors"]),
    ),
    meaning("ip_rcv_core", "PKT_TOO_SMALL", Of::Counted(&["IpExt.InTruncatedPkts"])),
    meaning("ip_rcv_core", "OTHERHOST", Of::Rest),
    meaning("ip6_rcv_core", "IP_INHDR", Of::Counted(&["snmp6.Ip6InHdrErrors"])),
    meaning("ip6_rcv_core", "PKT_TOO_SMALL", Of::Counted(&["snmp6.Ip6InTruncatedPkts"])),
    meaning("ip6_rcv_core", "IPV6DISABLED", Of::Counted(&["snmp6.Ip6InDiscards"])),
    meaning("ip6_rcv_core", "OTHERHOST", Of::Rest),
    meaning("ip_error", "IP_INADDRERRORS", Of::Counted(&["Ip.InAddrErrors"])),
    meaning("ip_error", "IP_INNOROUTES", Of::Counted(&["IpExt.InNoRoutes"])),
    meaning("ip_forward", "IP_INHDR", Of::Counted(&["Ip.InHdrErrors"])),
    meaning("ip_forward", "PKT_TOO_BIG", Of::Counted(&["Ip.FragFails"])),
    meaning("ip6_forward", "IP_INHDR", Of::Counted(&["snmp6.Ip6InHdrErrors"])),
    meaning("ip6_forward", "PKT_TOO_BIG", Of::Counted(&["snmp6.Ip6FragFails"])),
    meaning("ip6_forward", "IP_INADDRERRORS", Of::Counted(&["snmp6.Ip6InAddrErrors"])),
    meaning("__netif_receive_skb_core", "TC_INGRESS", Of::Classified),
    meaning("__dev_queue_xmit", "TC_EGRESS", Of::Classified),
    meaning("kfree_skb_list", "QDISC_DROP", Of::CalledBy(&["__dev_queue_xmit"])),
    meaning("__neigh_event_send", "NEIGH_QUEUEFULL", Of::Unresolved),
    meaning("inet_sock_destruct", "QUEUE_PURGE", Of::All),
    meaning("skb_queue_purge", "QUEUE_PURGE", Of::CalledBy(SOCKETS_END)),
];

/// From an address that no host has (`ip_route_input_slow`, `net/ipv4/route.c`, 6.12).
fn from_nowhere(flow: &Flow, _: &Namespace) -> bool {
    let is_none = |it: Ipv4Addr| it.is_multicast() || it.is_broadcast() || it.octets()[0] == 0;
    matches!(flow.source.address, IpAddr::V4(address) if is_none(address))
}

/// To an address of this network, which none is.
fn to_nowhere(flow: &Flow, _: &Namespace) -> bool {
    matches!(flow.destination.address, IpAddr::V4(address) if address.octets()[0] == 0)
}

/// From or to a loopback address.
fn of_loopback(flow: &Flow, _: &Namespace) -> bool {
    flow.source.address.is_loopback() || flow.destination.address.is_loopback()
}

/// From an address of the host itself.
fn from_ourselves(flow: &Flow, namespace: &Namespace) -> bool {
    namespace.links.iter().any(|link| link.addresses.contains(&flow.source.address))
}

/// The evidence with the reasons that its kernel would have given had it been newer.
pub(crate) fn named(evidence: &Evidence) -> Cow<'_, Evidence> {
    let new = |meaning: &&Meaning| !evidence.tracer.knows_reason(meaning.reason);
    let meanings: Vec<&Meaning> = MEANINGS.iter().filter(new).collect();
    let unnamed = |total: &DropTotal| {
        total.reason == UNNAMED && meanings.iter().any(|meaning| meaning.is_at(total))
    };
    if !evidence.tracer.totals.iter().any(unnamed) {
        return Cow::Borrowed(evidence);
    }
    let mut left = Left { evidence, counters: BTreeMap::new(), classified: BTreeMap::new() };
    let mut totals = Vec::new();
    let mut exemplars = evidence.tracer.exemplars.clone();
    for total in &evidence.tracer.totals {
        if !unnamed(total) {
            totals.push(total.clone());
            continue;
        }
        let parts = left.parts(total, &meanings);
        // Which of several it was, a single packet does not tell; most were of the largest part.
        if let Some(largest) = parts.iter().max_by_key(|part| part.packets) {
            for exemplar in exemplars.iter_mut().filter(|one| shows(one, total)) {
                exemplar.reason.clone_from(&largest.reason);
            }
        }
        totals.extend(parts);
    }
    let tracer = TracerEvidence { totals, exemplars, ..evidence.tracer.clone() };
    Cow::Owned(Evidence { tracer, ..evidence.clone() })
}

impl Meaning {
    fn is_at(&self, total: &DropTotal) -> bool {
        total.site.as_ref().is_some_and(|site| site.symbol == self.symbol)
    }
}

/// True if this packet is one of those that the total counts, as far as a packet tells.
fn shows(exemplar: &Exemplar, total: &DropTotal) -> bool {
    let protocol = exemplar.flow.as_ref().map(|flow| flow.protocol);
    exemplar.is_of(total) && (protocol.is_none() || protocol == total.l4)
}

/// What no drop has been given yet.
struct Left<'e> {
    evidence: &'e Evidence,
    /// Growth of counters that was given away, by namespace.
    counters: BTreeMap<(u64, &'static str), u64>,
    /// Drops of classifiers that were given away, by namespace and device.
    classified: BTreeMap<(u64, u32), u64>,
}

impl Left<'_> {
    /// The total in parts of one reason each, the unnamed rest last.
    fn parts(&mut self, total: &DropTotal, meanings: &[&Meaning]) -> Vec<DropTotal> {
        let mut parts = Vec::new();
        let mut rest = total.clone();
        for meaning in meanings.iter().filter(|meaning| meaning.is_at(total)) {
            let packets = self.take(&meaning.of, total, rest.packets);
            if packets > 0 {
                let bytes = share(rest.bytes, packets, rest.packets);
                rest.packets -= packets;
                rest.bytes -= bytes;
                let reason = meaning.reason.to_owned();
                parts.push(DropTotal { reason, packets, bytes, inferred: true, ..total.clone() });
            }
        }
        if rest.packets > 0 {
            parts.push(rest);
        }
        parts
    }

    /// How many of the packets have a meaning; what counts them is given away.
    fn take(&mut self, of: &Of, total: &DropTotal, packets: u64) -> u64 {
        // What goes to many is dropped for reasons that no counter here is about.
        let counted = !total.marks.multicast;
        match of {
            Of::All | Of::Rest => packets,
            Of::Counted(names) if counted => names
                .iter()
                .fold(0, |taken, name| taken + self.counted(total, name, packets - taken)),
            Of::CountedBeyond(name, others) if counted => {
                let others = others.iter().map(|other| self.growth(total, other)).sum();
                let own = self.growth(total, name).saturating_sub(others);
                self.counted(total, name, packets.min(own))
            }
            Of::Syns(name) if counted && total.marks.syn => self.counted(total, name, packets),
            Of::Flows(fits) if counted => match self.namespace(total) {
                Some(namespace) if self.evidence.shows(total, |flow| fits(flow, namespace)) => {
                    packets
                }
                _ => 0,
            },
            Of::Classified => self.classified(total, packets),
            Of::Unresolved => {
                let cache = if total.l3 == IPV6 { "ndisc_cache" } else { "arp_cache" };
                let tables = self.evidence.neighbour_tables.iter().filter(|it| it.name == cache);
                let growth = |it: &NeighbourTable| {
                    it.stats.get("unresolved_discards").map_or(0, |pair| pair.delta())
                };
                // One table serves all namespaces.
                let discarded = tables.map(growth).sum();
                self.give((0, cache), discarded, packets)
            }
            Of::CalledBy(callers) => {
                let mut seen =
                    self.evidence.tracer.exemplars.iter().filter(|one| shows(one, total));
                let called = |one: &Exemplar| {
                    one.stack.get(1).is_some_and(|it| callers.contains(&it.site.symbol.as_str()))
                };
                if seen.next().is_some_and(called) && seen.all(called) { packets } else { 0 }
            }
            Of::Counted(_) | Of::CountedBeyond(..) | Of::Syns(_) | Of::Flows(_) => 0,
        }
    }

    fn namespace(&self, total: &DropTotal) -> Option<&Namespace> {
        self.evidence.namespace(total.netns?)
    }

    fn growth(&self, total: &DropTotal, name: &str) -> u64 {
        self.namespace(total).and_then(|namespace| namespace.delta(name)).unwrap_or(0)
    }

    fn counted(&mut self, total: &DropTotal, name: &'static str, packets: u64) -> u64 {
        let growth = self.growth(total, name);
        self.give((total.netns.unwrap_or(0), name), growth, packets)
    }

    /// Gives away what is left of a growth, at most so many packets.
    fn give(&mut self, counter: (u64, &'static str), growth: u64, packets: u64) -> u64 {
        let given = self.counters.entry(counter).or_default();
        let taken = growth.saturating_sub(*given).min(packets);
        *given += taken;
        taken
    }

    fn classified(&mut self, total: &DropTotal, packets: u64) -> u64 {
        let drops = |namespace: &Namespace| {
            let here = |qdisc: &&Qdisc| {
                qdisc.ifindex == total.ifindex && ["clsact", "ingress"].contains(&&*qdisc.kind)
            };
            let of = |qdisc: &Qdisc| qdisc.stats.get("drops").map_or(0, |pair| pair.delta());
            namespace.qdiscs.iter().filter(here).map(of).sum()
        };
        let dropped: u64 = self.namespace(total).map_or(0, drops);
        let place = (total.netns.unwrap_or(0), total.ifindex);
        let given = self.classified.entry(place).or_default();
        let taken = dropped.saturating_sub(*given).min(packets);
        *given += taken;
        taken
    }
}

/// That part of `whole` which `part` is of `all`.
fn share(whole: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use whydrop_model::{CallSite, Evidence};

    use super::{MEANINGS, named};
    use crate::{reasons as pages, sample};

    /// Evidence of a kernel that gives no reasons.
    fn old(symbol: &str, packets: u64) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.reasons.clear();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", symbol, packets)];
        evidence.tracer.exemplars = vec![sample::exemplar(&evidence.tracer.totals[0], 1000)];
        evidence
    }

    fn reasons(evidence: &Evidence) -> Vec<(String, u64, u64)> {
        let named = named(evidence);
        let totals = named.tracer.totals.iter();
        totals.map(|total| (total.reason.clone(), total.packets, total.bytes)).collect()
    }

    #[test]
    fn a_site_with_one_meaning_says_it() {
        let evidence = old("nf_hook_slow", 3);
        let named = named(&evidence);
        assert_eq!(named.tracer.totals[0].reason, "NETFILTER_DROP");
        assert_eq!(named.tracer.totals[0].given(), "NOT_SPECIFIED");
        assert_eq!(named.tracer.exemplars[0].reason, "NETFILTER_DROP");
    }

    #[test]
    fn counters_say_how_many_had_which_and_the_rest_stays_open() {
        let mut evidence = old("__udp4_lib_rcv", 10);
        sample::count(&mut evidence, "Udp.NoPorts", 6);
        sample::count(&mut evidence, "Udp.InCsumErrors", 1);
        let told = |reason: &str, packets| (reason.to_owned(), packets, packets * 60);
        let expected = [told("NO_SOCKET", 6), told("UDP_CSUM", 1), told("NOT_SPECIFIED", 3)];
        assert_eq!(reasons(&evidence), expected);
        // A counter is given away once.
        let mut other = evidence.tracer.totals[0].clone();
        other.ifindex = 3;
        evidence.tracer.totals.push(other);
        assert_eq!(reasons(&evidence).iter().map(|one| one.1).collect::<Vec<_>>(), [6, 1, 3, 10]);
        // What goes to many has no port that could be closed.
        evidence.tracer.totals.truncate(1);
        evidence.tracer.totals[0].marks.multicast = true;
        assert_eq!(reasons(&evidence), [told("NOT_SPECIFIED", 10)]);
    }

    #[test]
    fn a_wrong_checksum_is_no_wrong_header_though_it_counts_as_one() {
        let mut evidence = old("ip_rcv_core", 9);
        sample::count(&mut evidence, "IpExt.InCsumErrors", 2);
        sample::count(&mut evidence, "Ip.InHdrErrors", 5);
        let packets: Vec<_> = reasons(&evidence).into_iter().map(|one| (one.0, one.1)).collect();
        let expected = [("IP_CSUM", 2), ("IP_INHDR", 3), ("OTHERHOST", 4)];
        assert_eq!(packets, expected.map(|(reason, packets)| (reason.to_owned(), packets)));
    }

    #[test]
    fn what_counts_for_several_is_taken_without_the_others() {
        let mut evidence = old("__udp4_lib_rcv", 9);
        sample::count(&mut evidence, "Udp.InErrors", 7);
        sample::count(&mut evidence, "Udp.RcvbufErrors", 4);
        sample::count(&mut evidence, "Udp.InCsumErrors", 1);
        let packets: Vec<_> = reasons(&evidence).into_iter().map(|one| (one.0, one.1)).collect();
        let expected = [("UDP_CSUM", 1), ("PKT_TOO_SMALL", 2), ("NOT_SPECIFIED", 6)];
        assert_eq!(packets, expected.map(|(reason, packets)| (reason.to_owned(), packets)));
    }

    #[test]
    fn the_neighbour_table_counts_what_could_not_wait() {
        let mut evidence = old("__neigh_event_send", 9);
        assert_eq!(reasons(&evidence)[0].0, "NOT_SPECIFIED");
        let pair = whydrop_model::Pair { before: 1, after: 9 };
        evidence.neighbour_tables.push(whydrop_model::NeighbourTable {
            name: "arp_cache".into(),
            stats: [("unresolved_discards".to_owned(), pair)].into(),
            ..whydrop_model::NeighbourTable::default()
        });
        let packets: Vec<_> = reasons(&evidence).into_iter().map(|one| (one.0, one.1)).collect();
        assert_eq!(packets, [("NEIGH_QUEUEFULL".to_owned(), 8), ("NOT_SPECIFIED".to_owned(), 1)]);
    }

    #[test]
    fn a_list_of_packets_is_told_by_who_had_it_freed() {
        let mut evidence = old("kfree_skb_list", 4);
        assert_eq!(reasons(&evidence)[0].0, "NOT_SPECIFIED");
        let site = |symbol: &str| CallSite { symbol: symbol.into(), offset: 1, module: None };
        evidence.tracer.exemplars[0].stack =
            vec![site("kfree_skb_list").into(), site("__dev_queue_xmit").into()];
        assert_eq!(reasons(&evidence)[0].0, "QDISC_DROP");
    }

    #[test]
    fn impossible_addresses_are_told_by_the_flows() {
        let mut evidence = old("ip_rcv_finish_core", 4);
        assert_eq!(reasons(&evidence)[0].0, "NOT_SPECIFIED");
        let mut with = |source: &str| {
            let flow = evidence.tracer.exemplars[0].flow.as_mut().expect("a flow");
            flow.source.address = source.parse().expect("an address");
            reasons(&evidence)[0].0.clone()
        };
        assert_eq!(with("127.0.0.1"), "IP_LOCALNET");
        assert_eq!(with("224.0.0.5"), "IP_INVALID_SOURCE");
        assert_eq!(with("0.0.0.1"), "IP_INVALID_SOURCE");
        assert_eq!(with("192.0.2.1"), "NOT_SPECIFIED");
    }

    #[test]
    fn what_the_kernel_could_have_said_is_not_read_into_it() {
        let mut evidence = old("nf_hook_slow", 3);
        evidence.tracer.reasons = vec!["NOT_SPECIFIED".into(), "NETFILTER_DROP".into()];
        assert!(matches!(named(&evidence), Cow::Borrowed(_)));
        let mut evidence = old("nf_hook_slow", 3);
        evidence.tracer.totals[0].reason = "12".into();
        assert!(matches!(named(&evidence), Cow::Borrowed(_)));
    }

    #[test]
    fn every_reason_is_one_that_has_a_page() {
        for one in MEANINGS {
            assert!(pages::find(one.reason).is_some(), "{}", one.reason);
        }
    }
}
