//! Datagrams for a UDP port that nobody has open.
//!
//! Freed as `NO_SOCKET` in the UDP receive function (`net/ipv4/udp.c`, `net/ipv6/udp.c`, 6.18; the
//! function is `udp_rcv` in 7.2), counted in `Udp.NoPorts`. The sender gets an ICMP error, but those
//! are rate limited, so most senders only see silence.

use whydrop_model::{Flow, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct UdpPortClosed;

const ID: &str = "udp-port-closed";

/// What a closed port looks like; a service bound elsewhere looks the same.
pub(super) const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[
        drops("NO_SOCKET", "__udp4_lib_rcv"),
        drops("NO_SOCKET", "__udp6_lib_rcv"),
        drops("NO_SOCKET", "udp_rcv"),
        drops("NO_SOCKET", "udpv6_rcv"),
    ],
    counters: &["Udp.NoPorts", "snmp6.Udp6NoPorts"],
}];

impl Rule for UdpPortClosed {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let port =
                group.ports().map_or("some UDP port".into(), |port| format!("UDP port {port}"));
            Told {
                variant: Some(if group.flows().next().is_some() && group.flows().all(is_late) {
                    "late-reply"
                } else {
                    "no-listener"
                }),
                summary: format!(
                    "Datagrams arrive for {port}, where no program listens{}: start the receiver, or \
                     stop the sender",
                    group.nearby()
                ),
                cure: format!(
                    "Start what should listen on {port}, or stop those who send ({})",
                    group.sources()
                ),
                object: Some(port),
                command: Some("ss -ulnp".into()),
                useless: &["net.core.rmem_max and socket buffers: there is no socket to use them"],
            }
        });
    }
}

/// True for what looks like an answer to a client that has gone: from a port below the range that
/// clients get theirs from, to one within (`net.ipv4.ip_local_port_range`, by default from 32768).
fn is_late(flow: &Flow) -> bool {
    let below = |port: Option<u16>| port.is_some_and(|port| port < 32768);
    below(flow.source.port) && !below(flow.destination.port)
}
