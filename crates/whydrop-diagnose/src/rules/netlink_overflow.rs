//! A program fell behind with the kernel's news and lost some of them (ENOBUFS).
//!
//! `Drops` in `/proc/net/netlink` (`netlink_overrun()`, `net/netlink/af_netlink.c`, 6.18). No packet of
//! the network is lost; but a routing daemon that missed a change acts on what is no longer so.

use whydrop_model::{Confidence, Remedy, Severity, SocketProtocol};

use crate::case::{Case, Conclusion, Loss};
use crate::hearers;
use crate::rule::Rule;

/// See the module.
pub(super) struct NetlinkOverflow;

const ID: &str = "netlink-overflow";

impl Rule for NetlinkOverflow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (socket, missed) in hearers::losing(namespace, SocketProtocol::Netlink) {
                let owner = hearers::owner(socket);
                let units = socket.owners.iter().filter_map(|process| process.unit.as_deref());
                case.conclude(
                    ID,
                    Conclusion {
                        variant: None,
                        severity: Severity::Notice,
                        confidence: Confidence::Confirmed,
                        loss: Loss::default(),
                        site: hearers::site(case, namespace, socket),
                        summary: format!(
                            "{owner} missed {missed} messages of the kernel (ENOBUFS): it may act on routes, \
                             addresses or connections that are no longer so"
                        ),
                        evidence: hearers::proof(socket),
                        remedies: vec![Remedy {
                            summary: "Give its netlink socket a larger buffer (SO_RCVBUFFORCE, or its \
                                      configuration), and have it read everything anew after ENOBUFS; \
                                      restart it if it does not"
                                .into(),
                            commands: units
                                .take(1)
                                .map(|unit| format!("systemctl restart {unit}"))
                                .collect(),
                            useless: vec!["network buffers: no packet of the network was lost".into()],
                        }],
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, Process, Socket, SocketProtocol};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_program_is_named_and_nothing_is_lost() {
        let mut evidence = sample::evidence();
        evidence.namespaces[0].sockets = vec![Socket {
            drops: Pair { before: 3, after: 7 },
            owners: vec![Process { pid: 9, comm: "zebra".into(), ..Process::default() }],
            ..Socket::new(SocketProtocol::Netlink)
        }];
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings[0].summary.starts_with("zebra (pid 9) missed 4"));
        assert_eq!(report.ledger.lost, 0);
        evidence.namespaces[0].sockets[0].drops.before = 7;
        assert!(diagnose(&evidence, &Thresholds::default()).findings.is_empty());
    }
}
