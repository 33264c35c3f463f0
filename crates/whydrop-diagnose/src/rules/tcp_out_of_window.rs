//! TCP segments or ACKs outside what their connection allows.
//!
//! The kernel drops them in `tcp_validate_incoming()`, `tcp_ack()` (`net/ipv4/tcp_input.c`, 6.18) and,
//! in the handshake, `tcp_check_req()` (`net/ipv4/tcp_minisocks.c`). `BeyondWindow` (6.17) counts data
//! beyond the window; `TCP_INVALID_SEQUENCE` alone may be a duplicate before 6.6, which called old
//! segments so too: without the counter the data variant is only likely. A window that shrank because
//! the receiver ran out of memory prunes as well, and is another cause.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpOutOfWindow;

const ID: &str = "tcp-out-of-window";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("data"),
        signatures: &[
            drops("TCP_INVALID_SEQUENCE", "*"),
            drops("TCP_INVALID_END_SEQUENCE", "*"),
            drops("TCP_OVERWINDOW", "*"),
            drops("TCP_ZEROWINDOW", "*"),
        ],
        counters: &["TcpExt.BeyondWindow"],
    },
    Kind {
        variant: Some("ack"),
        signatures: &[
            drops("TCP_ACK_UNSENT_DATA", "*"),
            drops("TCP_TOO_OLD_ACK", "*"),
            drops("TCP_INVALID_ACK_SEQUENCE", "*"),
        ],
        counters: &["TcpExt.TCPChallengeACK", "TcpExt.TCPACKSkippedChallenge"],
    },
];

impl Rule for TcpOutOfWindow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let from = group.sources();
            let port = group.ports().map_or("a TCP port".into(), |port| format!("TCP port {port}"));
            let (what, cure) = if variant == Some("ack") {
                (
                    "acknowledge what was never sent or is long past",
                    "Find what lies between and lost or rewrote the connection's numbers: a failover, a \
                     load balancer or firewall without the state, sequence randomisation on one side only",
                )
            } else {
                (
                    "lie outside the receive window",
                    "Capture one connection on both sides of every middlebox and compare the numbers; a \
                     sender that goes on sending into a closed window has a broken TCP",
                )
            };
            Told {
                object: Some(format!("TCP segments from {from} to {port}")),
                summary: format!(
                    "Segments from {from} to {port} {what}: look at the sender, or a middlebox that \
                     rewrites sequence numbers"
                ),
                cure: cure.into(),
                command: Some(format!(
                    "tcpdump -c 50 -nnS -i {} tcp",
                    group.device.unwrap_or("any")
                )),
                useless: &[
                    "TCP sysctls and buffers: no setting makes the kernel accept such a segment",
                    "net.netfilter.nf_conntrack_tcp_be_liberal: it is about the firewall's state, not the \
                     socket's",
                ],
                ..Told::default()
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Confidence;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_counter_confirms_data_beyond_the_window() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals =
            vec![sample::total("TCP_INVALID_SEQUENCE", "tcp_validate_incoming", 25)];
        let likely = diagnose(&evidence, &Thresholds::default());
        assert_eq!(likely.findings[0].confidence, Confidence::Likely);
        sample::count(&mut evidence, "TcpExt.BeyondWindow", 25);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].variant.as_deref(), Some("data"));
        assert_eq!(report.findings[0].confidence, Confidence::Confirmed);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (25, 0));
    }

    #[test]
    fn duplicates_and_keep_alives_are_no_part_of_it() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("TCP_OLD_SEQUENCE", "tcp_validate_incoming", 25),
            sample::total("TCP_OLD_ACK", "tcp_ack", 5),
        ];
        assert!(diagnose(&evidence, &Thresholds::default()).findings.is_empty());
    }
}
