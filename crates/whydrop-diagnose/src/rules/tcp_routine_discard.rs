//! Duplicates and leftovers of normal TCP life.
//!
//! A FIN left in the send queue of a closed connection, the last segments of a connection in
//! TIME_WAIT, retransmissions that were not needed, keep-alives and window probes, and what was on its
//! way when either end aborted the connection. All of them are seen on healthy hosts and none
//! carries data that anybody still wanted.

use whydrop_model::DropTotal;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct TcpRoutineDiscard;

const ID: &str = "tcp-routine-discard";

const SIGNATURES: &[Signature] = &[
    // A FIN without data: `skb->len` is zero.
    Signature {
        reason: "QUEUE_PURGE",
        symbol: "sk_stream_kill_queues",
        when: |total| total.marks.empty,
    },
    drops("TCP_OLD_DATA", "*"),
    drops("TCP_OLD_SEQUENCE", "*"),
    drops("TCP_OLD_ACK", "*"),
    drops("TCP_OFOMERGE", "*"),
    drops("TCP_OFO_DROP", "*"),
    drops("TCP_RFC7323_PAWS_ACK", "*"),
    drops("TCP_CLOSE", "*"),
    // Data for a connection that its program has closed; where that is more than now and then, it is
    // told before.
    drops("TCP_ABORT_ON_DATA", "*"),
    // Segments for a TIME_WAIT socket. A SYN there would be a refused connection.
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v4_rcv", when: |total| !total.marks.syn },
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v6_rcv", when: |total| !total.marks.syn },
];

/// True for what every healthy connection discards: a sign that something came twice, not that
/// something was lost.
pub(crate) fn is_routine(total: &DropTotal) -> bool {
    SIGNATURES.iter().any(|signature| signature.matches(total))
}

/// Connections that programs here gave up while something was to be read, or without a farewell
/// (`SO_LINGER` with zero): `__tcp_close` and `tcp_disconnect`, `net/ipv4/tcp.c`, 6.18.
const ABORTS: [&str; 2] = ["TcpExt.TCPAbortOnClose", "TcpExt.TCPAbortOnData"];

/// A connection that the peer gave up, `net/ipv4/tcp_input.c`.
const RESET: &str = "tcp:tcp_receive_reset";

/// What was on its way then, or was overtaken on it, meets no socket any more, or a listener that
/// takes it for nonsense. A reset that itself overtook is discarded and asked for again (RFC 5961).
/// As a rule it is one segment for each.
const OVERTAKEN: &[Signature] = &[
    Signature { reason: "NO_SOCKET", symbol: "tcp_v4_rcv", when: |total| !total.marks.syn },
    Signature { reason: "NO_SOCKET", symbol: "tcp_v6_rcv", when: |total| !total.marks.syn },
    Signature { reason: "TCP_FLAGS", symbol: "tcp_v4_do_rcv", when: |total| !total.marks.syn },
    Signature { reason: "TCP_FLAGS", symbol: "tcp_v6_do_rcv", when: |total| !total.marks.syn },
    drops("TCP_RESET", "*"),
];

impl Rule for TcpRoutineDiscard {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
        for namespace in case.namespaces() {
            let aborted: u64 = ABORTS.iter().filter_map(|name| namespace.delta(name)).sum();
            let reset = case
                .evidence()
                .events
                .totals
                .iter()
                .filter(|total| total.event == RESET && total.netns == Some(namespace.inode));
            let aborted = aborted + reset.map(|total| total.packets).sum::<u64>();
            let late = case.claim_up_to(aborted, |total| {
                total.netns == Some(namespace.inode)
                    && OVERTAKEN.iter().any(|signature| signature.matches(total))
            });
            signature::book_claims_as_noise(case, ID, late);
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::EventTotal;

    use super::*;
    use crate::sample;

    /// How many strays are booked as noise where so many connections were aborted.
    fn booked(counter: &str, aborted: u64, strays: u64) -> Option<u64> {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, counter, aborted);
        evidence.tracer.totals = vec![sample::total("NO_SOCKET", "tcp_v4_rcv", strays)];
        let report = crate::diagnose(&evidence, &crate::Thresholds::default());
        let entry = report.ledger.entries.iter().find(|entry| entry.cause == ID);
        entry.map(|entry| entry.packets)
    }

    #[test]
    fn what_the_peers_reset_overtook() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("TCP_FLAGS", "tcp_v4_do_rcv", 2)];
        let mut noise = || {
            let report = crate::diagnose(&evidence, &crate::Thresholds::default());
            let is_noise = report.ledger.entries.iter().all(|entry| entry.cause == ID);
            evidence.events.totals.push(EventTotal {
                event: RESET.into(),
                code: "FIN_WAIT2".into(),
                netns: Some(sample::INODE),
                ifindex: 0,
                device: None,
                family: 2,
                l4: Some(6),
                port: 80,
                packets: 2,
            });
            is_noise
        };
        assert!(!noise());
        assert!(noise());
    }

    #[test]
    fn what_was_on_its_way_when_the_connection_was_aborted() {
        assert_eq!(booked("TcpExt.TCPAbortOnData", 200, 3), Some(3));
        assert_eq!(booked("TcpExt.TCPAbortOnClose", 2, 2), Some(2));
        // More than one for each connection is a peer that does not listen.
        assert_eq!(booked("TcpExt.TCPAbortOnData", 2, 30), Some(2));
        assert_eq!(booked("TcpExt.TCPAbortOnData", 0, 3), None);
        // Nobody gave it up on purpose.
        assert_eq!(booked("TcpExt.TCPAbortOnTimeout", 5, 3), None);
    }
}
