//! Which limit refused memory to a socket: its own buffer, its control group's, or the protocol's.
//!
//! All three drop as `PROTO_MEM`. A limit beyond the socket's own buffer also makes the tracepoint
//! `sock:sock_exceed_buf_limit` fire (`__sk_mem_raise_allocated()`, `net/core/sock.c`, 6.18), and the
//! memory of the whole protocol tells the two that are left apart.

use whydrop_model::{DropTotal, Evidence, ProtocolMemory};

use crate::case::{self, Case};
use crate::traced::{self, Group};

/// The tracepoint that fires when memory beyond the socket's own buffer is refused.
pub(crate) const EVENT: &str = "sock:sock_exceed_buf_limit";
/// Share of the limit at which the protocol counts as being at it: the last look may have come a
/// little before or after the peak.
const NEARLY: (u64, u64) = (9, 10);

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `tcp_mem` or `udp_mem`, of the whole host.
    Protocol,
    /// The control group.
    Group,
    /// The socket's own receive buffer.
    Buffer,
}

/// True for packets refused for lack of memory, of this protocol (6 or 17).
fn is_refused(total: &DropTotal, l4: u8) -> bool {
    let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
    let by_name = if symbol.contains("udp") { 17 } else { 6 };
    let of = total.l4.unwrap_or(by_name);
    of == l4 && matches!(total.reason.as_str(), "PROTO_MEM" | "TCP_OFO_QUEUE_PRUNE")
}

/// Which limit it was in a namespace, for this protocol.
fn limit(evidence: &Evidence, netns: Option<u64>, l4: u8) -> Limit {
    if memory(evidence, l4).is_some_and(is_at_limit) {
        return Limit::Protocol;
    }
    let events = &evidence.events;
    let fired = events
        .totals
        .iter()
        .any(|one| one.event == EVENT && one.netns == netns && one.l4.is_none_or(|it| it == l4));
    // UDP says SOCKET_RCVBUFF when its own buffer is full: one of the two limits beyond it refused.
    let not_all = memory(evidence, l4).is_some_and(|memory| memory.limits.is_some());
    match l4 {
        17 if fired || not_all => Limit::Group,
        17 => Limit::Protocol,
        _ if fired => Limit::Group,
        _ => Limit::Buffer,
    }
}

/// The memory of the protocol; `None` if it could not be read.
pub(crate) fn memory(evidence: &Evidence, l4: u8) -> Option<&ProtocolMemory> {
    let name = if l4 == 17 { "UDP" } else { "TCP" };
    evidence.protocol_memory.iter().find(|memory| memory.protocol == name)
}

fn is_at_limit(memory: &ProtocolMemory) -> bool {
    let (part, whole) = NEARLY;
    memory
        .limits
        .is_some_and(|[_, _, most]| memory.peak.saturating_mul(whole) >= most.saturating_mul(part))
}

/// Takes the packets of this protocol that this limit refused, by namespace; with those of TCP what
/// lay beyond a window that shrank for lack of memory.
pub(crate) fn take<'e>(case: &mut Case<'e>, l4: u8, by: Limit) -> Vec<Group<'e>> {
    let evidence = case.evidence();
    let claims =
        case.claim(|total| is_refused(total, l4) && limit(evidence, total.netns, l4) == by);
    let mut groups = Vec::new();
    for (netns, mut claims) in case::by_netns(claims) {
        let shrank = |total: &DropTotal| {
            let beyond = matches!(
                total.reason.as_str(),
                "TCP_INVALID_SEQUENCE" | "TCP_INVALID_END_SEQUENCE"
            );
            l4 == 6 && beyond && total.netns == netns
        };
        claims.extend(case.claim(shrank));
        groups.extend(traced::gather(case, claims));
    }
    groups
}
