//! A blackhole, unreachable or prohibit route discards the packet.
//!
//! Freed without a reason in `ip_error` (IPv4 forwarding; a missing route says `IP_INNOROUTES` in the
//! same function) or in `dst_discard_out` (IPv6 blackhole), as `IP_INNOROUTES` in `ip6_pkt_prohibit`,
//! and in `ip6_pkt_discard` for an unreachable route as for none at all (`net/ipv4/route.c`,
//! `net/ipv6/route.c`, 6.18). No counter counts the first two. Which route it was shows in the
//! namespace's discarding routes.

use std::net::IpAddr;

use whydrop_model::{Route, Routes, Severity};

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

const UNREACHABLE: Kind = Kind {
    variant: Some("unreachable"),
    signatures: &[drops("IP_INNOROUTES", "ip6_pkt_discard")],
    counters: &["snmp6.Ip6InNoRoutes"],
};

impl Rule for BlackholeRoute {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| tell(group));
        // An unreachable route of IPv6 and no route at all look the same to the tracer.
        let evidence = case.evidence();
        let refused = |total: &_| UNREACHABLE.signatures.iter().any(|one| one.matches(total));
        let found = traced::take_by_flow(case, 1.0, refused, |total, flow| {
            let routes = evidence.namespace(total.netns?)?.routes.as_ref()?;
            let route = discarding(routes, flow.destination.address)?;
            (route.kind == "unreachable").then_some(())
        });
        for ((), group) in found {
            let told = tell(&group);
            group.conclude(case, ID, Severity::Notice, &UNREACHABLE, told);
        }
    }
}

fn tell(group: &Group<'_>) -> Told {
    let route = route(group);
    let name = route.map(|route| format!("{} {}/{}", route.kind, route.destination, route.prefix));
    let to = group.targets();
    let ip = if group.is_ipv6() { "ip -6 route" } else { "ip route" };
    let shown = name.as_deref().unwrap_or("a discarding route");
    Told {
        variant: route.and_then(|route| variant(&route.kind)),
        summary: format!("Packets to {to} are discarded by {shown}, as configured"),
        cure: "If this traffic is wanted, delete or correct the route where it is managed".into(),
        command: Some(match &name {
            Some(name) => format!("{ip} del {name}"),
            None => format!("{ip} show table all"),
        }),
        object: Some(format!("route {shown}")),
        useless: &["rp_filter and forwarding: a route says to discard"],
    }
}

/// The most specific discarding route to a destination seen in detail.
fn route<'e>(group: &Group<'e>) -> Option<&'e Route> {
    let routes = group.namespace?.routes.as_ref()?;
    discarding(routes, group.flows().next()?.destination.address)
}

/// The most specific discarding route to an address.
fn discarding(routes: &Routes, to: IpAddr) -> Option<&Route> {
    let leading = routes.discarding.iter().filter(|route| fib::covers(route, to));
    leading.max_by_key(|route| route.prefix)
}

fn variant(kind: &str) -> Option<&'static str> {
    ["blackhole", "unreachable", "prohibit"].into_iter().find(|one| *one == kind)
}

#[cfg(test)]
mod tests {
    use whydrop_model::Routes;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn an_unreachable_route_of_ipv6_is_not_a_missing_one() {
        let mut evidence = sample::evidence();
        let total = sample::total("IP_INNOROUTES", "ip6_pkt_discard", 30);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1)];
        evidence.tracer.totals = vec![total];
        let told = |evidence: &_| {
            let report = diagnose(evidence, &Thresholds::default());
            (report.findings[0].cause.clone(), report.findings[0].variant.clone())
        };
        assert_eq!(told(&evidence).0, "no-route-forwarding");
        for (kind, cause) in [("unreachable", "blackhole-route"), ("throw", "no-route-forwarding")]
        {
            let discarding = vec![sample::route(kind, "192.0.2.0", 24, 2)];
            evidence.namespaces[0].routes = Some(Routes { discarding, ..Routes::default() });
            assert_eq!(told(&evidence).0, cause);
        }
    }
}
