//! What no rule explained: traced drops, and counters that mean loss where the tracer saw less.
//!
//! Shown with its raw evidence, under the cause `unexplained`; never left out and never guessed.

use std::collections::BTreeMap;

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Link, Namespace, Severity, Site};

use crate::UNEXPLAINED;
use crate::case::{Case, Conclusion, Loss};

/// Counters whose every step is a lost packet, with the drop reason under which the tracer sees the
/// same packets; an empty reason means that it never does.
const COUNTED: &[(&str, &str)] = &[("TcpExt.TCPBacklogDrop", "SOCKET_BACKLOG")];

/// Fields of `rtnl_link_stats64` that count frames lost before there was an skb: never traced.
const LINK_LOSSES: &[&str] =
    &["rx_missed_errors", "rx_crc_errors", "rx_frame_errors", "rx_length_errors", "rx_over_errors"];

/// Books everything that is left.
pub(crate) fn book(case: &mut Case<'_>) {
    traced(case);
    counted(case);
    link_losses(case);
}

fn traced(case: &mut Case<'_>) {
    let mut groups: BTreeMap<(Option<u64>, String), (u64, Option<String>)> = BTreeMap::new();
    for claim in case.open() {
        let total = claim.total;
        let place = total.site.as_ref().map_or_else(
            || "(call site not kept: table full)".into(),
            |site| {
                if site.symbol.is_empty() { site.to_string() } else { site.symbol.clone() }
            },
        );
        let group = groups
            .entry((total.netns, format!("{}@{place}", total.reason)))
            .or_insert_with(|| (0, total.device.clone()));
        group.0 += claim.packets;
        if group.1 != total.device {
            group.1 = None;
        }
    }
    for ((netns, signature), (packets, device)) in groups {
        let site = Site { device, object: Some(signature.clone()), ..case.site_of(netns) };
        record(case, site, (packets, 0), EvidenceKind::Tracer, &signature);
    }
}

fn counted(case: &mut Case<'_>) {
    for namespace in case.namespaces() {
        for (counter, reason) in COUNTED {
            let grown = case.unbooked(namespace, counter).unwrap_or(0);
            let missing = grown.saturating_sub(traced_as(case, Some(namespace), reason));
            if missing > 0 {
                let object = Some((*counter).to_string());
                let site = Site { object, ..case.site_of(Some(namespace.inode)) };
                record(case, site, (0, missing), EvidenceKind::Counter, counter);
            }
        }
    }
}

fn link_losses(case: &mut Case<'_>) {
    for namespace in case.namespaces() {
        // What a tunnel counts here it drops as packets, which are traced; a bond repeats the counters
        // of its ports.
        let bond = |link: &Link| matches!(link.kind.as_deref(), Some("bond" | "team"));
        let links = namespace.links.iter().filter(|link| link.tunnel.is_none() && !bond(link));
        for link in links {
            for field in LINK_LOSSES {
                let lost = case.unbooked_field(namespace, link, field);
                if lost > 0 {
                    let site = Site {
                        device: Some(link.name.clone()),
                        object: Some(format!("{} {field}", link.name)),
                        ..case.site_of(Some(namespace.inode))
                    };
                    let name = format!("{} {field}", link.name);
                    record(case, site, (0, lost), EvidenceKind::Counter, &name);
                }
            }
        }
    }
}

fn traced_as(case: &Case<'_>, namespace: Option<&Namespace>, reason: &str) -> u64 {
    let here = |netns: Option<u64>| namespace.is_none_or(|one| netns == Some(one.inode));
    let totals = &case.evidence().tracer.totals;
    totals
        .iter()
        .filter(|total| total.reason == reason && here(total.netns))
        .map(|total| total.packets)
        .sum()
}

fn record(
    case: &mut Case<'_>,
    site: Site,
    (traced, counted): (u64, u64),
    kind: EvidenceKind,
    name: &str,
) {
    let packets = traced + counted;
    // An info finding loses nothing by contract, so the account is made here: the ledger has the
    // number.
    let loss = Loss { packets, traced, counted };
    case.account(UNEXPLAINED, loss, site.clone());
    case.conclude(
        UNEXPLAINED,
        Conclusion {
            variant: None,
            severity: Severity::Notice,
            confidence: Confidence::Possible,
            loss: Loss::default(),
            site,
            summary: format!("{packets} packets were dropped as {name} and match no known cause"),
            evidence: vec![EvidenceItem::new(kind, name, packets)],
            remedies: Vec::new(),
        },
    );
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_counter_and_its_trace_are_one_loss() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.TCPBacklogDrop", 40);
        evidence.tracer.totals = vec![sample::total("SOCKET_BACKLOG", "tcp_v4_rcv", 30)];
        let ledger = diagnose(&evidence, &Thresholds::default()).ledger;
        assert_eq!(ledger.unexplained, 40);
    }
}
