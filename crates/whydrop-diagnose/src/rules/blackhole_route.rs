//! A blackhole, unreachable or prohibit route discards the packet.
//!
//! Freed without a reason in `ip_error` (IPv4 forwarding; a missing route says `IP_INNOROUTES` in the
//! same function) or in `dst_discard_out` (IPv6 blackhole), as `IP_INNOROUTES` in `ip6_pkt_prohibit`
//! (`net/ipv4/route.c`, `net/ipv6/route.c`, 6.18). No counter counts it. Which route it was shows in the
//! namespace's discarding routes.

use whydrop_model::{Route, Severity};

use crate::case::Case;
use crate::fib;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct BlackholeRoute;

const ID: &str = "blackhole-route";

const KINDS: &[Kind] = &[
    Kind {
        variant: None,
        signatures: &[drops("NOT_SPECIFIED", "ip_error"), drops("NOT_SPECIFIED", "dst_discard*")],
        counters: &[],
    },
    Kind {
        variant: Some("prohibit"),
        signatures: &[drops("IP_INNOROUTES", "ip6_pkt_prohibit")],
        counters: &[],
    },
];

impl Rule for BlackholeRoute {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let route = route(group);
            let name =
                route.map(|route| format!("{} {}/{}", route.kind, route.destination, route.prefix));
            let to = group.targets();
            let ip = if group.is_ipv6() { "ip -6 route" } else { "ip route" };
            let shown = name.as_deref().unwrap_or("a discarding route");
            Told {
                variant: route.and_then(|route| variant(&route.kind)),
                summary: format!("Packets to {to} are discarded by {shown}, as configured"),
                cure: "If this traffic is wanted, delete or correct the route where it is managed"
                    .into(),
                command: Some(match &name {
                    Some(name) => format!("{ip} del {name}"),
                    None => format!("{ip} show table all"),
                }),
                object: Some(format!("route {shown}")),
                useless: &["rp_filter and forwarding: a route says to discard"],
            }
        });
    }
}

/// The most specific discarding route to a destination seen in detail.
fn route<'e>(group: &Group<'e>) -> Option<&'e Route> {
    let routes = group.namespace?.routes.as_ref()?;
    let to = group.flows().next()?.destination.address;
    let leading = routes.discarding.iter().filter(|route| fib::covers(route, to));
    leading.max_by_key(|route| route.prefix)
}

fn variant(kind: &str) -> Option<&'static str> {
    ["blackhole", "unreachable", "prohibit"].into_iter().find(|one| *one == kind)
}
