//! A packet to be forwarded had used up its TTL or hop limit.
//!
//! `IP_INHDR` in `ip_forward` (`net/ipv4/ip_forward.c`) or `ip6_forward` (`net/ipv6/ip6_output.c`,
//! 6.18); the sender is told by ICMP. Traceroute works by this. Look-alike: a routing loop, where
//! `Ip.ForwDatagrams` grows by many times the packets.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TtlExpired;

const ID: &str = "ttl-expired";

/// What they look like; a routing loop looks the same.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ipv4"),
        signatures: &[drops("IP_INHDR", "ip_forward")],
        counters: &["Ip.InHdrErrors"],
    },
    Kind {
        variant: Some("ipv6"),
        signatures: &[drops("IP_INHDR", "ip6_forward")],
        counters: &["snmp6.Ip6InHdrErrors"],
    },
];

impl Rule for TtlExpired {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| Told {
            object: None,
            summary: format!(
                "Packets from {} reach this router with their last hop used up: traceroute, or a \
                     sender with too small a TTL",
                group.sources()
            ),
            cure: "Nothing for traceroute; otherwise raise the sender's TTL (its \
                       net.ipv4.ip_default_ttl or net.ipv6.conf.all.hop_limit)"
                .into(),
            command: None,
            useless: &[],
            ..Told::default()
        });
    }
}
