//! The neighbour table is full, so that a packet to a new neighbour cannot be sent.
//!
//! `neigh_alloc` (`net/core/neighbour.c`, 6.18) refuses an entry beyond `gc_thresh3` if none may be
//! thrown away; `ip_finish_output2` and `ip6_finish_output2` free the packet as `NEIGH_CREATEFAIL`. The
//! table serves all namespaces of the host. Look-alikes: an entry that gets no answer, or too many
//! packets for one entry, have reasons of their own.

use whydrop_model::{
    Confidence, Evidence, EvidenceItem, EvidenceKind, NeighbourTable, Remedy, Severity,
};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group};

/// See the module.
pub(super) struct NeighbourTableFull;

const ID: &str = "neighbour-table-full";
const SIGNATURES: &[Signature] = &[drops("NEIGH_CREATEFAIL", "*")];

impl Rule for NeighbourTableFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let claims =
            case.claim(|total| SIGNATURES.iter().any(|signature| signature.matches(total)));
        let (ndisc, arp): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| claim.total.l3 == 0x86dd);
        for (variant, claims) in [("arp", arp), ("ndisc", ndisc)] {
            for group in traced::gather(case, claims) {
                conclude(case, &group, variant);
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, group: &Group<'_>, variant: &'static str) {
    let (family, name) = match variant {
        "ndisc" => ("ipv6", "ndisc_cache"),
        _ => ("ipv4", "arp_cache"),
    };
    let object = format!("net.{family}.neigh.default.gc_thresh3");
    let table = table(case.evidence(), name);
    let mut evidence = group.proof();
    let mut confirmed = false;
    if let Some(table) = table {
        for counter in ["table_fulls", "forced_gc_runs"] {
            let grown = table.stats.get(counter).map_or(0, |pair| pair.delta());
            if grown > 0 {
                confirmed |= counter == "table_fulls";
                let named = format!("{name} {counter}");
                evidence.push(EvidenceItem::new(EvidenceKind::Counter, named, grown));
            }
        }
        let fill = format!("{} of {}", table.entries, table.gc_thresh3);
        let named = format!("entries of {name}, of gc_thresh3");
        evidence.push(EvidenceItem::new(EvidenceKind::State, named, fill));
    }
    let most = table.map_or("gc_thresh3".into(), |table| table.gc_thresh3.to_string());
    let limits = table.map(|table| {
        let most = u64::from(table.gc_thresh3) * 2;
        let thresh = |number: u8, value: u64| {
            format!("net.{family}.neigh.default.gc_thresh{number}={value}")
        };
        format!("sysctl -w {} {} {}", thresh(3, most), thresh(2, most / 2), thresh(1, most / 4))
    });
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Critical,
        confidence: if confirmed { Confidence::Confirmed } else { Confidence::Likely },
        loss: Loss::traced(group.packets),
        site: group.site(case, Some(object.clone())),
        summary: format!(
            "The neighbour table of the host ({name}) is full at {most} entries: packets to new \
             neighbours ({}) are dropped",
            group.targets()
        ),
        evidence,
        remedies: vec![Remedy {
            summary: format!(
                "If most entries are INCOMPLETE or FAILED, stop the scan that makes them. Else set \
                 {object} to twice the neighbours on all links of all namespaces, gc_thresh2 to half and \
                 gc_thresh1 to a quarter of that, in the initial network namespace"
            ),
            commands: limits.into_iter().collect(),
            useless: vec![
                "raising gc_thresh3 alone: from gc_thresh2 on entries are collected by force"
                    .into(),
                "flushing the table: it is full again in seconds".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

fn table<'e>(evidence: &'e Evidence, name: &str) -> Option<&'e NeighbourTable> {
    evidence.neighbour_tables.iter().find(|table| table.name == name)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{NeighbourTable, Pair};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn each_family_has_its_table() {
        let mut evidence = sample::evidence();
        let v4 = sample::total("NEIGH_CREATEFAIL", "ip_finish_output2", 5);
        let mut v6 = sample::total("NEIGH_CREATEFAIL", "ip6_finish_output2", 71);
        v6.l3 = 0x86dd;
        evidence.tracer.totals = vec![v4, v6];
        evidence.neighbour_tables = vec![NeighbourTable {
            name: "ndisc_cache".into(),
            entries: 30,
            gc_thresh3: 30,
            stats: [("table_fulls".to_owned(), Pair { before: 1, after: 72 })].into(),
            ..NeighbourTable::default()
        }];
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> = report
            .findings
            .iter()
            .map(|one| (one.cause.as_str(), one.variant.as_deref(), one.packets))
            .collect();
        assert_eq!(told, [(super::ID, Some("ndisc"), 71), (super::ID, Some("arp"), 5)]);
        assert!(report.findings[0].remedies[0].commands[0].contains("gc_thresh3=60"));
        assert!(report.findings[1].remedies[0].commands.is_empty(), "the limit is not known");
    }
}
