//! The next hop does not answer ARP or neighbour discovery.
//!
//! What waited for it is freed in `neigh_invalidate` (`net/core/neighbour.c`, 6.18): as `NEIGH_FAILED`
//! for IPv4, without a reason for IPv6. The sender learns it after about three seconds.
//!
//! Which next hop it was is told by the entry that failed, and by the route where the entry is gone: one
//! that failed is collected first, by any namespace that fills the table of the host.

use std::net::IpAddr;

use whydrop_model::{DropTotal, Evidence, EvidenceItem, EvidenceKind, Flow, Neighbour, Severity};

use crate::case::Case;
use crate::fib;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct NeighbourUnreachable;

const ID: &str = "neighbour-unreachable";

const SIGNATURES: &[Signature] = &[
    drops("NEIGH_FAILED", "*"),
    drops("NOT_SPECIFIED", "neigh_invalidate"),
    // It was given up, or changed its address, between the look-up and the header.
    drops("NEIGH_HH_FILLFAIL", "*"),
];

const KIND: Kind = Kind { variant: None, signatures: SIGNATURES, counters: &[] };

/// Who does not answer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Silent {
    /// The destinations themselves.
    Host,
    /// A router on the way to them.
    Gateway(IpAddr),
    /// It cannot be told.
    Unknown,
}

impl Rule for NeighbourUnreachable {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let ours = |total: &DropTotal| SIGNATURES.iter().any(|one| one.matches(total));
        let found = traced::take_by_flow(case, 1.0, ours, |total, flow| {
            Some((total.ifindex, silent(evidence, total, flow)))
        });
        for ((_, silent), group) in found {
            conclude(case, group, &silent);
        }
        for group in traced::take(case, SIGNATURES) {
            conclude(case, group, &Silent::Unknown);
        }
    }
}

fn conclude(case: &mut Case<'_>, group: Group<'_>, silent: &Silent) {
    let (to, device) = (group.targets(), group.device_name());
    let (variant, who) = match silent {
        Silent::Host => (Some("host"), to.clone()),
        Silent::Gateway(gateway) => (Some("gateway"), format!("gateway {gateway}")),
        Silent::Unknown => (None, format!("next hop to {to}")),
    };
    let summary = match silent {
        Silent::Gateway(_) => format!(
            "The {who} does not answer on {device}, which cuts off all that is behind it ({to}): bring \
             it up, or correct its address in the route"
        ),
        Silent::Host => format!(
            "{to} should be on the link of {device} and does not answer: bring it up, or correct the \
             address, subnet or VLAN"
        ),
        Silent::Unknown => format!(
            "The {who} does not answer on {device}: bring it up, or correct the address, subnet or VLAN"
        ),
    };
    let told = Told {
        variant,
        object: Some(format!("{who} on {device}")),
        summary,
        cure: "Bring the next hop up, or correct the address, netmask, VLAN or route that makes this host \
               look for it here"
            .into(),
        command: Some("ip neighbour show nud failed".into()),
        useless: &["net.ipv4.neigh.default.gc_thresh*: the table has room, the neighbour is silent"],
    };
    let failed: Vec<_> = match silent {
        Silent::Host => group.flows().map(|flow| flow.destination.address).collect(),
        Silent::Gateway(gateway) => vec![*gateway],
        Silent::Unknown => Vec::new(),
    };
    let ifindex = group.first().map(|total| total.ifindex);
    let entries = group.namespace.and_then(|namespace| namespace.neighbours.as_ref());
    let entry = entries.into_iter().flat_map(|all| &all.troubled).find(|entry| {
        is_silent(entry) && Some(entry.ifindex) == ifindex && failed.contains(&entry.address)
    });
    let state = entry.map(|entry| {
        let name = format!("neighbour {} on {device}", entry.address);
        EvidenceItem::new(EvidenceKind::State, name, entry.state.clone())
    });
    group.agreed(state).conclude(case, ID, Severity::Critical, &KIND, told);
}

fn is_silent(neighbour: &Neighbour) -> bool {
    matches!(neighbour.state.as_str(), "FAILED" | "INCOMPLETE")
}

