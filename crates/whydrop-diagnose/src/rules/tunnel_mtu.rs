//! What a tunnel has wrapped is larger than the underlay takes, and may not be fragmented.
//!
//! `ip_fragment` (`net/ipv4/ip_output.c`, 6.18) frees it without a reason where the outer packet has DF
//! (`df set` or `df inherit`), `ip6_fragment` (`net/ipv6/ip6_output.c`) always. `Ip.FragFails` or
//! `Ip6FragFails` counts it, and the tunnel as `tx_dropped` or, over IPv6, `tx_aborted_errors`. The packet is
//! seen on the device below: which tunnel made it is told by its outer addresses and port.
//!
//! Look-alike: a packet that no tunnel made; it stays open. Without DF the outer packet is fragmented, and
//! nothing is lost here.

use std::net::IpAddr;

use whydrop_model::{
    Evidence, EvidenceItem, EvidenceKind, Flow, Link, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion};
use crate::command;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group};

/// See the module.
pub(super) struct TunnelMtu;

const ID: &str = "tunnel-mtu";

/// Where it happens, and what counts it.
const KINDS: &[(Signature, &[&str])] = &[
    (drops("NOT_SPECIFIED", "ip_fragment"), &["Ip.FragFails"]),
    (drops("NOT_SPECIFIED", "ip_do_fragment"), &["Ip.FragFails"]),
    (drops("NOT_SPECIFIED", "ip6_fragment"), &["snmp6.Ip6FragFails"]),
];

const UDP: u8 = 17;
/// Bytes between the outer IP header and the inner one: UDP 8, VXLAN or Geneve without options 8,
/// Ethernet 14.
const WRAPPING: u32 = 30;

impl Rule for TunnelMtu {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for (signature, counters) in KINDS {
            let groups = traced::take_by_flow(
                case,
                1.0,
                |total| signature.matches(total),
                |total, flow| {
                    let (namespace, link) = tunnel_of(evidence, total.netns, flow)?;
                    Some((namespace.inode, link.ifindex))
                },
            );
            for ((inode, ifindex), group) in groups {
                let Some(namespace) = evidence.namespace(inode) else { continue };
                let of_it = |link: &&Link| link.ifindex == ifindex;
                if let Some(tunnel) = namespace.links.iter().find(of_it) {
                    conclude(case, namespace, tunnel, &group, counters);
                }
            }
        }
    }
}

/// The tunnel that made an outer packet, in this namespace rather than in another one: the underlay need
/// not be where the tunnel is.
fn tunnel_of<'e>(
    evidence: &'e Evidence,
    netns: Option<u64>,
    flow: &Flow,
) -> Option<(&'e Namespace, &'e Link)> {
    let within = |here: bool| {
        let among = evidence.namespaces.iter().filter(move |it| (Some(it.inode) == netns) == here);
        let mut links = among.flat_map(|it| it.links.iter().map(move |link| (it, link)));
        links.find(|(_, link)| made(link, flow))
    };
    within(true).or_else(|| within(false))
}

