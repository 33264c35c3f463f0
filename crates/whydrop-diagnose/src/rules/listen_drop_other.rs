//! A listener dropped a SYN, and neither of its queues was full.
//!
//! What is left of `TcpExt.ListenDrops` after the accept queue and the SYN queue took their part:
//! no memory for the request, no route for the answer, a security module, an MPTCP join with a bad
//! token (`tcp_conn_request()`, `net/ipv4/tcp_input.c`; `subflow.c`, 6.18). The counter cannot tell
//! which, so no variant is claimed.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct ListenDropOther;

const ID: &str = "listen-drop-other";
const DROPS: &str = "TcpExt.ListenDrops";

impl Rule for ListenDropOther {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(packets) = case.unbooked(namespace, DROPS).filter(|left| *left > 0) else {
                continue;
            };
            case.book(namespace, DROPS, packets);
            let mut refusing = namespace.listeners.iter().filter(|one| one.drops.delta32() > 0);
            let listener = refusing.next().filter(|_| refusing.next().is_none());
            let site = Site {
                netns: Some(case.netns_ref(namespace.inode)),
                socket: listener.map(|one| format!("tcp {}", one.endpoint())),
                ..Site::default()
            };
            case.conclude(
                ID,
                Conclusion {
                    variant: None,
                    severity: Severity::Warning,
                    confidence: Confidence::Likely,
                    loss: Loss::counted(packets),
                    site,
                    summary: "A listener drops SYNs although neither its accept queue nor its SYN queue \
                              was seen full: look for a missing route back to the clients, then for \
                              memory"
                        .into(),
                    evidence: vec![EvidenceItem::new(
                        EvidenceKind::Counter,
                        format!("{DROPS} beyond both queues"),
                        packets,
                    )],
                    remedies: vec![remedy(namespace)],
                },
            );
        }
    }
}

fn remedy(namespace: &Namespace) -> Remedy {
    Remedy {
        summary:
            "Check that the clients' addresses have a route back, that the kernel log shows no \
                  allocation failures, and what a security module logged"
                .into(),
        commands: command::within(namespace, "ip route").into_iter().collect(),
        useless: vec!["net.core.somaxconn and the listen backlog: no queue was full".into()],
    }
}
