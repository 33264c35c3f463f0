//! TCP segments whose timestamp is too old, or echoes one that was never sent (RFC 7323).
//!
//! Each variant has a reason and a counter of its own: running connections in
//! `tcp_validate_incoming()` (`net/ipv4/tcp_input.c`, 6.18) with `PAWSEstab`, SYNs and segments that
//! meet a TIME_WAIT socket in `tcp_timewait_state_process()` (`net/ipv4/tcp_minisocks.c`) with
//! `PAWSTimewait` (6.15), the handshake's last ACK in `tcp_check_req()` with `TSEcrRejected` (6.15).
//! Reordered pure ACKs have a reason of their own and are noise.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpTimestampRejected;

const ID: &str = "tcp-timestamp-rejected";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("established"),
        signatures: &[drops("TCP_RFC7323_PAWS", "*")],
        counters: &["TcpExt.PAWSEstab"],
    },
    Kind {
        variant: Some("time-wait"),
        signatures: &[drops("TCP_RFC7323_TW_PAWS", "*")],
        counters: &["TcpExt.PAWSTimewait"],
    },
    Kind {
        variant: Some("tsecr"),
        signatures: &[drops("TCP_RFC7323_TSECR", "*")],
        counters: &["TcpExt.TSEcrRejected"],
    },
];

impl Rule for TcpTimestampRejected {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let from = group.sources();
            let port = group.ports().map_or("a TCP port".into(), |port| format!("TCP port {port}"));
            let (what, cure) = match variant {
                Some("tsecr") => (
                    "echo timestamps that this host never sent",
                    "Find the middlebox that rewrites TCP timestamps or answers in the client's place",
                ),
                Some("time-wait") => (
                    "reuse a port within a minute and with an older clock",
                    "Give the NAT or load balancer at that address more source ports or addresses, so that \
                     none is reused within 60 s by a host with another clock; or keep connections open",
                ),
                _ => (
                    "carry older timestamps than were seen before",
                    "Look for two hosts behind one address and port, or a device that rewrites timestamps: \
                     segments of one connection must come from one clock",
                ),
            };
            Told {
                object: Some(format!("TCP segments from {from} to {port}")),
                summary: format!(
                    "Segments from {from} to {port} {what}; the kernel takes them for leftovers of an older \
                     connection"
                ),
                cure: cure.into(),
                command: Some(format!(
                    "tcpdump -c 50 -nnv -i {} tcp",
                    group.device.unwrap_or("any")
                )),
                useless: &[
                    "net.ipv4.tcp_tw_reuse: it is about connections that this host opens",
                    "net.ipv4.tcp_timestamps=0 hides it, and takes protection against old duplicates and \
                     exact round trips with it: the last resort",
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
    fn each_reason_is_a_variant_and_its_counter_confirms_it() {
        for (reason, symbol, counter, variant) in [
            ("TCP_RFC7323_PAWS", "tcp_validate_incoming", "TcpExt.PAWSEstab", "established"),
            ("TCP_RFC7323_TW_PAWS", "tcp_v4_rcv", "TcpExt.PAWSTimewait", "time-wait"),
            ("TCP_RFC7323_TSECR", "tcp_v6_rcv", "TcpExt.TSEcrRejected", "tsecr"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total(reason, symbol, 7)];
            sample::count(&mut evidence, counter, 7);
            let report = diagnose(&evidence, &Thresholds::default());
            let finding = &report.findings[0];
            assert_eq!(finding.variant.as_deref(), Some(variant));
            assert_eq!((finding.packets, finding.confidence), (7, Confidence::Confirmed));
        }
    }

    #[test]
    fn reordered_acks_are_noise() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals =
            vec![sample::total("TCP_RFC7323_PAWS_ACK", "tcp_validate_incoming", 9)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.is_empty());
        assert_eq!(report.ledger.benign, 9);
    }
}
