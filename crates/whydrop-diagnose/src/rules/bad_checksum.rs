//! The checksum of the IP, TCP, UDP or ICMP part of a packet is wrong.
//!
//! The kernel names the protocol in the reason, and counts `InCsumErrors` beside it. A frame damaged on
//! the wire would have failed the link's own checksum and never have come this far: the packet was
//! wrong before it was framed.
//!
//! A datagram is checked when its program reads it, and what is dropped then does not tell its
//! namespace any more (`udp_recvmsg()`, `net/ipv4/udp.c`, 6.18): there the counters of the namespaces
//! tell. Over IPv6 those without a checksum are dropped on arrival.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site};

use crate::case::{self, Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};
use crate::{command, share};

/// See the module.
pub(super) struct BadChecksum;

const ID: &str = "bad-checksum";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ip"),
        signatures: &[drops("IP_CSUM", "*")],
        counters: &["IpExt.InCsumErrors"],
    },
    Kind {
        variant: Some("tcp"),
        signatures: &[drops("TCP_CSUM", "*")],
        counters: &["Tcp.InCsumErrors"],
    },
    Kind {
        variant: Some("icmp"),
        signatures: &[drops("ICMP_CSUM", "*")],
        counters: &["Icmp.InCsumErrors", "snmp6.Icmp6InErrors"],
    },
];
const UDP: &str = "UDP_CSUM";
const UDP_COUNTERS: [&str; 2] = ["Udp.InCsumErrors", "snmp6.Udp6InCsumErrors"];
const USELESS: &[&str] =
    &["a new cable: damaged frames fail the link's checksum first and count as CRC errors"];

impl Rule for BadChecksum {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let protocol = variant.unwrap_or_default().to_uppercase();
            let (object, summary, cure) = words(&protocol, &group.sources());
            Told {
                object: Some(object),
                summary,
                cure,
                command: group.device.map(|device| format!("ethtool -k {device}")),
                useless: USELESS,
                ..Told::default()
            }
        });
        udp(case);
    }
}

/// Object, summary and cure.
fn words(protocol: &str, from: &str) -> (String, String, String) {
    (
        format!("{protocol} checksums from {from}"),
        format!(
            "Packets from {from} carry wrong {protocol} checksums: find the sender or middlebox that \
             makes them"
        ),
        format!(
            "Look for broken checksum offload at {from} or a device in between that rewrites packets; \
             switch transmit checksum offload off there to prove it"
        ),
    )
}

/// Datagrams, by namespace: those that the tracer saw there, and those that only the counters have.
fn udp(case: &mut Case<'_>) {
    let claims = case.claim(|total| total.reason == UDP && total.netns.is_some());
    let mut here = traced::gather(case, claims);
    let unplaced = case::packets(&case.claim(|total| total.reason == UDP));
    let mut losses: Vec<_> = case
        .namespaces()
        .iter()
        .map(|namespace| {
            let at = here.iter().position(|group| group.netns == Some(namespace.inode));
            let group = at.map(|at| here.swap_remove(at));
            let traced = group.as_ref().map_or(0, |group| group.packets);
            let counted: u64 =
                UDP_COUNTERS.iter().map(|name| case.unbooked(namespace, name).unwrap_or(0)).sum();
            (namespace, group, Loss { packets: traced.max(counted), traced, counted })
        })
        .collect();
    // What was dropped nowhere in particular belongs to those that counted more than they showed.
    let missing =
        losses.iter().enumerate().map(|(at, (.., loss))| (at, loss.packets - loss.traced));
    let all: u64 = missing.clone().map(|(_, missing)| missing).sum();
    for (at, packets) in share::split(unplaced.min(all), missing) {
        losses[at].2.traced += packets;
    }
    for (namespace, group, loss) in losses.into_iter().filter(|(.., loss)| loss.packets > 0) {
        conclude(case, namespace, group.as_ref(), loss);
    }
    let elsewhere = unplaced.saturating_sub(all);
    let rest = here.iter().map(|group| (group.netns, group.packets));
    for (netns, packets) in rest.chain([(None, elsewhere)]).filter(|(_, packets)| *packets > 0) {
        let proof = vec![EvidenceItem::new(EvidenceKind::Tracer, UDP, packets)];
        let site = case.site_of(netns);
        book(case, site, Loss::traced(packets), (None, Confidence::Likely, proof));
    }
}

fn conclude(case: &mut Case<'_>, here: &Namespace, group: Option<&Group<'_>>, loss: Loss) {
    let mut proof = Vec::new();
    for name in UDP_COUNTERS {
        let grown = case.unbooked(here, name).unwrap_or(0);
        if grown > 0 {
            case.book(here, name, grown);
            proof.push(EvidenceItem::new(EvidenceKind::Counter, name, grown));
        }
    }
    let confidence = if proof.is_empty() { Confidence::Likely } else { Confidence::Confirmed };
    proof.extend(group.map(Group::proof).unwrap_or_default());
    let site = match group {
        Some(group) => group.site(case, None),
        None => case.site_of(Some(here.inode)),
    };
    let device = site.device.clone();
    let command = device.and_then(|device| command::within(here, &format!("ethtool -k {device}")));
    let from = group.map(Group::sources);
    book(case, site, loss, (from.zip(command), confidence, proof));
}

fn book(
    case: &mut Case<'_>,
    site: Site,
    loss: Loss,
    (seen, confidence, evidence): (Option<(String, String)>, Confidence, Vec<EvidenceItem>),
) {
    let (from, command) = seen.unzip();
    let from = from.unwrap_or_else(|| "senders not seen in detail".into());
    let (object, summary, cure) = words("UDP", &from);
    let conclusion = Conclusion {
        variant: Some("udp"),
        severity: Severity::Notice,
        confidence,
        loss,
        site: Site { object: Some(object), ..site },
        summary,
        evidence,
        remedies: vec![Remedy {
            summary: cure,
            commands: command.into_iter().collect(),
            useless: USELESS.iter().map(ToString::to_string).collect(),
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::Evidence;

    use crate::{Thresholds, diagnose, sample};

    fn counted(packets: u64) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.InCsumErrors", packets);
        evidence
    }

    fn told(evidence: &Evidence) -> Vec<(u64, Option<u64>)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        let all = report.findings.iter().inspect(|one| assert_eq!(one.cause, super::ID));
        all.map(|one| (one.packets, one.site.netns.as_ref().and_then(|it| it.inode))).collect()
    }

    #[test]
    fn what_is_found_when_it_is_read_is_placed_by_its_counter() {
        let here = Some(sample::INODE);
        let mut evidence = counted(30);
        assert_eq!(told(&evidence), [(30, here)], "traced in no namespace of the scope");
        let mut total = sample::total("UDP_CSUM", "udp_recvmsg", 30);
        total.netns = None;
        evidence.tracer.totals = vec![total.clone()];
        assert_eq!(told(&evidence), [(30, here)], "one loss and not two");
        evidence.tracer.totals[0].packets = 35;
        assert_eq!(told(&evidence), [(30, here), (5, None)], "five are of a namespace not seen");
        evidence.tracer.totals.push(sample::total("UDP_CSUM", "__udp4_lib_rcv", 10));
        evidence.tracer.totals[0].packets = 20;
        assert_eq!(told(&evidence), [(30, here)], "ten for no socket, twenty read");
    }
}