/// True if this is a tunnel whose outer packets look like this one.
fn made(link: &Link, flow: &Flow) -> bool {
    let Some(tunnel) = &link.tunnel else { return false };
    let is = |told: Option<IpAddr>, address| told.is_none_or(|it| it == address);
    // A multicast group, or the only remote that the device itself names; its table may name others.
    let remote = tunnel.remote.filter(|it| !it.is_multicast());
    flow.protocol == UDP
        && tunnel.port.is_some()
        && tunnel.port == flow.destination.port
        && is(remote, flow.destination.address)
        && is(tunnel.local, flow.source.address)
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    tunnel: &Link,
    group: &Group<'_>,
    counters: &[&'static str],
) {
    let name = &tunnel.name;
    let header = if group.is_ipv6() { 40 } else { 20 };
    let overhead = header + WRAPPING;
    let fitting = fitting(group, tunnel, overhead);
    let mut evidence = group.proof();
    let mut agreeing = group.counters(counters);
    agreeing.extend(grown(tunnel, &["tx_dropped", "tx_aborted_errors"]));
    let confidence = group.confidence(&agreeing);
    evidence.extend(agreeing);
    let mut state = |link: &Link| {
        let name = format!("MTU of {}", link.name);
        evidence.push(EvidenceItem::new(EvidenceKind::State, name, u64::from(link.mtu)));
    };
    state(tunnel);
    if let Some(below) = group.link() {
        state(below);
    }
    let targets = group.targets();
    let (cure, line) = match fitting {
        Some(mtu) => (
            format!(
                "Set the MTU of {name} to {mtu} on both ends (MTU of {} less {overhead} bytes of headers), and \
                 that of what is bridged to it; or raise the underlay's. Make it permanent where the tunnel is \
                 configured (CNI, VPN, network manager)",
                group.device_name()
            ),
            format!("ip link set dev {name} mtu {mtu}"),
        ),
        None => (
            format!(
                "Set the MTU of {name} on both ends to the smallest MTU of the path to {targets}, which \
                 `ip route get` shows once it is learnt, less {overhead} bytes of headers"
            ),
            format!("ip -d link show dev {name}"),
        ),
    };
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Critical,
        confidence,
        loss: group.loss(case, counters),
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("MTU of {name}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "Packets of {name} do not fit the path to {targets} once they are wrapped: its MTU of {} leaves no \
             room for {overhead} bytes of headers",
            tunnel.mtu
        ),
        evidence,
        remedies: vec![Remedy {
            summary: cure,
            commands: command::within(namespace, &line).into_iter().collect(),
            useless: vec![
                "`df unset`: fragments pass, but the loss of one is the loss of all, and over \
                           IPv6 there are none"
                    .into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

/// The MTU that fits the device below; `None` if the packets would have fitted it, so that the path
/// behind it is what is smaller, or if the tunnel's MTU fits already.
fn fitting(group: &Group<'_>, tunnel: &Link, overhead: u32) -> Option<u32> {
    let below = group.link()?.mtu;
    let longer = group.mean_length()? > u64::from(below);
    below.checked_sub(overhead).filter(|mtu| longer && *mtu < tunnel.mtu)
}

fn grown(link: &Link, names: &[&str]) -> Vec<EvidenceItem> {
    let grown = |name: &&str| {
        let delta = link.stats.get(*name)?.delta();
        let name = format!("{} {name}", link.name);
        (delta > 0).then(|| EvidenceItem::new(EvidenceKind::Counter, name, delta))
    };
    names.iter().filter_map(grown).collect()
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Link, Tunnel};

    use crate::{Thresholds, diagnose, sample};

    /// Thirty packets of this length to the remote of a VXLAN device.
    fn evidence(length: u64) -> Evidence {
        let mut evidence = sample::evidence();
        let mut total = sample::total("NOT_SPECIFIED", "ip_fragment", 30);
        total.bytes = 30 * length;
        let mut seen = sample::exemplar(&total, 50_000);
        let flow = seen.flow.as_mut().unwrap();
        flow.protocol = super::UDP;
        flow.destination.port = Some(4789);
        let remote = Some(flow.destination.address);
        evidence.tracer.exemplars = vec![seen];
        evidence.tracer.totals = vec![total];
        let below = Link { ifindex: 2, name: "eth0".into(), mtu: 1500, ..Link::default() };
        let tunnel = Tunnel { remote, port: Some(4789), ..Tunnel::default() };
        let tunnel = Link {
            ifindex: 3,
            name: "vx0".into(),
            mtu: 1500,
            tunnel: Some(tunnel),
            ..Link::default()
        };
        evidence.namespaces[0].links = vec![below, tunnel];
        sample::count(&mut evidence, "Ip.FragFails", 30);
        evidence
    }

    #[test]
    fn the_tunnel_is_told_by_its_outer_packets_and_sized_by_the_device_below() {
        let report = diagnose(&evidence(1550), &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("tunnel-mtu", 30));
        assert_eq!(finding.site.device.as_deref(), Some("vx0"));
        assert_eq!(finding.remedies[0].commands, ["ip netns exec b ip link set dev vx0 mtu 1450"]);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 0));
    }

    #[test]
    fn a_narrow_path_behind_the_device_below_gives_no_number() {
        let report = diagnose(&evidence(1490), &Thresholds::default());
        assert_eq!(report.findings[0].cause, "tunnel-mtu");
        assert!(report.findings[0].remedies[0].commands[0].contains("ip -d link show"));
    }

    #[test]
    fn what_no_tunnel_made_stays_open() {
        let mut evidence = evidence(1550);
        evidence.namespaces[0].links[1].tunnel.as_mut().unwrap().port = Some(8472);
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|finding| finding.cause != "tunnel-mtu"));
        assert_eq!(report.ledger.unexplained, 30);
    }
}
