//! A packet that may not be fragmented is larger than the MTU of the next link.
//!
//! `PKT_TOO_BIG` in `ip_forward` or `ip6_forward` (6.18), with `Ip.FragFails` or `Ip6InTooBigErrors`; the
//! sender is told by ICMP. Where that message does not arrive this is a black hole, another cause.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct PathMtuExceeded;

const ID: &str = "path-mtu-exceeded";

/// What they look like; where the sender is never told it is another cause.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ipv4"),
        signatures: &[drops("PKT_TOO_BIG", "ip_forward")],
        counters: &["Ip.FragFails"],
    },
    Kind {
        variant: Some("ipv6"),
        signatures: &[drops("PKT_TOO_BIG", "ip6_forward")],
        counters: &["snmp6.Ip6InTooBigErrors", "snmp6.Ip6FragFails"],
    },
];

impl Rule for PathMtuExceeded {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let to = group.targets();
            Told {
                object: Some(format!("MTU of the path to {to}")),
                summary: format!(
                    "Packets to {to} are larger than the next link and may not be fragmented; their sender \
                     is told"
                ),
                cure: "Nothing where path MTU discovery works; otherwise raise the link's MTU, or clamp the \
                       MSS (`tcp option maxseg size set rt mtu`)"
                    .into(),
                command: Some("ip link".into()),
                useless: &["net.ipv4.ip_no_pmtu_disc on the router: it is the sender that decides"],
                ..Told::default()
            }
        });
    }
}
