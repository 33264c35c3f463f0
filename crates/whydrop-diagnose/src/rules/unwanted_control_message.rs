//! ICMP, IGMP and neighbour discovery messages that nobody waits for.
//!
//! Every reply to an ordinary `ping` is freed as `NO_SOCKET` in `ping_rcv` after the raw socket took
//! its copy (`net/ipv4/icmp.c`, 6.18).

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct UnwantedControlMessage;

const ID: &str = "unwanted-control-message";

const SIGNATURES: &[Signature] = &[
    drops("NO_SOCKET", "ping_rcv"),
    drops("UNHANDLED_PROTO", "icmp_rcv"),
    // To a broadcast address, and of a type that is never answered there.
    drops("INVALID_PROTO", "icmp_rcv"),
    drops("NOT_SPECIFIED", "igmp_rcv"),
    drops("NOT_SPECIFIED", "icmpv6_rcv"),
    drops("IPV6_NDISC_NS_OTHERHOST", "*"),
];

impl Rule for UnwantedControlMessage {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
    }
}
