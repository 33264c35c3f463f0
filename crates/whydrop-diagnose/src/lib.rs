//! From evidence to the cause of packet loss.
//!
//! [`diagnose`] is a pure function: it reads no file, asks no kernel and knows no clock, so that a
//! recorded [`Evidence`] gives the same [`Report`] byte for byte, anywhere. Knowledge is data in
//! `knowledge/`; each cause has a rule in `rules/`.

pub mod attribute;
pub mod case;
pub mod causes;
mod command;
mod conntrack;
mod counted;
pub mod counters;
mod cpus;
pub mod cure;
mod doubts;
mod fib;
mod firewall;
mod hearers;
mod holders;
pub mod knowledge;
mod layers;
mod listen;
mod memory_limit;
pub mod nic;
mod nic_loss;
mod programs;
mod qdisc;
mod queues;
mod raw;
pub mod reasons;
mod receive;
mod remainder;
mod retransmits;
mod ring;
pub mod rule;
pub mod rules;
#[cfg(test)]
mod sample;
mod share;
pub mod signature;
mod tc;
mod thresholds;
mod traced;
mod unnamed;
mod xdp;

use whydrop_model::{
    Attach, Class, Evidence, Finding, HostFacts, Ledger, LedgerEntry, REPORT_SCHEMA, Report,
    ReportWindow, TracerFacts, Verdict,
};

use case::Case;
pub use queues::queues;
pub use thresholds::{Refused, Threshold, Thresholds};

/// Id of the account for what no rule explains.
pub const UNEXPLAINED: &str = "unexplained";

/// Explains every loss in the evidence, each under one cause.
#[must_use]
pub fn diagnose(evidence: &Evidence, thresholds: &Thresholds) -> Report {
    let evidence = &*unnamed::named(evidence);
    let mut case = Case::new(evidence, *thresholds);
    for rule in rules::RULES {
        rule.check(&mut case);
    }
    counted::book(&mut case);
    remainder::book(&mut case);
    let (mut findings, entries, unknown) = case.close();
    let doubts = doubts::about(evidence, &entries);
    findings.sort_by_key(rank);
    let ledger = ledger(entries);
    let layers = layers::verdicts(evidence, &findings, &ledger);
    Report {
        schema: REPORT_SCHEMA.into(),
        host: HostFacts {
            kernel: evidence.host.kernel.clone(),
            hostname: evidence.host.hostname.clone(),
            cpus: evidence.host.cpus,
        },
        window: ReportWindow {
            start: evidence.window.start.clone(),
            seconds: evidence.window.seconds,
        },
        verdict: verdict(evidence, &findings),
        findings,
        ledger,
        tracer: TracerFacts {
            attach: evidence.tracer.attach,
            events: evidence.tracer.events,
            sampled: evidence.tracer.sampled,
            lost: evidence.tracer.lost,
        },
        not_checked: evidence.not_checked.iter().cloned().chain(unknown).chain(doubts).collect(),
        layers,
    }
}

/// Faults first, then the other classes; within each the most packets first; then by place, so that
/// equal evidence gives equal reports.
fn rank(finding: &Finding) -> impl Ord + use<> {
    let netns = finding.site.netns.as_ref().and_then(|netns| netns.inode);
    (
        finding.class,
        std::cmp::Reverse(finding.packets),
        finding.cause.clone(),
        netns,
        finding.site.object.clone(),
        finding.site.socket.clone(),
    )
}

/// True for classes whose packets count as lost.
fn is_loss(class: Class) -> bool {
    matches!(class, Class::Fault | Class::Policy | Class::Peer)
}

