//! Routers pass a packet to each other until its time to live is over.
//!
//! `IP_INHDR` in `ip_forward` or `ip6_forward` (6.18), as for any packet with its last hop used up. A
//! loop shows by three things together: the route to the destination leads back by the device that the
//! packet came in by, to a gateway; the packet's sender is not on that link, so that it came from a
//! router; and this host forwarded many times as many packets as died. Traceroute through a router
//! with one leg has the first, but neither of the others.

use std::net::IpAddr;

use whydrop_model::{DropTotal, EvidenceItem, EvidenceKind, Flow, Namespace, Route, Severity};

use super::ttl_expired;
use crate::case::Case;
use crate::fib;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct RoutingLoop;

const ID: &str = "routing-loop";
const FORWARDED: [&str; 2] = ["Ip.ForwDatagrams", "snmp6.Ip6OutForwDatagrams"];

impl Rule for RoutingLoop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for (kind, forwarded) in ttl_expired::KINDS.iter().zip(FORWARDED) {
            let kind = Kind { variant: None, ..*kind };
            let evidence = case.evidence();
            let often = case.thresholds().loop_forwards;
            let expired = |total: &DropTotal| {
                let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
                let passed = namespace.and_then(|here| here.delta(forwarded)).unwrap_or(0);
                kind.signatures.iter().any(|one| one.matches(total))
                    && passed as f64 >= often * total.packets as f64
            };
            let found = traced::take_by_flow(case, 1.0, expired, |total, flow| {
                let route = way_back(evidence.namespace(total.netns?)?, total, flow)?;
                Some((route.destination, route.prefix, route.gateway?))
            });
            for ((destination, prefix, gateway), group) in found {
                let device = group.device_name();
                let passed = group.namespace.and_then(|here| here.delta(forwarded)).unwrap_or(0);
                let route = format!("{destination}/{prefix} via {gateway} dev {device}");
                let state = "route back by the device they came in by";
                let group = group.agreed([
                    EvidenceItem::new(EvidenceKind::Counter, forwarded, passed),
                    EvidenceItem::new(EvidenceKind::State, state, route.clone()),
                ]);
                let ip = if gateway.is_ipv6() { "ip -6 route" } else { "ip route" };
                let told = Told {
                    object: Some(format!("route {route}")),
                    summary: format!(
                        "Packets to {} go round between this router and {gateway} until their time to \
                         live is over: the route to {destination}/{prefix} points back to where they \
                         come from",
                        group.targets()
                    ),
                    cure: format!(
                        "Correct the route to {destination}/{prefix} here or the one of {gateway}: one of \
                         the two must lead on. A prefix that is only partly in use wants a blackhole \
                         route for the rest on the router that owns it"
                    ),
                    command: Some(format!("{ip} show {destination}/{prefix}")),
                    useless: &["a larger time to live: the packets only go round more often"],
                    ..Told::default()
                };
                group.conclude(case, ID, Severity::Critical, &kind, told);
            }
        }
    }
}

/// The route by which a packet leaves through the device that it came in by, if a router sent it
/// there.
fn way_back<'e>(namespace: &'e Namespace, total: &DropTotal, flow: &Flow) -> Option<&'e Route> {
    let by_arrival = |address: IpAddr| {
        fib::route_to(namespace, address).filter(|route| route.devices == [total.ifindex])
    };
    let onward = by_arrival(flow.destination.address).filter(|route| route.gateway.is_some())?;
    let neighbour = by_arrival(flow.source.address).is_some_and(|route| route.gateway.is_none());
    (!neighbour).then_some(onward)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Route, Routes};

    use crate::{Thresholds, diagnose, sample};

    /// Packets of 192.0.2.1 to itself (the sample's flow), come in by device 2.
    fn expired(forwarded: u64, unicast: Vec<Route>) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.ForwDatagrams", forwarded);
        let total = sample::total("IP_INHDR", "ip_forward", 30);
        let mut exemplar = sample::exemplar(&total, 1000);
        let flow = exemplar.flow.as_mut().expect("a flow");
        flow.source.address = "198.51.100.1".parse().expect("an address");
        evidence.tracer.exemplars = vec![exemplar];
        evidence.tracer.totals = vec![total];
        evidence.namespaces[0].routes = Some(Routes { unicast, ..Routes::default() });
        evidence
    }

    fn via(destination: &str, device: u32) -> Route {
        let gateway = Some("203.0.113.1".parse().expect("an address"));
        Route { gateway, ..sample::route("unicast", destination, 24, device) }
    }

    fn cause(evidence: &Evidence) -> String {
        diagnose(evidence, &Thresholds::default()).findings[0].cause.clone()
    }

    #[test]
    fn back_where_it_came_from_again_and_again_is_a_loop() {
        let evidence = expired(900, vec![via("192.0.2.0", 2)]);
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("routing-loop", 30));
        let route = "route 192.0.2.0/24 via 203.0.113.1 dev veth0";
        assert_eq!(finding.site.object.as_deref(), Some(route));
    }

    #[test]
    fn traceroute_is_no_loop() {
        assert_eq!(cause(&expired(60, vec![via("192.0.2.0", 2)])), "ttl-expired");
        assert_eq!(cause(&expired(900, vec![via("192.0.2.0", 3)])), "ttl-expired", "leads on");
        let one_leg = vec![via("192.0.2.0", 2), sample::route("unicast", "198.51.100.0", 24, 2)];
        assert_eq!(cause(&expired(900, one_leg)), "ttl-expired", "the sender is on the link");
    }
}
