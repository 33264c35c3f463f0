//! Segments that belong to no connection, carry impossible flags, or are resets out of place.
//!
//! The peer, or a middlebox between, thinks of a connection that this host does not know or no longer
//! knows: after a restart, a failover, an abort. `TCP_FLAGS` in `tcp_v4_do_rcv` is an ACK that meets a
//! listener. Connection attempts (SYN) are another cause, and what TIME_WAIT sockets discard is noise.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpStraySegment;

const ID: &str = "tcp-stray-segment";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("unknown-connection"),
        signatures: &[
            Signature { reason: "NO_SOCKET", symbol: "tcp_v4_rcv", when: |total| !total.marks.syn },
            Signature { reason: "NO_SOCKET", symbol: "tcp_v6_rcv", when: |total| !total.marks.syn },
        ],
        counters: &[],
    },
    Kind { variant: Some("flags"), signatures: &[drops("TCP_FLAGS", "*")], counters: &[] },
    Kind { variant: Some("reset"), signatures: &[drops("TCP_RESET", "*")], counters: &[] },
    Kind { variant: Some("syn"), signatures: &[drops("TCP_INVALID_SYN", "*")], counters: &[] },
];

impl Rule for TcpStraySegment {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let from = group.sources();
            Told {
                object: variant.map(|variant| format!("TCP segments from {from} ({variant})")),
                summary: format!(
                    "TCP segments from {from} fit no connection here: find what lost its state, a \
                     restarted program or a middlebox"
                ),
                cure: "Look for restarts, failovers and aborting programs at the time; load balancers and \
                       NAT must keep a connection on its path"
                    .into(),
                command: Some("ss -tan".into()),
                useless: &["dropping them in a firewall: the peer then waits instead of being reset"],
                ..Told::default()
            }
        });
    }
}
