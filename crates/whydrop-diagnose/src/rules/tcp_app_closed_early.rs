//! The local program closed a connection with data unread or still arriving; the peer gets a reset.
//!
//! `TCP_ABORT_ON_DATA` with `TCPAbortOnData`: data for a connection nobody can read any more
//! (`tcp_rcv_state_process()`, `net/ipv4/tcp_input.c`, 6.18); where the end was acknowledged already,
//! only the reset of a TIME_WAIT socket tells (`tcp:tcp_send_reset`, 6.10). `TCPAbortOnClose`: data was
//! waiting when the program closed (`__tcp_close()`, `net/ipv4/tcp.c`), which drops nothing that could
//! be traced. A few such connections are normal; what stays below the line is noise.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site};

use crate::case::{self, Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::Signature;
use crate::{command, traced};

/// See the module.
pub(super) struct TcpAppClosedEarly;

const ID: &str = "tcp-app-closed-early";
const ON_DATA: &str = "TcpExt.TCPAbortOnData";
const ON_CLOSE: &str = "TcpExt.TCPAbortOnClose";
const RESET: &str = "tcp:tcp_send_reset";
/// `SK_RST_REASON_TCP_TIMEWAIT_SOCKET` (`include/net/rstreason.h`).
const OF_TIME_WAIT: &str = "TCP_TIMEWAIT_SOCKET";

/// Segments for a TIME_WAIT socket that are not SYNs.
const TIME_WAIT: [Signature; 2] = [
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v4_rcv", when: |total| !total.marks.syn },
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v6_rcv", when: |total| !total.marks.syn },
];

impl Rule for TcpAppClosedEarly {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let grown = |name: &str| namespace.delta(name).unwrap_or(0);
            let late = late(case, namespace);
            let opened = grown("Tcp.ActiveOpens") + grown("Tcp.PassiveOpens");
            let least = case.thresholds().aborted_share * opened as f64;
            let worth = |aborts: u64| aborts > 0 && aborts as f64 >= least;
            let (on_data, on_close) = (grown(ON_DATA) + late, grown(ON_CLOSE));
            if worth(on_data) {
                after_close(case, namespace, late);
            }
            if worth(on_close) {
                let counter = EvidenceItem::new(EvidenceKind::Counter, ON_CLOSE, on_close);
                conclude(case, namespace, "on-close", None, vec![counter]);
            }
        }
    }
}

/// Segments that TIME_WAIT sockets answered with a reset: data after both ends had closed.
fn late(case: &Case<'_>, namespace: &Namespace) -> u64 {
    let events = case.evidence().events.totals.iter().filter(|total| {
        total.event == RESET && total.code == OF_TIME_WAIT && total.netns == Some(namespace.inode)
    });
    events.map(|total| total.packets).sum()
}

fn after_close(case: &mut Case<'_>, namespace: &Namespace, late: u64) {
    let here = |netns: Option<u64>| netns == Some(namespace.inode);
    let mut claims = case.claim(|total| total.reason == "TCP_ABORT_ON_DATA" && here(total.netns));
    claims.extend(case.claim_up_to(late, |total| {
        here(total.netns) && TIME_WAIT.iter().any(|signature| signature.matches(total))
    }));
    let mut evidence: Vec<_> = namespace
        .delta(ON_DATA)
        .filter(|grown| *grown > 0)
        .map(|grown| EvidenceItem::new(EvidenceKind::Counter, ON_DATA, grown))
        .into_iter()
        .collect();
    if late > 0 {
        let name = format!("{RESET} {OF_TIME_WAIT}");
        evidence.push(EvidenceItem::new(EvidenceKind::Event, name, late));
    }
    let segments = case::packets(&claims);
    if segments > 0 {
        let name = "segments that came too late";
        evidence.push(EvidenceItem::new(EvidenceKind::Tracer, name, segments));
    }
    let group = traced::gather(case, claims).pop();
    conclude(case, namespace, "on-data", group.as_ref(), evidence);
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    variant: &'static str,
    group: Option<&traced::Group<'_>>,
    evidence: Vec<EvidenceItem>,
) {
    let holder = group.and_then(traced::Group::holder);
    let owner = holder.map_or("A program here".into(), |holder| holder.owner());
    let what = if variant == "on-close" {
        "closes connections with received data unread"
    } else {
        "closes connections whose peers still send"
    };
    let site = case.site_of(Some(namespace.inode));
    let object = holder.map(|holder| format!("program behind {}", holder.name()));
    let site = Site { object, ..site };
    let site = holder.map_or(site.clone(), |holder| holder.at(site));
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant),
            severity: Severity::Notice,
            confidence: Confidence::Confirmed,
            loss: Loss::default(),
            site,
            summary: format!(
                "{owner} {what}; the peers get a reset, and may lose the last answer with it"
            ),
            evidence,
            remedies: vec![Remedy {
                summary: "In the program: shutdown(SHUT_WR), read to the end, then close(); an HTTP server \
                          reads or limits the request's body before it answers"
                    .into(),
                commands: command::within(namespace, "ss -tnp").into_iter().collect(),
                useless: vec![
                    "net.ipv4.tcp_fin_timeout and tcp_tw_reuse: they do not change what close() means"
                        .into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Class, EventTotal, Verdict};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn data_after_the_end_is_told_and_nothing_is_lost() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("TCP_ABORT_ON_DATA", "tcp_v4_do_rcv", 10)];
        sample::count(&mut evidence, "TcpExt.TCPAbortOnData", 10);
        sample::count(&mut evidence, "Tcp.PassiveOpens", 100);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings[0].class, report.findings[0].packets), (Class::Info, 0));
        assert_eq!(report.findings[0].variant.as_deref(), Some("on-data"));
        assert_eq!((report.ledger.lost, report.verdict), (0, Verdict::Clean));
    }

    #[test]
    fn the_reset_of_a_time_wait_socket_tells_it_from_a_leftover() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "tcp_v4_rcv", 10)];
        let noise = diagnose(&evidence, &Thresholds::default());
        assert!(noise.findings.is_empty());
        assert_eq!(noise.ledger.benign, 10);
        evidence.events.totals = vec![EventTotal {
            event: "tcp:tcp_send_reset".into(),
            code: "TCP_TIMEWAIT_SOCKET".into(),
            netns: Some(sample::INODE),
            ifindex: 2,
            device: None,
            family: 2,
            l4: Some(6),
            port: 9000,
            packets: 7,
        }];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].variant.as_deref(), Some("on-data"));
        assert_eq!(report.ledger.benign, 3, "the others were leftovers");
    }

    #[test]
    fn a_few_aborts_are_normal() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("TCP_ABORT_ON_DATA", "tcp_v4_do_rcv", 5)];
        sample::count(&mut evidence, "TcpExt.TCPAbortOnData", 5);
        sample::count(&mut evidence, "TcpExt.TCPAbortOnClose", 5);
        sample::count(&mut evidence, "Tcp.PassiveOpens", 1000);
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.is_empty());
        assert_eq!((report.ledger.benign, report.ledger.unexplained), (5, 0));
    }
}
