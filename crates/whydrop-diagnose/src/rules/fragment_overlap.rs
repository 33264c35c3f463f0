//! Fragments that repeat or overlap others of their datagram.
//!
//! `DUP_FRAG`, and `NOT_SPECIFIED` in `ip_defrag` or `ipv6_frag_rcv` while `IpExt.ReasmOverlaps` grows
//! (`net/ipv4/ip_fragment.c`, 6.18): the kernel throws the whole datagram away. Without overlaps the
//! same function refuses for want of memory, which is another cause.

use whydrop_model::{DropTotal, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct FragmentOverlap;

const ID: &str = "fragment-overlap";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[],
    counters: &["Ip.ReasmFails", "IpExt.ReasmOverlaps", "snmp6.Ip6ReasmFails"],
};

impl Rule for FragmentOverlap {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let overlaps = |total: &DropTotal| {
            let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
            namespace.and_then(|one| one.delta("IpExt.ReasmOverlaps")).unwrap_or(0) > 0
        };
        let claims = case.claim(|total| {
            let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
            let defrag = matches!(symbol, "ip_defrag" | "ipv6_frag_rcv");
            total.reason == "DUP_FRAG"
                || (total.reason == "NOT_SPECIFIED" && defrag && overlaps(total))
        });
        for group in traced::gather(case, claims) {
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
