//! There are more connections in TIME_WAIT than the host keeps, and some are forgotten early.
//!
//! `TCPTimeWaitOverflow` (`tcp_time_wait()`, `net/ipv4/tcp_minisocks.c`, 6.18): the connection is closed
//! without its rest in TIME_WAIT. Nothing is lost by that; a late segment of it then meets the listener
//! and is answered with a reset.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::cure::rounded_up;
use crate::rule::Rule;

/// See the module.
pub(super) struct TimeWaitOverflow;

const ID: &str = "time-wait-overflow";
const COUNTER: &str = "TcpExt.TCPTimeWaitOverflow";
const SYSCTL: &str = "net.ipv4.tcp_max_tw_buckets";
/// How long a connection rests (`TCP_TIMEWAIT_LEN`, `include/net/tcp.h`).
const REST_MILLIS: u64 = 60_000;

impl Rule for TimeWaitOverflow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(missed) = namespace.delta(COUNTER).filter(|missed| *missed > 0) else {
                continue;
            };
            let limit = namespace.sysctl(SYSCTL).and_then(|limit| u64::try_from(limit).ok());
            let rested = namespace.delta("TcpExt.TW").unwrap_or(0);
            let millis = (case.evidence().window.length().as_millis() as u64).max(1);
            let needed = (missed + rested).saturating_mul(REST_MILLIS * 3 / 2) / millis;
            let needed = rounded_up(needed.max(limit.unwrap_or(0) + missed));
            let state = |name: &str, value| EvidenceItem::new(EvidenceKind::State, name, value);
            let mut evidence = vec![EvidenceItem::new(EvidenceKind::Counter, COUNTER, missed)];
            evidence.extend(limit.map(|limit| state(SYSCTL, limit)));
            let now = namespace.gauges.get("sockstat.TCP.tw").map(|pair| pair.after);
            evidence.extend(now.map(|now| state("connections in TIME_WAIT at the end", now)));
            let raise = command::within(namespace, &format!("sysctl -w {SYSCTL}={needed}"));
            case.conclude(
                ID,
                Conclusion {
                    variant: None,
                    severity: Severity::Notice,
                    confidence: Confidence::Confirmed,
                    loss: Loss::default(),
                    site: Site {
                        object: Some(format!("sysctl {SYSCTL}")),
                        ..case.site_of(Some(namespace.inode))
                    },
                    summary: format!(
                        "{missed} closed connections found no room in TIME_WAIT and were forgotten at once; \
                         late segments of them are answered with resets"
                    ),
                    evidence,
                    remedies: vec![Remedy {
                        summary: format!(
                            "Raise {SYSCTL} to {needed} (closed connections a second, times 60 s, and half as \
                             much again), or let clients keep connections open or close first"
                        ),
                        commands: raise.into_iter().collect(),
                        useless: vec![
                            "net.ipv4.tcp_fin_timeout: it is about FIN_WAIT_2, not TIME_WAIT".into(),
                            "net.ipv4.tcp_tw_reuse: it is about connections that this host opens".into(),
                        ],
                    }],
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_limit_is_sized_by_the_rate() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.TCPTimeWaitOverflow", 1000);
        sample::count(&mut evidence, "TcpExt.TW", 200);
        let report = diagnose(&evidence, &Thresholds::default());
        // 1200 in ten seconds: 120 a second, 10800 to be kept, rounded up.
        let commands = &report.findings[0].remedies[0].commands;
        assert!(commands[0].ends_with("tcp_max_tw_buckets=12288"), "{commands:?}");
        assert_eq!(report.ledger.lost, 0);
    }
}
