//! Reports with one thing wrong with them, each to be noticed for that one thing.

use whydrop_model::{
    Attach, Confidence, EvidenceItem, EvidenceKind, EvidenceValue, HostFacts, Ledger, LedgerEntry,
    REPORT_SCHEMA, Remedy, ReportWindow, Severity, Site, TracerFacts,
};

use super::*;
use crate::counters::CounterName;

const SCENARIO: &str = r#"
    about = "x"
    topology = "pair"
    quiet = ["lan-chatter"]
    counters = { "b:TcpExt.ListenOverflows" = { min = 20 } }
    server = [{ name = "lab-server", role = "b", port = 9000, backlog = 8 }]
    [[traffic]]
    from = "a"
    to = "lab-server"
    play.http-short = { connections = 10, concurrency = 2 }
    [[expect]]
    cause = "accept-queue-full"
    variant = ["app-backlog", "slow-accept"]
    class = "fault"
    netns = "b"
    server = "lab-server"
    packets-from = ["b:TcpExt.ListenOverflows"]
    [remedy.server.lab-server]
    backlog = 64
"#;

fn scenario() -> Scenario {
    Scenario::parse("test", SCENARIO).unwrap()
}

fn truth(scenario: &Scenario, overflows: u64) -> Truth<'_> {
    let netns = |inode, name: &str| NetnsRef { inode: Some(inode), name: Some(name.into()) };
    let counter = CounterName::try_from("b:TcpExt.ListenOverflows".to_owned()).unwrap();
    Truth {
        scenario,
        namespaces: [("a", netns(10, "lab-a")), ("b", netns(11, "lab-b"))].into(),
        processes: [("lab-server", ProcessRef { pid: 42, comm: "lab-server".into() })].into(),
        played: Played {
            moved: [(counter.clone(), overflows)].into(),
            at_most: [(counter, overflows)].into(),
            traffic: vec![Tally { done: 10, pending: 0, failed: 0 }],
        },
    }
}

fn finding(scenario: &Scenario) -> Finding {
    let truth = truth(scenario, 24);
    Finding {
        cause: "accept-queue-full".into(),
        variant: Some("app-backlog".into()),
        class: Class::Fault,
        layer: "tcp-listen".into(),
        severity: Severity::Critical,
        confidence: Confidence::Confirmed,
        packets: 24,
        site: Site {
            netns: truth.namespaces.get("b").cloned(),
            socket: Some("tcp 10.99.0.2:9000".into()),
            process: truth.processes.get("lab-server").cloned(),
            ..Site::default()
        },
        summary: "x".into(),
        evidence: vec![EvidenceItem {
            kind: EvidenceKind::Counter,
            name: "TcpExt.ListenOverflows".into(),
            value: EvidenceValue::Number(24),
        }],
        remedies: vec![Remedy { summary: "x".into(), commands: Vec::new(), useless: Vec::new() }],
        follows: None,
    }
}

fn report(findings: Vec<Finding>) -> Report {
    let lost = findings.iter().map(|finding| finding.packets).sum();
    let entries = findings.iter().map(|finding| LedgerEntry {
        cause: finding.cause.clone(),
        packets: finding.packets,
        traced: 0,
        counted: finding.packets,
        site: finding.site.clone(),
        noise: false,
    });
    let entries = entries.collect();
    Report {
        schema: REPORT_SCHEMA.into(),
        host: HostFacts { kernel: "6".into(), hostname: "x".into(), cpus: 1 },
        window: ReportWindow { start: "2026-01-01T00:00:00Z".into(), seconds: 1.0 },
        verdict: if findings.is_empty() { Verdict::Clean } else { Verdict::Loss },
        findings,
        ledger: Ledger { lost, explained: lost, entries, ..Ledger::default() },
        tracer: TracerFacts { attach: Attach::TpBtf, events: 0, sampled: 0, lost: 0 },
        not_checked: Vec::new(),
        layers: Vec::new(),
    }
}

fn judge(scenario: &Scenario, report: Report, exit: i32) -> Judgement {
    let overflows = if scenario.healthy { 0 } else { 24 };
    let answer = Answer { exit: Some(exit), report: Ok(Box::new(report)) };
    super::judge(&[truth(scenario, overflows)], &answer)
}

#[test]
fn a_true_report_passes() {
    let scenario = scenario();
    let judgement = judge(&scenario, report(vec![finding(&scenario)]), 1);
    let expected = Judgement {
        got: "accept-queue-full (app-backlog) in b".into(),
        packets_got: Some(24),
        ledger_remainder: Some(0),
        failures: Vec::new(),
    };
    assert_eq!(judgement, expected);
}

