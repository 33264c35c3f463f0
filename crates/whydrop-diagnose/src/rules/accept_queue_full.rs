//! A listener's accept queue is full and new connections are refused.
//!
//! Three ways to be refused, all counted in `TcpExt.ListenOverflows` (`net/ipv4/tcp_input.c`,
//! `tcp_ipv4.c`, `syncookies.c`, 6.18): a SYN, which is consumed and never traced; the third ACK of
//! a handshake (`TCP_LISTEN_OVERFLOW`, 6.15+); the ACK that answers a SYN cookie (`NO_SOCKET` in
//! `cookie_v4_check`). So the counter is the number, and what was traced is a part of it.
//!
//! Look-alikes: a full SYN queue moves `ListenDrops` alone; a cookie ACK with a bad cookie has the
//! same signature but moves `SyncookiesFailed`; both are left to other rules because only as many
//! drops are taken here as `ListenOverflows` grew.

mod advice;

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Listener, Namespace, Process, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::listen::{self, Course};
use crate::programs;
use crate::rule::Rule;

/// See the module.
pub(super) struct AcceptQueueFull;

const ID: &str = "accept-queue-full";
const OVERFLOWS: &str = "TcpExt.ListenOverflows";
const DROPS: &str = "TcpExt.ListenDrops";
const SOMAXCONN: &str = "net.core.somaxconn";

/// What keeps the queue from being long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Stopped,
    SlowAccept,
    SomaxconnCap,
    StaleCap,
    AppBacklog,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::SlowAccept => "slow-accept",
            Self::SomaxconnCap => "somaxconn-cap",
            Self::StaleCap => "stale-cap",
            Self::AppBacklog => "app-backlog",
        }
    }
}

/// One listener's part of the refusals, with all that is known about it.
struct Refusals<'e> {
    namespace: &'e Namespace,
    listener: &'e Listener,
    course: Course,
    variant: Variant,
    /// All refusals in the namespace.
    in_namespace: u64,
    packets: u64,
    traced: u64,
}

impl Rule for AcceptQueueFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let counted = case.unbooked(namespace, OVERFLOWS);
            let traced = take_traced(case, namespace, counted);
            // Without the counter the trace is all there is; it misses refused SYNs.
            let refused = counted.unwrap_or(0).max(traced);
            if refused > 0 {
                case.book(namespace, OVERFLOWS, refused);
                case.book(namespace, DROPS, refused);
                place(case, namespace, refused, traced, counted.unwrap_or(0));
            }
        }
    }
}

/// Takes the traced part of the refusals, and no more than were counted.
fn take_traced(case: &mut Case<'_>, namespace: &Namespace, counted: Option<u64>) -> u64 {
    let here = |total: &DropTotal| total.netns == Some(namespace.inode);
    let certain = case.claim(|total| here(total) && total.reason == "TCP_LISTEN_OVERFLOW");
    let mut traced = packets(&certain);
    let mut left = counted.unwrap_or(0).saturating_sub(traced);
    let cookie = |total: &DropTotal| {
        here(total)
            && total.reason == "NO_SOCKET"
            && matches!(symbol(total), "cookie_v4_check" | "cookie_v6_check")
    };
    let taken = packets(&case.claim_up_to(left, cookie));
    traced += taken;
    left -= taken;
    // Kernels without the reason (before 6.15) free the third ACK without one, in the same function
    // as segments for TIME_WAIT sockets.
    if !case.evidence().tracer.knows_reason("TCP_LISTEN_OVERFLOW") {
        let third_ack = |total: &DropTotal| {
            here(total)
                && total.reason == "NOT_SPECIFIED"
                && matches!(symbol(total), "tcp_v4_rcv" | "tcp_v6_rcv")
                && !total.marks.syn
        };
        traced += packets(&case.claim_up_to(left, third_ack));
    }
    traced
}

fn symbol(total: &DropTotal) -> &str {
    total.site.as_ref().map_or("", |site| &site.symbol)
}

/// Gives each listener its part, and books it.
fn place(case: &mut Case<'_>, namespace: &Namespace, refused: u64, traced: u64, counted: u64) {
    let was_full = |listener: &Listener| Course::of(listener, case.evidence()).full;
    let any_full = namespace.listeners.iter().any(|one| one.drops.delta32() > 0 && was_full(one));
    let weight = |listener: &Listener| {
        // Listeners refuse for other reasons too; those that were seen full come first.
        if any_full && !was_full(listener) { 0 } else { listener.drops.delta32() }
    };
    let parts = listen::split(refused, namespace, weight);
    if parts.is_empty() {
        book_unplaced(case, namespace, refused, traced, counted);
        return;
    }
    let mut traced_left = traced;
    let mut refused_left = refused;
    for (listener, packets) in parts {
        let own = (u128::from(traced_left) * u128::from(packets) / u128::from(refused_left)) as u64;
        traced_left -= own;
        refused_left -= packets;
        let course = Course::of(listener, case.evidence());
        let variant = variant(case, namespace, listener, &course);
        let refusals = Refusals {
            namespace,
            listener,
            course,
            variant,
            in_namespace: refused,
            packets,
            traced: own,
        };
        book(case, &refusals, counted);
    }
}

