//! Half-open connections fill the SYN queue while SYN cookies are off.
//!
//! Never traced: the refused SYN is consumed. What remains of `TcpExt.ListenDrops` after the accept
//! queue's overflows is the SYN side (`tcp_conn_request()`, `net/ipv4/tcp_input.c`, 6.18):
//!
//! * `TCPReqQFullDrop`: as many half-open connections as the listen backlog (variant
//!   `listen-backlog`);
//! * neither counter: more than three quarters of `tcp_max_syn_backlog` are in use and the peer is
//!   not proven (variant `max-syn-backlog`), recognised by the half-open count.
//!
//! With cookies on neither can happen; what is left then belongs to `listen-drop-other`.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Listener, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::{command, listen};

/// See the module.
pub(super) struct SynQueueFull;

const ID: &str = "syn-queue-full";
const DROPS: &str = "TcpExt.ListenDrops";
const FULL: &str = "TcpExt.TCPReqQFullDrop";
const MAX_SYN_BACKLOG: &str = "net.ipv4.tcp_max_syn_backlog";
const SYNCOOKIES: &str = "net.ipv4.tcp_syncookies";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    ListenBacklog,
    MaxSynBacklog,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::ListenBacklog => "listen-backlog",
            Self::MaxSynBacklog => "max-syn-backlog",
        }
    }
}

impl Rule for SynQueueFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(left) = case.unbooked(namespace, DROPS).filter(|left| *left > 0) else {
                continue;
            };
            let full = case.unbooked(namespace, FULL).unwrap_or(0).min(left);
            if full > 0 {
                book(case, namespace, Variant::ListenBacklog, full);
            }
            let rest = left - full;
            if rest > 0 && three_quarters_used(namespace) {
                book(case, namespace, Variant::MaxSynBacklog, rest);
            }
        }
    }
}

/// The kernel refuses unproven peers when less than a quarter of `tcp_max_syn_backlog` is free. The
/// queue is looked at now and then, so "about three quarters at its fullest look" has to do.
fn three_quarters_used(namespace: &Namespace) -> bool {
    let cookies_off = namespace.sysctl(SYNCOOKIES) == Some(0);
    let limit = namespace.sysctl(MAX_SYN_BACKLOG).unwrap_or(i64::MAX);
    cookies_off && i64::from(half_open(namespace)) * 4 >= limit.saturating_mul(3)
}

fn half_open(namespace: &Namespace) -> u32 {
    namespace.listeners.iter().filter_map(|one| one.half_open_peak).max().unwrap_or(0)
}

fn book(case: &mut Case<'_>, namespace: &Namespace, variant: Variant, packets: u64) {
    case.book(namespace, DROPS, packets);
    if variant == Variant::ListenBacklog {
        case.book(namespace, FULL, packets);
    }
    // The listener with the most half-open connections is the one whose queue is full; its own
    // drops decide where several have some.
    let weight = |listener: &Listener| {
        if listener.half_open_peak.unwrap_or(0) > 0 { listener.drops.delta32() } else { 0 }
    };
    let mut parts = listen::split(packets, namespace, weight);
    if parts.is_empty() {
        parts = listen::split(packets, namespace, |listener| listener.drops.delta32());
    }
    if parts.is_empty() {
        record(case, namespace, variant, None, packets);
    }
    for (listener, part) in parts {
        record(case, namespace, variant, Some(listener), part);
    }
}

fn record(
    case: &mut Case<'_>,
    namespace: &Namespace,
    variant: Variant,
    listener: Option<&Listener>,
    packets: u64,
) {
    let endpoint = listener.map_or("a listener".into(), |one| one.endpoint().to_string());
    let object = match variant {
        Variant::ListenBacklog => {
            format!("net.ipv4.tcp_syncookies (listen() backlog of {endpoint})")
        }
        Variant::MaxSynBacklog => "net.ipv4.tcp_syncookies (and tcp_max_syn_backlog)".into(),
    };
    let site = Site {
        netns: Some(case.netns_ref(namespace.inode)),
        device: None,
        socket: listener.map(|one| format!("tcp {}", one.endpoint())),
        process: listener.and_then(Listener::process),
        object: Some(object),
    };
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant.name()),
            severity: Severity::Critical,
            confidence: if listener.is_some() { Confidence::Confirmed } else { Confidence::Likely },
            loss: Loss::counted(packets),
            site,
            summary: summary(namespace, variant, &endpoint),
            evidence: proof(namespace, variant, listener, packets),
            remedies: vec![remedy(namespace, variant)],
        },
    );
}

