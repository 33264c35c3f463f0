//! The SYN queue is full and SYN cookies carry the load: nothing is lost.
//!
//! `TCPReqQFullDoCookies` counts SYNs answered with a cookie because the queue was full
//! (`tcp_syn_flood_action()`, `net/ipv4/tcp_input.c`, 6.18). With `tcp_syncookies=2` cookies are sent
//! always and that counter stays, so nothing is said then.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Listener, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;

/// See the module.
pub(super) struct SynCookiesActive;

const ID: &str = "syn-cookies-active";
const FULL: &str = "TcpExt.TCPReqQFullDoCookies";
const SENT: &str = "TcpExt.SyncookiesSent";
const ANSWERED: &str = "TcpExt.SyncookiesRecv";

impl Rule for SynCookiesActive {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(filled) = namespace.delta(FULL).filter(|filled| *filled > 0) else {
                continue;
            };
            let sent = namespace.delta(SENT).unwrap_or(0);
            let answered = namespace.delta(ANSWERED).unwrap_or(0);
            let real = answered as f64 >= case.thresholds().cookies_answered * sent as f64;
            let listener = busiest(namespace);
            let counters = [(FULL, filled), (SENT, sent), (ANSWERED, answered)];
            let evidence = counters
                .map(|(name, value)| EvidenceItem::new(EvidenceKind::Counter, name, value))
                .to_vec();
            case.conclude(
                ID,
                Conclusion {
                    variant: Some(if real { "burst" } else { "flood" }),
                    severity: Severity::Notice,
                    confidence: Confidence::Confirmed,
                    loss: Loss::default(),
                    site: Site {
                        socket: listener.map(|one| format!("tcp {}", one.endpoint())),
                        process: listener.and_then(Listener::process),
                        ..case.site_of(Some(namespace.inode))
                    },
                    summary: summary(real, listener),
                    evidence,
                    remedies: vec![remedy(real)],
                },
            );
        }
    }
}

fn busiest(namespace: &Namespace) -> Option<&Listener> {
    namespace
        .listeners
        .iter()
        .filter(|listener| listener.half_open_peak.unwrap_or(0) > 0)
        .max_by_key(|listener| listener.half_open_peak)
}

fn summary(real: bool, listener: Option<&Listener>) -> String {
    let listener = listener.map_or("a listener".into(), |one| one.endpoint().to_string());
    if real {
        format!(
            "Real clients fill the SYN queue of {listener}; SYN cookies answer them and nothing is lost. \
             The queue is as long as the listen backlog"
        )
    } else {
        format!(
            "SYNs that nobody completes fill the SYN queue of {listener}: a SYN flood. Cookies hold; \
             nothing is lost"
        )
    }
}

fn remedy(real: bool) -> Remedy {
    Remedy {
        summary: if real {
            "Nothing must be done; a larger listen backlog avoids the cookies' loss of TCP options"
        } else {
            "Keep SYN cookies on and filter the flood upstream"
        }
        .into(),
        commands: Vec::new(),
        useless: vec!["net.ipv4.tcp_max_syn_backlog: with SYN cookies on it limits nothing".into()],
    }
}
