use whydrop_model::{Confidence, Evidence, LedgerEntry, Verdict};

use crate::{Thresholds, diagnose, sample};

fn overflow(backlog: u64, course: &[(u64, u32, u64)], refused: u64) -> Evidence {
    let mut evidence = sample::evidence();
    sample::count(&mut evidence, super::OVERFLOWS, refused);
    sample::count(&mut evidence, super::DROPS, refused);
    evidence.tracer.reasons = vec!["NOT_SPECIFIED".into(), "TCP_LISTEN_OVERFLOW".into()];
    evidence.namespaces[0].listeners.push(sample::listener(backlog, refused, course));
    evidence
}

const SAWTOOTH: &[(u64, u32, u64)] =
    &[(0, 0, 0), (100, 6, 20), (400, 0, 20), (700, 6, 40), (900, 0, 40)];

fn variant(evidence: &Evidence) -> String {
    let report = diagnose(evidence, &Thresholds::default());
    let finding = &report.findings[0];
    assert_eq!(finding.cause, "accept-queue-full");
    finding.variant.clone().expect("a variant")
}

#[test]
fn a_burst_against_a_short_backlog_is_the_programs_backlog() {
    let evidence = overflow(5, SAWTOOTH, 40);
    let report = diagnose(&evidence, &Thresholds::default());
    assert_eq!(report.verdict, Verdict::Loss);
    let finding = &report.findings[0];
    assert_eq!(finding.variant.as_deref(), Some("app-backlog"));
    assert_eq!(finding.confidence, Confidence::Confirmed);
    assert_eq!(finding.packets, 40);
    assert_eq!(finding.site.process.as_ref().map(|process| process.pid), Some(77));
    assert_eq!(finding.site.socket.as_deref(), Some("tcp 0.0.0.0:9000"));
    assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
    assert_eq!(report.ledger.entries[0].counted, 40);
}

#[test]
fn the_limit_that_binds_names_the_variant() {
    let mut capped = overflow(8, SAWTOOTH, 40);
    capped.namespaces[0].sysctls.insert("net.core.somaxconn".into(), "8".into());
    assert_eq!(variant(&capped), "somaxconn-cap");

    let mut stale = overflow(128, &[(0, 129, 0), (100, 0, 40)], 40);
    stale.namespaces[0].listeners[0].owners[0].program = Some("nginx".into());
    assert_eq!(variant(&stale), "stale-cap");

    let slow = overflow(5, &[(0, 0, 0), (100, 6, 20), (5000, 5, 40)], 40);
    assert_eq!(variant(&slow), "slow-accept");

    let mut stopped = overflow(5, &[(0, 0, 0), (100, 6, 20)], 40);
    stopped.namespaces[0].listeners[0].owners[0].state = 'T';
    assert_eq!(variant(&stopped), "stopped");
}

#[test]
fn traced_refusals_are_part_of_the_counted_ones() {
    let mut evidence = overflow(5, SAWTOOTH, 40);
    evidence.tracer.totals = vec![
        sample::total("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv", 12),
        sample::total("NO_SOCKET", "cookie_v4_check", 100),
        sample::total("NOT_SPECIFIED", "tcp_v4_rcv", 9),
    ];
    let report = diagnose(&evidence, &Thresholds::default());
    let mine = |entry: &&LedgerEntry| entry.cause == "accept-queue-full";
    let entry = report.ledger.entries.iter().find(mine).expect("an account");
    assert_eq!((entry.packets, entry.traced, entry.counted), (40, 40, 40));
    // 28 of the 100 cookie answers were refused; the other 72 had another reason to fail.
    assert_eq!(report.ledger.unexplained, 72);
    // With a reason of its own for the third ACK, the rest is TIME_WAIT noise.
    assert_eq!(report.ledger.benign, 9);
}

#[test]
fn the_answer_to_a_refused_third_ack_is_no_further_loss() {
    let mut evidence = overflow(5, SAWTOOTH, 40);
    let answer = sample::total("TCP_INVALID_SYN", "tcp_validate_incoming", 7);
    let refused = sample::total("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv", 12);
    evidence.tracer.totals = vec![answer.clone(), refused];
    for (port, lost) in [(9000, 40), (9001, 47)] {
        evidence.tracer.exemplars = vec![sample::exemplar(&answer, port)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.ledger.lost, lost, "from port {port}");
        assert_eq!(report.findings[0].packets, 40);
    }
}

#[test]
fn before_6_15_the_third_ack_has_no_reason() {
    let mut evidence = overflow(5, SAWTOOTH, 40);
    evidence.tracer.reasons = vec!["NOT_SPECIFIED".into()];
    evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "tcp_v4_rcv", 50)];
    let report = diagnose(&evidence, &Thresholds::default());
    assert_eq!(report.ledger.entries[0].traced, 40);
    assert_eq!((report.ledger.lost, report.ledger.benign), (40, 10));
}

#[test]
fn only_the_listener_that_refused_is_named() {
    let mut evidence = overflow(5, SAWTOOTH, 40);
    let mut healthy = sample::listener(128, 0, &[(0, 3, 0)]);
    healthy.port = 9001;
    evidence.namespaces[0].listeners.push(healthy);
    let report = diagnose(&evidence, &Thresholds::default());
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].site.socket.as_deref(), Some("tcp 0.0.0.0:9000"));
}

#[test]
fn refusals_without_a_listener_are_still_accounted_for() {
    let mut evidence = overflow(5, SAWTOOTH, 40);
    evidence.namespaces[0].listeners.clear();
    let report = diagnose(&evidence, &Thresholds::default());
    assert_eq!(report.findings[0].confidence, Confidence::Likely);
    assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
}

#[test]
fn a_full_queue_that_refused_nobody_is_no_finding() {
    let evidence = overflow(5, SAWTOOTH, 0);
    let report = diagnose(&evidence, &Thresholds::default());
    assert_eq!(report.verdict, Verdict::Clean);
    assert!(report.findings.is_empty());
}

#[test]
fn advice_says_what_would_not_help() {
    let report = diagnose(&overflow(5, SAWTOOTH, 40), &Thresholds::default());
    let remedy = &report.findings[0].remedies[0];
    let useless = remedy.useless.join("\n");
    for folklore in ["somaxconn", "tcp_max_syn_backlog", "tcp_tw_reuse"] {
        assert!(useless.contains(folklore), "{folklore} in {useless}");
    }
    // Longest queue 6, at most 20 refused for the first time within a second: twice 26, rounded up.
    assert!(remedy.summary.contains(" to 56 "), "{}", remedy.summary);
}
