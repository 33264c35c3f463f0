//! Connection attempts to a TCP port nobody listens on.
//!
//! A SYN freed as `NO_SOCKET` in `tcp_v4_rcv` or `tcp_v6_rcv` (`net/ipv4/tcp_ipv4.c`, 6.18); the
//! client is answered with a reset and sees "connection refused". Segments without SYN in the same
//! place belong to no connection and are another cause.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::Signature;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpPortClosed;

const ID: &str = "tcp-port-closed";

/// What a closed port looks like; a service bound elsewhere looks the same.
pub(super) const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[
        Signature { reason: "NO_SOCKET", symbol: "tcp_v4_rcv", when: |total| total.marks.syn },
        Signature { reason: "NO_SOCKET", symbol: "tcp_v6_rcv", when: |total| total.marks.syn },
    ],
    counters: &["Tcp.OutRsts"],
}];

impl Rule for TcpPortClosed {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let port =
                group.ports().map_or("some TCP port".into(), |port| format!("TCP port {port}"));
            Told {
                summary: format!(
                    "Clients are refused on {port}, where no program listens{}: start the service, or \
                     stop the clients",
                    group.nearby()
                ),
                cure: format!(
                    "Start what should listen on {port}, or stop those who connect ({})",
                    group.sources()
                ),
                object: Some(port),
                command: Some("ss -ltnp".into()),
                useless: &["net.core.somaxconn and backlogs: there is no listener to have one"],
                ..Told::default()
            }
        });
    }
}
