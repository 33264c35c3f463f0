//! Duplicates and leftovers of normal TCP life.
//!
//! A FIN left in the send queue of a closed connection, the last segments of a connection in
//! TIME_WAIT, retransmissions that were not needed, keep-alives and window probes. All of them are
//! seen on healthy hosts and none carries data that was not delivered.

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
    // Segments for a TIME_WAIT socket. A SYN there would be a refused connection.
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v4_rcv", when: |total| !total.marks.syn },
    Signature { reason: "NOT_SPECIFIED", symbol: "tcp_v6_rcv", when: |total| !total.marks.syn },
];

/// True for what every healthy connection discards: a sign that something came twice, not that
/// something was lost.
pub(crate) fn is_routine(total: &DropTotal) -> bool {
    SIGNATURES.iter().any(|signature| signature.matches(total))
}

impl Rule for TcpRoutineDiscard {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
    }
}