/// Which of the limits bound. A stopped process explains a slow one, a slow one explains a full
/// queue of any length; only a queue that fills and drains is too short.
fn variant(
    case: &Case<'_>,
    namespace: &Namespace,
    listener: &Listener,
    course: &Course,
) -> Variant {
    if listener.owners.first().is_some_and(is_stopped) {
        return Variant::Stopped;
    }
    if course.pinned >= case.thresholds().pinned() {
        return Variant::SlowAccept;
    }
    let backlog = listener.backlog.after;
    let somaxconn = namespace.sysctl(SOMAXCONN).and_then(|cap| u64::try_from(cap).ok());
    if somaxconn == Some(backlog) {
        return Variant::SomaxconnCap;
    }
    let asks = listener.owners.iter().find_map(|owner| programs::usual_backlog(owner, somaxconn));
    let was_a_cap = matches!(backlog, 128 | 1024 | 4096);
    if was_a_cap && asks.is_some_and(|usual| usual > backlog) {
        return Variant::StaleCap;
    }
    Variant::AppBacklog
}

fn is_stopped(process: &Process) -> bool {
    matches!(process.state, 'T' | 't')
}

fn book(case: &mut Case<'_>, refusals: &Refusals<'_>, counted: u64) {
    let Refusals { namespace, listener, packets, traced, .. } = *refusals;
    let site = Site {
        netns: Some(case.netns_ref(namespace.inode)),
        device: None,
        socket: Some(format!("tcp {}", listener.endpoint())),
        process: listener.process(),
        object: Some(advice::object(refusals)),
    };
    let counted = if counted == 0 { 0 } else { packets };
    if traced > 0 {
        take_answers(case, listener, &site);
    }
    case.conclude(
        ID,
        Conclusion {
            variant: Some(refusals.variant.name()),
            severity: Severity::Critical,
            confidence: confidence(refusals, counted),
            loss: Loss { packets, traced, counted },
            site,
            summary: advice::summary(refusals),
            evidence: proof(refusals, counted),
            remedies: advice::remedies(refusals),
        },
    );
}

/// Takes what follows from a refused third ACK where the client is on this host too: the listener
/// sends its SYN-ACK again, and the client, which thinks itself connected, discards it
/// (`TCP_INVALID_SYN`, `tcp_validate_incoming()`, `net/ipv4/tcp_input.c`, 6.18). Not a further loss.
fn take_answers(case: &mut Case<'_>, listener: &Listener, site: &Site) {
    let evidence = case.evidence();
    let answers = case.claim(|total| {
        total.reason == "TCP_INVALID_SYN"
            && !total.marks.syn
            && evidence.shows(total, |flow| {
                let (address, port) = (flow.source.address, flow.source.port);
                port == Some(listener.port)
                    && (listener.address.is_unspecified() || listener.address == address)
            })
    });
    let loss = Loss { packets: 0, traced: packets(&answers), counted: 0 };
    if loss.traced > 0 {
        case.account(ID, loss, site.clone());
    }
}

/// The counter says so; the listener's own state has to agree for certainty.
fn confidence(refusals: &Refusals<'_>, counted: u64) -> Confidence {
    let state_agrees = refusals.course.full
        || u64::from(refusals.listener.peak()) >= refusals.listener.backlog.after.max(1);
    if counted > 0 && state_agrees { Confidence::Confirmed } else { Confidence::Likely }
}

fn proof(refusals: &Refusals<'_>, counted: u64) -> Vec<EvidenceItem> {
    use EvidenceKind::{Counter, State, Tracer};
    let Refusals { listener, course, .. } = refusals;
    let endpoint = listener.endpoint();
    let mut proof = Vec::new();
    if counted > 0 {
        proof.push(EvidenceItem::new(Counter, OVERFLOWS, refusals.in_namespace));
    }
    let drops = format!("drops of listener {endpoint}");
    proof.push(EvidenceItem::new(Counter, drops, listener.drops.delta32()));
    proof.push(EvidenceItem::new(
        State,
        format!("accept queue of {endpoint}, longest seen against backlog (Recv-Q, Send-Q)"),
        format!("{} of {}", listener.peak(), listener.backlog.after),
    ));
    if !course.pinned.is_zero() {
        let millis = course.pinned.as_millis() as u64;
        proof.push(EvidenceItem::new(
            State,
            "milliseconds without draining below the backlog",
            millis,
        ));
    }
    if let Some(cap) = advice::somaxconn(refusals) {
        proof.push(EvidenceItem::new(State, SOMAXCONN, cap));
    }
    if refusals.traced > 0 {
        let late = "refused at the end of the handshake (third ACK or cookie ACK)";
        proof.push(EvidenceItem::new(Tracer, late, refusals.traced));
    }
    if let Some(process) = listener.owners.first().filter(|process| is_stopped(process)) {
        let name = format!("state of pid {}", process.pid);
        proof.push(EvidenceItem::new(State, name, process.state.to_string()));
    }
    proof
}

/// Refusals in a namespace none of whose listeners shows any: it is gone, or could not be read.
fn book_unplaced(
    case: &mut Case<'_>,
    namespace: &Namespace,
    refused: u64,
    traced: u64,
    counted: u64,
) {
    let (kind, name) = if counted > 0 {
        (EvidenceKind::Counter, OVERFLOWS)
    } else {
        (EvidenceKind::Tracer, "TCP_LISTEN_OVERFLOW")
    };
    case.conclude(
        ID,
        Conclusion {
            variant: None,
            severity: Severity::Critical,
            confidence: Confidence::Likely,
            loss: Loss { packets: refused, traced, counted },
            site: case.site_of(Some(namespace.inode)),
            summary: "A listener's accept queue is full, but no listener that can be read shows \
                      refusals: it was closed within the window or is not readable"
                .into(),
            evidence: vec![EvidenceItem::new(kind, name, refused)],
            remedies: vec![advice::look_again(namespace)],
        },
    );
}

#[cfg(test)]
mod tests;