/// Which next hop these packets waited for.
fn silent(evidence: &Evidence, total: &DropTotal, flow: &Flow) -> Silent {
    let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
    let Some(namespace) = namespace else { return Silent::Unknown };
    let to = flow.destination.address;
    let entries = namespace.neighbours.iter().flat_map(|all| &all.troubled);
    let mut here = entries.filter(|entry| {
        let same_family = entry.address.is_ipv4() == to.is_ipv4();
        is_silent(entry) && entry.ifindex == total.ifindex && same_family
    });
    if here.clone().any(|entry| entry.address == to) {
        return Silent::Host;
    }
    // Not one of several next hops: which of them it was, the route does not tell.
    let route = fib::route_to(namespace, to).filter(|route| route.devices == [total.ifindex]);
    match (route, here.next(), here.next()) {
        (Some(route), _, _) => route.gateway.map_or(Silent::Host, Silent::Gateway),
        (None, Some(only), None) => Silent::Gateway(only.address),
        _ => Silent::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, Evidence, Finding, Neighbour, Neighbours, Routes};

    use crate::{Thresholds, diagnose, sample};

    /// Packets to 192.0.2.1 (the sample's flow) that waited on device 2.
    fn waited() -> Evidence {
        let mut evidence = sample::evidence();
        let total = sample::total("NEIGH_FAILED", "neigh_invalidate", 30);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1000)];
        evidence.tracer.totals = vec![total];
        evidence
    }

    fn with_failed(mut evidence: Evidence, addresses: &[&str]) -> Evidence {
        let failed = addresses.iter().map(|address| Neighbour {
            ifindex: 2,
            address: address.parse().expect("an address"),
            state: "FAILED".into(),
            lladdr: None,
        });
        let troubled = failed.collect();
        evidence.namespaces[0].neighbours = Some(Neighbours { troubled, ..Neighbours::default() });
        evidence
    }

    fn with_route(mut evidence: Evidence, gateway: Option<&str>) -> Evidence {
        let mut route = sample::route("unicast", "192.0.2.0", 24, 2);
        route.gateway = gateway.map(|gateway| gateway.parse().expect("an address"));
        let routes = Routes { unicast: vec![route], ..Routes::default() };
        evidence.namespaces[0].routes = Some(routes);
        evidence
    }

    fn only(evidence: &Evidence) -> Finding {
        let mut findings = diagnose(evidence, &Thresholds::default()).findings;
        assert_eq!((findings.len(), findings[0].packets), (1, 30));
        findings.remove(0)
    }

    fn object(evidence: &Evidence) -> (Option<String>, String) {
        let finding = only(evidence);
        (finding.variant, finding.site.object.expect("an object"))
    }

    #[test]
    fn the_entry_that_failed_tells_who_is_silent() {
        let host = only(&with_failed(waited(), &["192.0.2.1", "198.51.100.7"]));
        assert_eq!(host.variant.as_deref(), Some("host"));
        assert_eq!(host.confidence, Confidence::Confirmed);
        let gateway = object(&with_failed(waited(), &["198.51.100.7"]));
        assert_eq!(gateway, (Some("gateway".into()), "gateway 198.51.100.7 on veth0".into()));
    }

    #[test]
    fn where_the_entry_is_collected_already_the_route_tells() {
        let onlink = object(&with_route(with_failed(waited(), &[]), None));
        assert_eq!(onlink, (Some("host".into()), "192.0.2.1 on veth0".into()));
        // Another destination that failed on the same link does not make it a gateway.
        let onlink = object(&with_route(with_failed(waited(), &["198.51.100.7"]), None));
        assert_eq!(onlink.0.as_deref(), Some("host"));
        let gateway = object(&with_route(waited(), Some("198.51.100.9")));
        assert_eq!(gateway, (Some("gateway".into()), "gateway 198.51.100.9 on veth0".into()));
    }

    #[test]
    fn without_entry_and_route_it_stays_open() {
        let told = object(&waited());
        assert_eq!(told, (None, "next hop to 192.0.2.1 on veth0".into()));
        let two = object(&with_failed(waited(), &["198.51.100.7", "198.51.100.8"]));
        assert_eq!(two.0, None);
    }
}