fn summary(namespace: &Namespace, variant: Variant, endpoint: &str) -> String {
    let limit = match variant {
        Variant::ListenBacklog => "the listen backlog is its limit".into(),
        Variant::MaxSynBacklog => format!(
            "three quarters of {MAX_SYN_BACKLOG}={} are its limit",
            namespace.sysctl(MAX_SYN_BACKLOG).unwrap_or(0)
        ),
    };
    format!(
        "Half-open connections fill the SYN queue of {endpoint} ({limit}) and SYN cookies are off: set \
         net.ipv4.tcp_syncookies=1"
    )
}

fn proof(
    namespace: &Namespace,
    variant: Variant,
    listener: Option<&Listener>,
    packets: u64,
) -> Vec<EvidenceItem> {
    use EvidenceKind::{Counter, State};
    let mut proof =
        vec![EvidenceItem::new(Counter, format!("{DROPS} beyond TcpExt.ListenOverflows"), packets)];
    if variant == Variant::ListenBacklog {
        proof.push(EvidenceItem::new(Counter, FULL, packets));
    }
    if let Some(listener) = listener {
        let drops = format!("drops of listener {}", listener.endpoint());
        proof.push(EvidenceItem::new(Counter, drops, listener.drops.delta32()));
        if let Some(half_open) = listener.half_open_peak {
            let name = "half-open connections at once";
            proof.push(EvidenceItem::new(State, name, u64::from(half_open)));
        }
        proof.push(EvidenceItem::new(State, "listen backlog (Send-Q)", listener.backlog.after));
    }
    for name in [SYNCOOKIES, MAX_SYN_BACKLOG] {
        if let Some(value) = namespace.sysctl(name).and_then(|value| u64::try_from(value).ok()) {
            proof.push(EvidenceItem::new(State, name, value));
        }
    }
    proof
}

fn remedy(namespace: &Namespace, variant: Variant) -> Remedy {
    let in_vain = match variant {
        Variant::ListenBacklog => format!(
            "{MAX_SYN_BACKLOG}: the listen backlog is reached first; it is not the limit that binds"
        ),
        Variant::MaxSynBacklog => {
            "net.core.somaxconn or a larger listen backlog: the accept queue is not what is full"
                .into()
        }
    };
    Remedy {
        summary: "Switch SYN cookies on: a full SYN queue then answers with a cookie and refuses nobody. \
                  If the senders never complete the handshake it is a SYN flood: filter it upstream as \
                  well"
            .into(),
        commands: command::within(namespace, "sysctl -w net.ipv4.tcp_syncookies=1").into_iter().collect(),
        useless: vec![
            in_vain,
            "net.ipv4.tcp_tw_reuse: it never touches a listener".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    fn refused(cookies: &str, half_open: u32) -> whydrop_model::Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, super::DROPS, 402);
        let namespace = &mut evidence.namespaces[0];
        namespace.sysctls.insert(super::SYNCOOKIES.into(), cookies.into());
        namespace.sysctls.insert(super::MAX_SYN_BACKLOG.into(), "16".into());
        let mut listener = sample::listener(16, 402, &[(0, 0, 0), (100, 0, 402)]);
        listener.half_open_peak = Some(half_open);
        namespace.listeners.push(listener);
        evidence
    }

    #[test]
    fn three_quarters_of_max_syn_backlog() {
        let report = diagnose(&refused("0", 13), &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!(finding.cause, "syn-queue-full");
        assert_eq!(finding.variant.as_deref(), Some("max-syn-backlog"));
        assert_eq!(finding.packets, 402);
        assert_eq!(report.ledger.unexplained, 0);
    }

    #[test]
    fn the_listen_backlog_where_the_kernel_says_so() {
        let mut evidence = refused("0", 8);
        sample::count(&mut evidence, super::FULL, 402);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].variant.as_deref(), Some("listen-backlog"));
        assert_eq!(report.findings[0].packets, 402);
    }

    #[test]
    fn not_with_cookies_on_or_a_queue_that_is_nearly_empty() {
        for (cookies, half_open) in [("1", 13), ("0", 2)] {
            let report = diagnose(&refused(cookies, half_open), &Thresholds::default());
            assert_eq!(report.findings[0].cause, "listen-drop-other", "{cookies} {half_open}");
        }
    }
}
