//! Multicast and broadcast that no local socket joined.
//!
//! Router solicitations, MLD reports, mDNS and their kind reach every host on the link; a host that
//! did not join drops them. `Udp.IgnoredMulti` counts some of them.

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct MulticastNotJoined;

const ID: &str = "multicast-not-joined";

const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "ip6_mc_input"),
    drops("NOT_SPECIFIED", "__udp4_lib_mcast_deliver"),
    drops("NOT_SPECIFIED", "__udp6_lib_mcast_deliver"),
    // What neighbours say to all, on a device without IPv6: disabled there, or its MTU too small.
    Signature {
        reason: "IPV6DISABLED",
        symbol: "ip6_rcv_core",
        when: |total| total.marks.multicast,
    },
    Signature {
        reason: "NOT_SPECIFIED",
        symbol: "ip6_rcv_core",
        when: |total| total.marks.multicast,
    },
    Signature {
        reason: "NOT_SPECIFIED",
        symbol: "ip_rcv_finish_core",
        when: |total| total.marks.multicast,
    },
    Signature {
        reason: "NOT_SPECIFIED",
        symbol: "__udp4_lib_rcv",
        when: |total| total.marks.multicast,
    },
    Signature {
        reason: "NOT_SPECIFIED",
        symbol: "__udp6_lib_rcv",
        when: |total| total.marks.multicast,
    },
    Signature {
        reason: "IP_INNOROUTES",
        symbol: "ip6_pkt_discard",
        when: |total| total.marks.multicast,
    },
];

impl Rule for MulticastNotJoined {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
    }
}
