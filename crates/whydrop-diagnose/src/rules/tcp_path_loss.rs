//! TCP loses segments or SYNs, and nothing here dropped them: the loss is on the path or at the peer.
//!
//! `RetransSegs` (`__tcp_retransmit_skb()`, `net/ipv4/tcp_output.c`, 6.18) says how much was sent
//! again. From that goes what the peer had already, and every packet of TCP that was lost where this
//! host can see it: what is left was lost elsewhere. The proof is that every layer was watched and
//! was clean, so each is told with what watched it. Few retransmissions are normal; the line is drawn
//! by thresholds.

use whydrop_model::{
    Attach, Confidence, Endpoint, EvidenceItem, EvidenceKind, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::causes::LAYERS;
use crate::retransmits::Retransmits;
use crate::rule::Rule;
use crate::{command, is_loss, layers, traced};

/// See the module.
pub(super) struct TcpPathLoss;

const ID: &str = "tcp-path-loss";
/// Peers and prefixes that are proof.
const NAMED: usize = 3;
/// Layers that no TCP segment crosses.
const BESIDE: [&str; 2] = ["udp", "socket"];

impl Rule for TcpPathLoss {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(sent_again) = Retransmits::of(case, namespace) else { continue };
            let grown = |name: &str| namespace.delta(name).unwrap_or(0);
            let opened = grown("Tcp.ActiveOpens").max(sent_again.syns);
            judge(case, &sent_again, "syn", sent_again.syns, opened);
            judge(case, &sent_again, "data", sent_again.data, grown("Tcp.OutSegs"));
        }
    }
}

/// Concludes that `again` of `sent` were lost elsewhere, if they were, and are worth a word.
fn judge(
    case: &mut Case<'_>,
    found: &Retransmits<'_>,
    variant: &'static str,
    again: u64,
    sent: u64,
) {
    let limits = case.thresholds();
    let unneeded = if variant == "data" { found.unneeded.min(again) } else { 0 };
    let worth = |packets: u64| {
        packets as f64 >= limits.retransmits
            && packets as f64 >= limits.retransmit_share * sent as f64
    };
    let lost = again.saturating_sub(unneeded).saturating_sub(found.local);
    if again > 0 && unneeded as f64 >= limits.spurious * again as f64 {
        if worth(unneeded) {
            conclude(case, found, ("spurious", again, sent), 0);
        }
    } else if worth(lost) {
        conclude(case, found, (variant, again, sent), lost);
    }
}

fn conclude(
    case: &mut Case<'_>,
    found: &Retransmits<'_>,
    (variant, again, sent): (&'static str, u64, u64),
    lost: u64,
) {
    let peers = found.peers(case, variant == "syn");
    let named = named(&peers);
    let to = named.as_deref().unwrap_or("peers that were not seen in detail");
    let here = if case.evidence().scope.netns.is_empty() {
        "on this host"
    } else {
        "in the namespaces examined"
    };
    let share = again as f64 * 100.0 / sent.max(1) as f64;
    let summary = match variant {
        "syn" => format!(
            "SYNs to {to} stay unanswered ({again} sent again), and nothing {here} dropped them or the \
             answers: look at the path and at that server's accept queue"
        ),
        "spurious" => format!(
            "TCP sends {share:.1} % of its segments to {to} twice without need: the peer had them; look \
             for reordering or delayed answers on the path"
        ),
        _ => format!(
            "TCP sends {share:.1} % of its segments to {to} again, and nothing {here} dropped them: they \
             are lost on the path or at the peer"
        ),
    };
    let mut evidence = counters(found, variant);
    evidence.extend(places(case, found, &peers));
    evidence.extend(proof(case, found));
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant),
            severity: Severity::Warning,
            confidence: confidence(case, found),
            loss: Loss::counted(lost),
            site: Site {
                object: Some(format!("path to {to}")),
                ..case.site_of(Some(found.namespace.inode))
            },
            summary,
            evidence,
            remedies: vec![remedy(found, variant, peers.first().map(|(peer, _)| *peer))],
        },
    );
}

/// The most frequent few.
fn named(peers: &[(Endpoint, usize)]) -> Option<String> {
    traced::first_of(peers.iter().map(|(peer, _)| peer.to_string()).collect())
}

/// Proof by absence is as good as what was watched.
fn confidence(case: &Case<'_>, found: &Retransmits<'_>) -> Confidence {
    let evidence = case.evidence();
    if evidence.tracer.attach == Attach::None || found.namespace.links.is_empty() {
        Confidence::Possible
    } else if found.local > 0 || evidence.tracer.lost > 0 || !evidence.scope.netns.is_empty() {
        Confidence::Likely
    } else {
        Confidence::Confirmed
    }
}

