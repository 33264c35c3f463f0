//! The receive softirq stopped at its budget with work left: a delay, not a loss.
//!
//! `time_squeeze` of `/proc/net/softnet_stat` (`net_rx_action` in `net/core/dev.c`, 6.18). It happens now
//! and then on every busy host, so it is told only from a rate on; what is lost because of it has causes of
//! its own.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;

/// See the module.
pub(super) struct SoftirqBudgetExhausted;

const ID: &str = "softirq-budget-exhausted";

impl Rule for SoftirqBudgetExhausted {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        // It is about all of the host; of a few chosen namespaces it says nothing.
        if !evidence.scope.netns.is_empty() {
            return;
        }
        let least = case.thresholds().squeezes * evidence.window.length().as_secs_f64();
        let squeezed = |cpu: &&_| {
            let cpu: &whydrop_model::SoftnetCpu = cpu;
            let count = cpu.time_squeeze.delta32();
            count > 0 && count as f64 >= least
        };
        let cpus: Vec<_> = evidence.softnet.iter().filter(squeezed).collect();
        if cpus.is_empty() {
            return;
        }
        let name = |cpu: u32| format!("softnet_stat time_squeeze of CPU {cpu}");
        let proof = cpus.iter().map(|cpu| {
            EvidenceItem::new(EvidenceKind::Counter, name(cpu.cpu), cpu.time_squeeze.delta32())
        });
        let numbers: Vec<_> = cpus.iter().map(|cpu| cpu.cpu.to_string()).collect();
        let conclusion = Conclusion {
            variant: None,
            severity: Severity::Notice,
            confidence: Confidence::Confirmed,
            loss: Loss::default(),
            site: Site { object: Some("net.core.netdev_budget".into()), ..Site::default() },
            summary: format!(
                "The receive work of CPU {} does not fit into its rounds: packets wait longer, none is lost by \
                 it",
                numbers.join(", ")
            ),
            evidence: proof.collect(),
            remedies: vec![Remedy {
                summary: "Without loss on the same CPU: nothing. With loss, and if the CPU has time left, \
                          double net.core.netdev_budget and netdev_budget_usecs once"
                    .into(),
                commands: vec![
                    "sysctl net.core.netdev_budget net.core.netdev_budget_usecs".into(),
                ],
                useless: vec!["larger rings: the packets were already taken from them".into()],
            }],
        };
        case.conclude(ID, conclusion);
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, SoftnetCpu};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn it_is_told_from_a_rate_on_and_loses_nothing() {
        for (count, scoped, told) in [(0, false, 0), (9, false, 0), (10, false, 1), (10, true, 0)] {
            let mut evidence = sample::evidence();
            let time_squeeze = Pair { before: 3, after: 3 + count };
            evidence.softnet = vec![SoftnetCpu { cpu: 1, time_squeeze, ..SoftnetCpu::default() }];
            if scoped {
                evidence.scope.netns = vec!["b".into()];
            }
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!(report.findings.len(), told, "{count}");
            assert_eq!(report.ledger.lost, 0);
        }
    }
}
