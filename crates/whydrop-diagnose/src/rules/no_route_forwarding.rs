//! This host is to forward a packet and has no route to its destination.
//!
//! `IP_INNOROUTES` in `ip_error` (`net/ipv4/route.c`) with `IpExt.InNoRoutes`, or in
//! `ip6_pkt_discard` (`net/ipv6/route.c`, 6.18) with `Ip6InNoRoutes`. Multicast without a route is
//! noise of a new IPv6 link and was taken before.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct NoRouteForwarding;

const ID: &str = "no-route-forwarding";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ipv4"),
        signatures: &[drops("IP_INNOROUTES", "ip_error")],
        counters: &["IpExt.InNoRoutes"],
    },
    Kind {
        variant: Some("ipv6"),
        signatures: &[drops("IP_INNOROUTES", "ip6_pkt_discard")],
        counters: &["snmp6.Ip6InNoRoutes"],
    },
];

impl Rule for NoRouteForwarding {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Critical, KINDS, |group, variant| {
            let (ip, to) = (route_command(variant), group.targets());
            Told {
                object: Some(format!("route to {to}")),
                summary: format!("This router has no route to {to}: add one"),
                cure: format!(
                    "Add the missing route (`{ip} add PREFIX via GATEWAY`), or a default route"
                ),
                command: Some(ip.into()),
                useless: &["rp_filter: it judges sources, not destinations"],
                ..Told::default()
            }
        });
    }
}

fn route_command(variant: Option<&str>) -> &'static str {
    if variant == Some("ipv6") { "ip -6 route" } else { "ip route" }
}