fn counters(found: &Retransmits<'_>, variant: &str) -> Vec<EvidenceItem> {
    let names: &[&str] = if variant == "syn" {
        &["TcpExt.TCPSynRetrans", "Tcp.ActiveOpens", "Tcp.AttemptFails"]
    } else {
        &[
            "Tcp.RetransSegs",
            "Tcp.OutSegs",
            "TcpExt.TCPTimeouts",
            "TcpExt.TCPLostRetransmit",
            "TcpExt.TCPDSACKRecvSegs",
            "TcpExt.TCPDSACKRecv",
        ]
    };
    let grown = |name: &&str| found.namespace.delta(name).filter(|delta| *delta > 0);
    let item = |name: &&str| Some(EvidenceItem::new(EvidenceKind::Counter, *name, grown(name)?));
    let mut items: Vec<_> = names.iter().filter_map(item).collect();
    if found.local > 0 {
        let name = "packets lost here that may be behind some of them";
        items.push(EvidenceItem::new(EvidenceKind::Tracer, name, found.local));
    }
    items
}

/// Who suffers.
fn places(
    case: &Case<'_>,
    found: &Retransmits<'_>,
    peers: &[(Endpoint, usize)],
) -> Vec<EvidenceItem> {
    let seen: usize = peers.iter().map(|(_, count)| count).sum();
    let mut items: Vec<_> = peers
        .iter()
        .take(NAMED)
        .map(|(peer, count)| {
            let value = format!("{count} of {seen} seen in detail");
            EvidenceItem::new(EvidenceKind::Event, format!("retransmissions to {peer}"), value)
        })
        .collect();
    let Some(all) = &found.namespace.tcp_peers else { return items };
    for prefix in all.worst.iter().filter(|prefix| prefix.retransmits > 0).take(NAMED) {
        let name = format!("open connections to {}/{}", prefix.address, prefix.length);
        let value = format!(
            "{} of {} retransmit, {} segments",
            prefix.retransmitting, prefix.sockets, prefix.retransmits
        );
        items.push(EvidenceItem::new(EvidenceKind::State, name, value));
    }
    if all.prefixes > 1 {
        let value = format!("{} of {}", all.prefixes_retransmitting, all.prefixes);
        items.push(EvidenceItem::new(EvidenceKind::State, "prefixes that suffer", value));
    }
    if !case.evidence().scope.netns.is_empty() {
        let value = case.evidence().scope.netns.join(", ");
        items.push(EvidenceItem::new(EvidenceKind::State, "namespaces examined, no others", value));
    }
    items
}

/// Layer by layer: what watched it, and that it lost nothing of this.
fn proof(case: &Case<'_>, found: &Retransmits<'_>) -> Vec<EvidenceItem> {
    let near = |finding: &&whydrop_model::Finding| {
        let inode = finding.site.netns.as_ref().and_then(|netns| netns.inode);
        is_loss(finding.class) && inode.is_none_or(|inode| found.reach.contains(&inode))
    };
    let item = |layer: &&'static str| {
        let here = case.findings().iter().filter(near).filter(|it| it.layer == *layer);
        let lost: u64 = here.filter(|it| it.cause != ID).map(|finding| finding.packets).sum();
        let value = match layers::watched(layer, case.evidence()) {
            Some(_) if lost > 0 => format!("lost {lost} packets, told apart"),
            Some(watched) => format!("clean ({watched})"),
            None => "not watched".into(),
        };
        EvidenceItem::new(EvidenceKind::State, format!("layer {layer}"), value)
    };
    LAYERS.iter().filter(|layer| !BESIDE.contains(layer)).map(item).collect()
}