fn ledger(mut entries: Vec<LedgerEntry>) -> Ledger {
    entries.sort_by(|a, b| {
        let place = |entry: &LedgerEntry| (entry.site.netns.clone(), entry.site.object.clone());
        b.packets.cmp(&a.packets).then(a.cause.cmp(&b.cause)).then(place(a).cmp(&place(b)))
    });
    let mut ledger = Ledger::default();
    for entry in &entries {
        if entry.cause == UNEXPLAINED {
            ledger.unexplained += entry.packets;
            continue;
        }
        match causes::find(&entry.cause).map(|cause| cause.class) {
            Some(class) if is_loss(class) => ledger.explained += entry.packets,
            Some(Class::Benign) => ledger.benign += entry.packets,
            Some(_) | None => {}
        }
    }
    ledger.lost = ledger.explained + ledger.unexplained;
    ledger.entries = entries;
    ledger
}

/// Whether the functions that dropped packets have no names: hardly a cause is known without.
fn nameless(tracer: &whydrop_model::TracerEvidence) -> bool {
    let mut sites = tracer.totals.iter().filter_map(|total| total.site.as_ref()).peekable();
    sites.peek().is_some() && sites.all(|site| site.symbol.is_empty())
}

fn verdict(evidence: &Evidence, findings: &[Finding]) -> Verdict {
    if findings.iter().any(|finding| is_loss(finding.class) && finding.packets > 0) {
        return Verdict::Loss;
    }
    let tracer = &evidence.tracer;
    let unreadable = |namespace: &whydrop_model::Namespace| namespace.counters.is_empty();
    if tracer.attach == Attach::None
        || tracer.lost > 0
        || nameless(tracer)
        || evidence.namespaces.is_empty()
        || evidence.namespaces.iter().any(unreadable)
    {
        return Verdict::Incomplete;
    }
    Verdict::Clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Tcp.InSegs", 1000);
        evidence
    }

    #[test]
    fn nothing_lost_is_clean() {
        let report = diagnose(&quiet(), &Thresholds::default());
        assert_eq!(report.verdict, Verdict::Clean);
        assert_eq!(report.ledger, Ledger::default());
    }

    #[test]
    fn a_missing_source_is_incomplete_unless_something_was_found() {
        let mut evidence = quiet();
        evidence.tracer.attach = Attach::None;
        assert_eq!(diagnose(&evidence, &Thresholds::default()).verdict, Verdict::Incomplete);
        sample::count(&mut evidence, "TcpExt.ListenOverflows", 3);
        assert_eq!(diagnose(&evidence, &Thresholds::default()).verdict, Verdict::Loss);

        let mut lossy = quiet();
        lossy.tracer.lost = 1;
        assert_eq!(diagnose(&lossy, &Thresholds::default()).verdict, Verdict::Incomplete);

        let mut nameless = quiet();
        nameless.tracer.totals.push(sample::total("OTHERHOST", "", 5));
        assert_eq!(diagnose(&nameless, &Thresholds::default()).verdict, Verdict::Incomplete);
    }

    #[test]
    fn noise_is_counted_and_never_lost() {
        let mut evidence = quiet();
        let mut fin = sample::total("QUEUE_PURGE", "sk_stream_kill_queues", 500);
        fin.marks.empty = true;
        let mut joined = sample::total("NOT_SPECIFIED", "ip_rcv_finish_core", 3);
        joined.marks.multicast = true;
        evidence.tracer.totals = vec![fin, joined];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.verdict, Verdict::Clean);
        assert_eq!((report.ledger.benign, report.ledger.lost), (503, 0));
        assert_eq!(report.ledger.entries.len(), 2);
    }

    #[test]
    fn what_no_rule_explains_is_shown_as_such() {
        let mut evidence = quiet();
        evidence.tracer.totals = vec![sample::total("A_REASON_OF_TOMORROW", "some_function", 26)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, UNEXPLAINED);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (26, 26));
        assert_eq!(report.ledger.lost, report.ledger.explained + report.ledger.unexplained);
    }

    #[test]
    fn a_unicast_packet_without_a_route_is_not_multicast_noise() {
        let mut evidence = quiet();
        evidence.tracer.totals = vec![sample::total("IP_INNOROUTES", "ip6_pkt_discard", 2)];
        let ledger = diagnose(&evidence, &Thresholds::default()).ledger;
        assert_eq!((ledger.lost, ledger.benign), (2, 0));
    }
}
