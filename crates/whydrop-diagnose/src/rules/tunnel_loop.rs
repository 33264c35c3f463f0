//! A tunnel is routed into itself, or tunnels are nested too deep.
//!
//! `IP_OUTNOROUTES` in `vxlan_xmit_one` (6.13+; without a reason before, and in the other kinds of tunnel)
//! on a device whose `collisions` grow: that is how a tunnel counts a route to its remote that leads back
//! into itself. Without such a count there is no route at all, which is another cause. `RECURSION_LIMIT`
//! (7.0, and some late stable kernels of 6.18): too many devices upon each other.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct TunnelLoop;

const ID: &str = "tunnel-loop";

const SELF_ROUTE: Kind = Kind { variant: Some("self-route"), signatures: &[], counters: &[] };
const RECURSION: Kind = Kind {
    variant: Some("recursion"),
    signatures: &[drops("RECURSION_LIMIT", "*")],
    counters: &[],
};

/// Where tunnels give up a packet whose outer one cannot be routed.
pub(super) const UNROUTED: &[Signature] = &[
    drops("IP_OUTNOROUTES", "vxlan_xmit_one"),
    drops("NOT_SPECIFIED", "vxlan_xmit_one"),
    drops("NOT_SPECIFIED", "geneve_xmit"),
    drops("NOT_SPECIFIED", "ip_tunnel_xmit"),
    drops("NOT_SPECIFIED", "ip_md_tunnel_xmit"),
    drops("NOT_SPECIFIED", "ip6_tnl_start_xmit"),
    drops("NOT_SPECIFIED", "ip6gre_tunnel_xmit"),
    drops("NOT_SPECIFIED", "sit_tunnel_xmit"),
];

impl Rule for TunnelLoop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in unrouted(case, "collisions") {
            let told = self_route(&group);
            let grown = group.link_counters(&["collisions"]);
            group.agreed(grown).conclude(case, ID, Severity::Critical, &SELF_ROUTE, told);
        }
        let claims = case.claim(|total| RECURSION.signatures.iter().any(|it| it.matches(total)));
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let told = Told {
                object: Some(format!("what {device} is built upon")),
                summary: format!(
                    "Packets sent by {device} go through more devices upon each other than the kernel \
                     allows: take levels of encapsulation out"
                ),
                cure: "Route or bridge to the tunnel that is meant, without the ones between. If it was not \
                       meant at all, a route leads a tunnel's outer packets into another tunnel"
                    .into(),
                command: group.device.map(|device| format!("ip -d link show dev {device}")),
                useless: &["a sysctl: the limit is part of the kernel and guards its stack"],
                ..Told::default()
            };
            let grown = group.link_counters(&["tx_errors", "tx_dropped"]);
            group.agreed(grown).conclude(case, ID, Severity::Critical, &RECURSION, told);
        }
    }
}

fn self_route(group: &Group<'_>) -> Told {
    let device = group.device_name();
    let remote = remote(group);
    Told {
        object: Some(format!("route to {remote}, the remote of {device}")),
        summary: format!(
            "The route to {remote}, the other end of {device}, leads into {device} itself: route it over \
             the underlay"
        ),
        cure: format!(
            "A host route keeps the endpoint outside: `ip route add {remote} via <gateway> dev <underlay \
             device>`; make it permanent where the tunnel is configured"
        ),
        command: known_remote(group).map(|remote| format!("ip route get {remote}")),
        useless: &["setting the tunnel down and up: its route comes back with it"],
        ..Told::default()
    }
}

/// Takes, for each tunnel, as many unrouted packets as this counter of the device grew by.
pub(super) fn unrouted<'e>(case: &mut Case<'e>, counter: &str) -> Vec<Group<'e>> {
    let mut claims = Vec::new();
    for namespace in case.namespaces() {
        for link in &namespace.links {
            let grown = link.stats.get(counter).map_or(0, |pair| pair.delta());
            claims.extend(case.claim_up_to(grown, |total| {
                total.netns == Some(namespace.inode)
                    && total.ifindex == link.ifindex
                    && UNROUTED.iter().any(|it| it.matches(total))
            }));
        }
    }
    traced::by_device(case, claims)
}

/// The other end of the tunnel, if its device says so.
pub(super) fn known_remote(group: &Group<'_>) -> Option<String> {
    group.link()?.tunnel?.remote.map(|remote| remote.to_string())
}

/// The other end of the tunnel, or words for it.
pub(super) fn remote(group: &Group<'_>) -> String {
    known_remote(group).unwrap_or_else(|| "its remote".into())
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Link, Pair, Tunnel};

    use crate::{Thresholds, diagnose, sample};

    fn evidence(reason: &str, symbol: &str, counters: &[(&'static str, u64)]) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
        let mut link = Link {
            ifindex: 2,
            name: "veth0".into(),
            tunnel: Some(Tunnel { remote: "192.0.2.7".parse().ok(), ..Tunnel::default() }),
            ..Link::default()
        };
        for &(counter, after) in counters {
            link.stats.insert(counter.into(), Pair { before: 0, after });
        }
        evidence.namespaces[0].links.push(link);
        evidence
    }

    fn found(evidence: &Evidence) -> Vec<(String, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.lost, 30);
        report.findings.into_iter().map(|it| (it.cause, it.packets)).collect()
    }

    #[test]
    fn collisions_tell_a_loop_from_a_missing_route() {
        let own = evidence("IP_OUTNOROUTES", "vxlan_xmit_one", &[("collisions", 30)]);
        assert_eq!(found(&own), [("tunnel-loop".into(), 30)]);
        let none = evidence("IP_OUTNOROUTES", "vxlan_xmit_one", &[("tx_carrier_errors", 30)]);
        assert_eq!(found(&none), [("tunnel-endpoint-unreachable".into(), 30)]);
        let both = [("collisions", 10), ("tx_carrier_errors", 20)];
        let both = evidence("IP_OUTNOROUTES", "vxlan_xmit_one", &both);
        let expected =
            [("tunnel-endpoint-unreachable".to_owned(), 20), ("tunnel-loop".to_owned(), 10)];
        assert_eq!(found(&both), expected);
    }

    #[test]
    fn other_tunnels_are_told_by_their_counters_alone() {
        let gre = evidence("NOT_SPECIFIED", "ip_tunnel_xmit", &[("tx_carrier_errors", 30)]);
        assert_eq!(found(&gre), [("tunnel-endpoint-unreachable".into(), 30)]);
        let other = evidence("NOT_SPECIFIED", "ip_tunnel_xmit", &[]);
        assert_eq!(found(&other)[0].0, "unexplained");
    }

    #[test]
    fn nesting_has_a_reason_of_its_own() {
        let nested = evidence("RECURSION_LIMIT", "vxlan_xmit_one", &[("tx_errors", 30)]);
        assert_eq!(found(&nested), [("tunnel-loop".into(), 30)]);
    }
}