#[test]
fn what_is_wrong_is_noticed() {
    type Flaw = fn(&mut Report);
    let flaws: [(Flaw, &str); 17] = [
        (|it| it.findings[0].cause = "syn-queue-full".into(), "accept-queue-full was not found"),
        (|it| it.findings[0].variant = Some("stopped".into()), "variant is stopped, not app-back"),
        (|it| it.findings[0].variant = None, "variant is undecided"),
        (|it| it.findings[0].class = Class::Peer, "class is Peer, not Fault"),
        (|it| it.findings[0].packets = 23, "packets is 23, not 24"),
        (|it| it.findings[0].site.netns = None, "accept-queue-full is not in b but"),
        (|it| it.findings[0].site.socket = Some("tcp 10.99.0.2:90".into()), "socket is tcp 10.99"),
        (|it| it.findings[0].site.process = None, "process is unnamed, not lab-server (42)"),
        (|it| it.findings[0].site.process.as_mut().unwrap().pid = 43, "process is lab-server (43)"),
        (|it| it.findings[0].evidence.clear(), "no evidence"),
        (|it| it.findings[0].remedies.clear(), "no remedy"),
        (|it| it.verdict = Verdict::Incomplete, "verdict is Incomplete, not Loss"),
        (|it| it.schema = "x/2".into(), "schema is x/2"),
        (|it| it.ledger.unexplained = 1, "1 packets are unexplained"),
        (|it| it.ledger.explained = 25, "24 lost, but explained + unexplained is 25"),
        (|it| it.ledger.benign = 2, "26 lost or benign, the entries say 24"),
        (|it| it.findings.clear(), "24 lost, the findings say 0"),
    ];
    let scenario = scenario();
    for (flaw, meant) in flaws {
        let mut report = report(vec![finding(&scenario)]);
        flaw(&mut report);
        let failures = judge(&scenario, report, 1).failures;
        assert!(failures.iter().any(|failure| failure.contains(meant)), "{meant}: {failures:#?}");
    }
}

#[test]
fn any_number_that_the_counters_had_meanwhile_is_right() {
    let scenario = scenario();
    for (packets, right) in [(23, false), (24, true), (26, true), (27, false)] {
        let report = report(vec![Finding { packets, ..finding(&scenario) }]);
        let mut truth = truth(&scenario, 24);
        truth.played.at_most.values_mut().for_each(|value| *value = 26);
        let answer = Answer { exit: Some(1), report: Ok(Box::new(report)) };
        let judgement = super::judge(&[truth], &answer);
        assert_eq!(judgement.failures.is_empty(), right, "{packets}: {judgement:?}");
    }
}

#[test]
fn what_the_tracer_says_it_lost_may_be_missing() {
    let scenario = scenario();
    for (packets, lost, right) in [(22, 2, true), (21, 2, false), (23, 0, false), (25, 2, false)] {
        let mut report = report(vec![Finding { packets, ..finding(&scenario) }]);
        report.tracer.lost = lost;
        let failures = judge(&scenario, report, 1).failures;
        assert_eq!(failures.is_empty(), right, "{packets} {lost}: {failures:?}");
    }
}

#[test]
fn a_second_finding_may_be_one_too_many() {
    let scenario = scenario();
    let with = |cause: &str, class, packets| {
        let site = Site::default();
        let second = Finding { cause: cause.into(), class, packets, site, ..finding(&scenario) };
        judge(&scenario, report(vec![finding(&scenario), second]), 1).failures
    };
    assert_eq!(with("tcp-routine-discard", Class::Benign, 0), [""; 0]);
    let peer = with("tcp-stray-segment", Class::Peer, 3);
    assert!(peer[0].starts_with("found tcp-stray-segment"), "{peer:?}");
    let fault = with("conntrack-table-full", Class::Fault, 3);
    assert!(
        fault[0].starts_with("found conntrack-table-full (app-backlog) in another"),
        "{fault:?}"
    );
    let quiet = with("lan-chatter", Class::Benign, 0);
    assert!(quiet[0].starts_with("found lan-chatter"), "{quiet:?}");
    let unsorted = with("x", Class::Fault, 100);
    assert!(unsorted.iter().any(|failure| failure.contains("not sorted")), "{unsorted:?}");
}

#[test]
fn after_the_remedy_nothing_may_be_found() {
    let lossy = scenario();
    let healthy = scenario().remedied().unwrap();
    assert_eq!(judge(&healthy, report(Vec::new()), 0).failures, [""; 0]);
    let failures = judge(&healthy, report(vec![finding(&lossy)]), 1).failures;
    for meant in
        ["exit status is 1, not 0", "verdict is Loss, not Clean", "found accept-queue-full"]
    {
        assert!(failures.iter().any(|failure| failure.contains(meant)), "{meant}: {failures:#?}");
    }
    let peer = Finding { class: Class::Peer, ..finding(&lossy) };
    let failures = judge(&healthy, report(vec![peer]), 0).failures;
    assert!(failures.iter().any(|failure| failure.starts_with("found")), "{failures:#?}");
}

