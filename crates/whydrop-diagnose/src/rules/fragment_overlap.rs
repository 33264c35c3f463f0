//! Fragments that repeat or overlap others of their datagram.
//!
//! `DUP_FRAG`, and `NOT_SPECIFIED` in `ip_defrag` or `ipv6_frag_rcv` while `IpExt.ReasmOverlaps` grows
//! (`net/ipv4/ip_fragment.c`, 6.18): the kernel throws the whole datagram away. Without overlaps the
//! same function refuses for want of memory, which is another cause.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct FragmentOverlap;

const ID: &str = "fragment-overlap";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[
        drops("DUP_FRAG", "*"),
        drops("NOT_SPECIFIED", "ip_defrag"),
        drops("NOT_SPECIFIED", "ipv6_frag_rcv"),
    ],
    counters: &["Ip.ReasmFails", "IpExt.ReasmOverlaps", "snmp6.Ip6ReasmFails"],
};

impl Rule for FragmentOverlap {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, KIND.signatures) {
            let from = group.sources();
            let told = Told {
                object: Some(format!("fragments from {from}")),
                summary: format!(
                    "Fragments from {from} repeat or overlap each other, so their datagrams are discarded"
                ),
                cure: "Find the path that duplicates packets, or the sender that builds such fragments: \
                       nothing honest overlaps"
                    .into(),
                useless: &["net.ipv4.ipfrag_high_thresh: memory was not short"],
                ..Told::default()
            };
            group.conclude(case, ID, Severity::Notice, &KIND, told);
        }
    }
}