fn remedy(found: &Retransmits<'_>, variant: &str, peer: Option<Endpoint>) -> Remedy {
    let summary = match variant {
        "syn" => {
            "Test the way to that server hop by hop, and look there: a full accept queue, a firewall, a \
             route back that is missing"
        }
        "spurious" => {
            "Repair what reorders or delays packets on the path: ECMP by packet, bonding round robin, a \
             link that bundles; nothing needs to be repeated"
        }
        _ => {
            "Find the hop that loses: test the path to that peer, then run whydrop there. If all prefixes \
             suffer alike, it is what they share: this host's uplink, switch port or cloud allowance"
        }
    };
    let lines = peer.map(|peer| {
        let port = peer.port.map_or(String::new(), |port| format!("-P {port} "));
        let address = peer.address;
        [format!("mtr -T {port}-rwc 100 {address}"), format!("ss -tni dst {address}")]
    });
    Remedy {
        summary: summary.into(),
        commands: lines
            .into_iter()
            .flatten()
            .filter_map(|line| command::within(found.namespace, &line))
            .collect(),
        useless: vec![
            "larger buffers, rings, backlogs or queues here: none of them was full".into(),
            "another congestion control: it hides the loss, and others pay for it".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use whydrop_model::{EventExemplar, EventTotal, Evidence, Finding, PeerPrefix, TcpPeers};

    use crate::{Thresholds, diagnose, sample};

    const PEER: &str = "192.0.2.9";

    fn event(code: &str, packets: u64) -> EventTotal {
        EventTotal {
            event: "tcp:tcp_retransmit_skb".into(),
            code: code.into(),
            netns: Some(sample::INODE),
            ifindex: 0,
            device: None,
            family: 2,
            l4: Some(6),
            port: 0,
            packets,
        }
    }

    /// Segments sent again to one peer, out of a thousand.
    fn lossy(again: u64, syns: u64) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.events.attached = vec!["tcp:tcp_retransmit_skb".into()];
        evidence.namespaces[0].links.push(whydrop_model::Link::default());
        sample::count(&mut evidence, "Tcp.RetransSegs", again);
        sample::count(&mut evidence, "Tcp.OutSegs", 1000);
        sample::count(&mut evidence, "TcpExt.TCPSynRetrans", syns);
        sample::count(&mut evidence, "Tcp.ActiveOpens", 10);
        let code = if syns > 0 { "SYN_SENT" } else { "ESTABLISHED" };
        evidence.events.totals = vec![event(code, again)];
        let mut flow = sample::exemplar(&sample::total("A", "b", 1), 5000).flow.expect("a flow");
        flow.destination.address = address(PEER);
        flow.destination.port = Some(443);
        evidence.events.exemplars = vec![EventExemplar {
            at_ns: 1,
            event: "tcp:tcp_retransmit_skb".into(),
            code: code.into(),
            netns: Some(sample::INODE),
            ifindex: 0,
            device: None,
            flow: Some(flow),
            neighbour: None,
            socket: None,
        }];
        evidence
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn found(evidence: &Evidence) -> Option<Finding> {
        let report = diagnose(evidence, &Thresholds::default());
        report.findings.into_iter().find(|finding| finding.cause == "tcp-path-loss")
    }

    #[test]
    fn what_nothing_here_lost_was_lost_elsewhere() {
        let mut evidence = lossy(40, 0);
        evidence.namespaces[0].tcp_peers = Some(TcpPeers {
            worst: vec![PeerPrefix {
                address: address("192.0.2.0"),
                length: 24,
                sockets: 2,
                retransmitting: 1,
                retransmits: 40,
                least_rtt_us: 100,
            }],
            ..TcpPeers::default()
        });
        let finding = found(&evidence).expect("a finding");
        assert_eq!((finding.variant.as_deref(), finding.packets), (Some("data"), 40));
        assert!(finding.summary.contains("192.0.2.9:443"), "{}", finding.summary);
        let names: Vec<_> = finding.evidence.iter().map(|item| item.name.as_str()).collect();
        for name in
            ["layer nic", "layer netfilter", "layer qdisc", "open connections to 192.0.2.0/24"]
        {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
    }

    #[test]
    fn unanswered_syns_are_a_variant_and_syn_acks_are_none() {
        let finding = found(&lossy(12, 12)).expect("a finding");
        assert_eq!((finding.variant.as_deref(), finding.packets), (Some("syn"), 12));
        let mut answers = lossy(12, 12);
        answers.events.totals.clear();
        assert!(found(&answers).is_none(), "SYN-ACKs to a flood");
    }

    #[test]
    fn few_are_normal() {
        assert!(found(&lossy(9, 0)).is_none(), "less than one in a hundred");
        let mut idle = lossy(2, 0);
        sample::count(&mut idle, "Tcp.OutSegs", 4);
        assert!(found(&idle).is_none(), "two");
    }

    #[test]
    fn what_was_dropped_here_is_not_said_of_the_path() {
        let mut evidence = lossy(40, 0);
        let total = sample::total("QDISC_DROP", "__dev_queue_xmit", 40);
        let mut dropped = sample::exemplar(&total, 5000);
        dropped.flow.as_mut().expect("a flow").destination.address = address(PEER);
        evidence.tracer.totals = vec![total];
        evidence.tracer.exemplars = vec![dropped];
        assert!(found(&evidence).is_none());
        // Those of other peers explain nothing of it.
        evidence.tracer.exemplars[0].flow.as_mut().expect("a flow").destination.address =
            address("203.0.113.1");
        assert_eq!(found(&evidence).map(|finding| finding.packets), Some(40));
        // Nor does UDP.
        evidence.tracer.exemplars.clear();
        evidence.tracer.totals[0].l4 = Some(17);
        assert_eq!(found(&evidence).map(|finding| finding.packets), Some(40));
    }

    #[test]
    fn losses_that_only_counters_tell_count_too() {
        let mut evidence = lossy(40, 40);
        evidence.namespaces[0].listeners = vec![sample::listener(5, 60, &[(0, 6, 60)])];
        sample::count(&mut evidence, "TcpExt.ListenOverflows", 60);
        sample::count(&mut evidence, "TcpExt.ListenDrops", 60);
        assert!(found(&evidence).is_none());
    }

    #[test]
    fn what_the_peer_had_already_was_not_lost() {
        let mut evidence = lossy(40, 0);
        sample::count(&mut evidence, "TcpExt.TCPDSACKRecvSegs", 38);
        let finding = found(&evidence).expect("a finding");
        assert_eq!((finding.variant.as_deref(), finding.packets), (Some("spurious"), 0));
        sample::count(&mut evidence, "TcpExt.TCPDSACKRecvSegs", 10);
        assert_eq!(found(&evidence).map(|finding| finding.packets), Some(30));
    }
}