#[test]
fn a_scenario_that_does_not_do_what_it_claims_is_noticed() {
    let lossy = scenario();
    assert_eq!(truth(&lossy, 24).unproved(), [""; 0]);
    let few = truth(&lossy, 19).unproved();
    assert_eq!(few, ["the lab: b:TcpExt.ListenOverflows grew by 19, at least 20 was meant"]);
    let healthy = scenario().remedied().unwrap();
    let mut truth = truth(&healthy, 1);
    truth.played.traffic[0].pending = 2;
    assert_eq!(truth.unproved().len(), 2);
}

#[test]
fn no_report_is_a_failure() {
    let scenario = scenario();
    let answer = Answer { exit: Some(2), report: Err("it printed no report".into()) };
    let judgement = super::judge(&[truth(&scenario, 24)], &answer);
    assert_eq!(judgement.got, "no report");
    assert_eq!(judgement.failures, ["it printed no report"]);
}

const CHATTER: &str = r#"
    about = "x"
    topology = "pair"
    counters = { "b:dev.veth0.rx_dropped" = 30 }
    [[traffic]]
    name = "frames"
    from = "a"
    play.frames = { rounds = 15, frame = [{ ether.type = 0x88b5 }] }
    [[expect]]
    cause = "lan-chatter"
    class = "benign"
    netns = "b"
    device = "veth0"
    object = "0x88b5"
    packets-from = ["sent:frames", 15]
"#;

/// Thirty frames of noise: 15 that the traffic counted, and 15 that the scenario is sure of.
fn chatter(scenario: &Scenario) -> (Truth<'_>, Report) {
    let mut truth = truth(scenario, 0);
    truth.played.traffic = vec![Tally { done: 15, pending: 0, failed: 0 }];
    let site = Site {
        netns: truth.namespaces.get("b").cloned(),
        device: Some("veth0".into()),
        object: Some("EtherType 0x88b5".into()),
        ..Site::default()
    };
    let cause = "lan-chatter".into();
    let class = Class::Benign;
    let noise =
        Finding { cause, variant: None, class, packets: 30, site, ..finding(&self::scenario()) };
    let mut report = report(vec![noise]);
    report.verdict = Verdict::Clean;
    report.ledger = Ledger { benign: 30, entries: report.ledger.entries, ..Ledger::default() };
    (truth, report)
}

fn failures(truth: &Truth<'_>, report: Report) -> Vec<String> {
    let answer = Answer { exit: Some(0), report: Ok(Box::new(report)) };
    super::judge(std::slice::from_ref(truth), &answer).failures
}

#[test]
fn noise_may_be_a_finding_or_stay_in_the_ledger() {
    let scenario = Scenario::parse("chatter", CHATTER).unwrap();
    let (truth, report) = chatter(&scenario);
    assert_eq!(failures(&truth, report.clone()), [""; 0]);
    let in_ledger = Report { findings: Vec::new(), ..report };
    let answer = Answer { exit: Some(0), report: Ok(Box::new(in_ledger.clone())) };
    let judgement = super::judge(std::slice::from_ref(&truth), &answer);
    assert_eq!((judgement.packets_got, judgement.failures), (Some(30), Vec::new()));

    let mut few = in_ledger;
    few.ledger.entries[0].packets = 29;
    few.ledger.benign = 29;
    let meant = "lan-chatter: the ledger of b has 29 packets of it, not 30";
    assert_eq!(failures(&truth, few), [meant]);
}

#[test]
fn device_and_object_are_held_against_the_site() {
    let scenario = Scenario::parse("chatter", CHATTER).unwrap();
    let (truth, report) = chatter(&scenario);
    let mut elsewhere = report.clone();
    elsewhere.findings[0].site.device = Some("veth1".into());
    assert_eq!(failures(&truth, elsewhere), ["lan-chatter: device is veth1, not veth0"]);
    let mut other = report;
    other.findings[0].site.object = None;
    assert_eq!(failures(&truth, other), ["lan-chatter: object is unnamed, not 0x88b5"]);
}

#[test]
fn of_several_findings_the_one_that_fits_is_meant() {
    let scenario = Scenario::parse("chatter", CHATTER).unwrap();
    let (truth, report) = chatter(&scenario);
    let with_second = |object: &str, packets| {
        let mut report = report.clone();
        let mut second = report.findings[0].clone();
        (second.packets, second.site.object) = (packets, Some(object.into()));
        report.findings.insert(0, second);
        report
    };
    let packets_got = |report: Report| {
        let answer = Answer { exit: Some(0), report: Ok(Box::new(report)) };
        super::judge(std::slice::from_ref(&truth), &answer).packets_got
    };
    assert_eq!(packets_got(with_second("EtherType 0x9999", 40)), Some(30), "by object");
    assert_eq!(packets_got(with_second("EtherType 0x88b5", 40)), Some(30), "by packets");
}
