//! ICMP errors were held back by the kernel's rate limit: clients wait instead of being refused.
//!
//! `Icmp.OutRateLimitHost` and `Icmp.OutRateLimitGlobal` (6.10+), `Icmp6OutRateLimitHost` for IPv6
//! (`net/ipv4/icmp.c`, `net/ipv6/icmp.c`, 6.18). Nothing is lost by it: it explains the silence beside
//! another cause.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct IcmpRepliesLimited;

const ID: &str = "icmp-replies-limited";
const COUNTERS: [&str; 3] =
    ["Icmp.OutRateLimitHost", "Icmp.OutRateLimitGlobal", "snmp6.Icmp6OutRateLimitHost"];

impl Rule for IcmpRepliesLimited {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let grown = COUNTERS.iter().filter_map(|name| {
                let delta = namespace.delta(name).filter(|delta| *delta > 0)?;
                Some((*name, delta))
            });
            let grown: Vec<_> = grown.collect();
            if !grown.is_empty() {
                conclude(case, namespace, &grown);
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, grown: &[(&str, u64)]) {
    let held: u64 = grown.iter().map(|(_, delta)| delta).sum();
    let ipv6 = grown.iter().all(|(name, _)| name.starts_with("snmp6"));
    let setting = if ipv6 { "net.ipv6.icmp.ratelimit" } else { "net.ipv4.icmp_ratelimit" };
    let shown = command::within(namespace, &format!("sysctl {setting}"));
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Notice,
        confidence: Confidence::Confirmed,
        loss: Loss::default(),
        site: Site { object: Some(setting.into()), ..case.site_of(Some(namespace.inode)) },
        summary: format!(
            "{held} ICMP errors were not sent because of the rate limit: those senders see silence \
             instead of \"refused\" or \"unreachable\""
        ),
        evidence: grown
            .iter()
            .map(|(name, delta)| EvidenceItem::new(EvidenceKind::Counter, *name, *delta))
            .collect(),
        remedies: vec![Remedy {
            summary: format!(
                "Nothing here: cure what the errors are about. For a test of minutes {setting}=0 lifts the \
                 limit; set it back to 1000"
            ),
            commands: shown.into_iter().collect(),
            useless: vec![
                "raising the limit for good: the packets that it is about are lost anyway".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::Verdict;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn silence_is_told_and_nothing_is_lost() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Icmp.OutRateLimitHost", 34);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "icmp-replies-limited");
        assert_eq!((report.ledger.lost, report.verdict), (0, Verdict::Clean));
        sample::count(&mut evidence, "Icmp.OutRateLimitHost", 0);
        assert!(diagnose(&evidence, &Thresholds::default()).findings.is_empty());
    }
}
