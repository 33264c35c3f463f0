//! Multicast and broadcast that no local socket joined.
//!
//! Router solicitations, MLD reports, mDNS and their kind reach every host on the link; a host that
//! did not join drops them. `Udp.IgnoredMulti` counts some of them.

use whydrop_model::{DropTotal, Namespace};

use crate::case::Case;
use crate::rule::Rule;
use crate::rules::link_down::{EVERY_MTU, HEADERS};
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct MulticastNotJoined;

const ID: &str = "multicast-not-joined";

const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "ip6_mc_input"),
    drops("NOT_SPECIFIED", "__udp4_lib_mcast_deliver"),
    drops("NOT_SPECIFIED", "__udp6_lib_mcast_deliver"),
    // What neighbours say to all, on a device without IPv6: disabled there, or its MTU too small.
    to_many("IPV6DISABLED", "ip6_rcv_core"),
    to_many("NOT_SPECIFIED", "ip6_rcv_core"),
    to_many("NOT_SPECIFIED", "ip_rcv_finish_core"),
    to_many("NOT_SPECIFIED", "__udp4_lib_rcv"),
    to_many("NOT_SPECIFIED", "__udp6_lib_rcv"),
    to_many("IP_INNOROUTES", "ip6_pkt_discard"),
    short_to_many("__dev_forward_skb2"),
    short_to_many("__dev_forward_skb"),
];

const fn to_many(reason: &'static str, symbol: &'static str) -> Signature {
    Signature { reason, symbol, when: |total| total.marks.multicast }
}

/// What a new link says to all before its other end is up. Hardly an MTU is so small that it could refuse
/// it.
const fn short_to_many(symbol: &'static str) -> Signature {
    Signature {
        reason: "NOT_SPECIFIED",
        symbol,
        when: |total| {
            let short = u64::from(EVERY_MTU + HEADERS);
            total.marks.multicast && total.bytes <= total.packets.saturating_mul(short)
        },
    }
}

/// Where datagrams for many that nobody hears are freed, with the counter of them.
const UNHEARD: [(&str, &str); 2] =
    [("__udp4_lib_rcv", "Udp.IgnoredMulti"), ("__udp6_lib_rcv", "snmp6.Udp6IgnoredMulti")];

impl Rule for MulticastNotJoined {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
        for namespace in case.namespaces() {
            for (symbol, counter) in UNHEARD {
                unheard(case, namespace, symbol, counter);
            }
        }
    }
}

/// Datagrams to the broadcast address of a subnet, which the packets do not tell from one of a host:
/// as many as the counter has beyond those that were told.
fn unheard(case: &mut Case<'_>, namespace: &Namespace, symbol: &str, counter: &str) {
    let at = |total: &DropTotal| {
        total.netns == Some(namespace.inode)
            && total.reason == "NOT_SPECIFIED"
            && total.site.as_ref().is_some_and(|site| site.symbol == symbol)
    };
    let told =
        case.evidence().tracer.totals.iter().filter(|total| at(total) && total.marks.multicast);
    let told: u64 = told.map(|total| total.packets).sum();
    let rest = namespace.delta(counter).unwrap_or(0).saturating_sub(told);
    let claims = case.claim_up_to(rest, at);
    signature::book_claims_as_noise(case, ID, claims);
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn what_a_link_says_before_its_other_end_is_up_is_no_matter_of_its_mtu() {
        let mut evidence = sample::evidence();
        let mut total = sample::total("NOT_SPECIFIED", "__dev_forward_skb2", 3);
        total.marks.multicast = true;
        evidence.tracer.totals = vec![total];
        let ledger = diagnose(&evidence, &Thresholds::default()).ledger;
        assert_eq!((ledger.lost, ledger.benign), (0, 3));
        evidence.tracer.totals[0].bytes = 3 * 1514;
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "link-mtu-mismatch");
    }

    #[test]
    fn a_broadcast_that_nobody_hears_is_told_by_its_counter() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.IgnoredMulti", 30);
        let mut marked = sample::total("NOT_SPECIFIED", "__udp4_lib_rcv", 10);
        marked.marks.multicast = true;
        let broadcast = sample::total("NOT_SPECIFIED", "__udp4_lib_rcv", 25);
        evidence.tracer.totals = vec![marked, broadcast];
        let ledger = diagnose(&evidence, &Thresholds::default()).ledger;
        assert_eq!((ledger.benign, ledger.unexplained), (30, 5), "five have another cause");
    }
}
