//! What every report owes, whatever the scenario: sums that agree, an order, a status that follows
//! from what was found, evidence and remedies.

use whydrop_model::{Class, Finding, Ledger, REPORT_SCHEMA, Report, Verdict};

use super::{Truth, is_loss};

/// Where a report does not keep to it.
pub(super) fn broken(truths: &[Truth<'_>], report: &Report, exit: Option<i32>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut owes = |holds: bool, failure: String| {
        if !holds {
            failures.push(failure);
        }
    };
    let meant = truths.iter().map(|truth| truth.scenario.exit()).max().unwrap_or_default();
    let status = exit.map_or("a signal".into(), |status| status.to_string());
    owes(exit == Some(meant), format!("exit status is {status}, not {meant}"));
    let loss = truths.iter().any(|truth| truth.scenario.verdict() == Verdict::Loss);
    let meant = if loss { Verdict::Loss } else { Verdict::Clean };
    let verdict = report.verdict;
    // With what it rests on: a verdict that is wrong once in a thousand is not seen again.
    let Report { ledger, tracer, window, .. } = report;
    owes(
        verdict == meant,
        format!(
            "verdict is {verdict:?}, not {meant:?} ({} lost and {} noise, {} drops traced and {} \
             missed in {:.3} s)",
            ledger.lost, ledger.benign, tracer.events, tracer.lost, window.seconds
        ),
    );
    owes(report.schema == REPORT_SCHEMA, format!("schema is {}", report.schema));

    let Ledger { lost, explained, unexplained, benign, entries } = &report.ledger;
    owes(*unexplained == 0, format!("ledger: {unexplained} packets are unexplained"));
    let sum = explained + unexplained;
    owes(*lost == sum, format!("ledger: {lost} lost, but explained + unexplained is {sum}"));
    let findings = report.findings.iter().filter(|finding| is_loss(finding.class));
    let sum: u64 = findings.map(|finding| finding.packets).sum();
    owes(sum + unexplained == *lost, format!("ledger: {lost} lost, the findings say {sum}"));
    let sum: u64 = entries.iter().map(|entry| entry.packets).sum();
    let all = lost + benign;
    owes(sum == all, format!("ledger: {all} lost or benign, the entries say {sum}"));

    for finding in &report.findings {
        let cause = &finding.cause;
        owes(!finding.evidence.is_empty(), format!("{cause}: no evidence is given"));
        let remedied = finding.class != Class::Fault || !finding.remedies.is_empty();
        owes(remedied, format!("{cause}: no remedy is given"));
    }
    let faults_first = report.findings.is_sorted_by_key(|it| it.class != Class::Fault);
    let falling =
        |pair: &[Finding]| pair[0].class != pair[1].class || pair[0].packets >= pair[1].packets;
    let sorted = faults_first && report.findings.windows(2).all(falling);
    owes(sorted, "findings are not sorted: faults first, then by packets".into());
    failures
}
