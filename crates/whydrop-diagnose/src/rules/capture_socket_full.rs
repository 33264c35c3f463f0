//! A capture missed copies of frames; the frames themselves were delivered.
//!
//! `sk_drops` of a packet socket grows (`packet_rcv()`, `net/packet/af_packet.c`, 6.18) and no packet is
//! lost to the network, since others got it. What a receive ring misses only its own program can read
//! (`PACKET_STATISTICS`), so a capture with a ring is not seen here.

use whydrop_model::{Confidence, Remedy, Severity, SocketProtocol};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::{command, hearers};

/// See the module.
pub(super) struct CaptureSocketFull;

const ID: &str = "capture-socket-full";

impl Rule for CaptureSocketFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (socket, missed) in hearers::losing(namespace, SocketProtocol::Packet) {
                // Told as a loss already: it alone wanted those frames.
                let name = hearers::name(socket);
                let inode = |finding: &whydrop_model::Finding| {
                    finding.site.netns.as_ref().and_then(|netns| netns.inode)
                };
                let told = case.findings().iter().any(|finding| {
                    finding.cause == "raw-socket-buffer-full"
                        && finding.site.socket.as_ref() == Some(&name)
                        && inode(finding) == Some(namespace.inode)
                });
                if told {
                    continue;
                }
                let owner = hearers::owner(socket);
                case.conclude(
                    ID,
                    Conclusion {
                        variant: None,
                        severity: Severity::Notice,
                        confidence: Confidence::Confirmed,
                        loss: Loss::default(),
                        site: hearers::site(case, namespace, socket),
                        summary: format!(
                            "{owner} missed {missed} frames of its capture; the frames themselves were \
                             delivered"
                        ),
                        evidence: hearers::proof(socket),
                        remedies: vec![Remedy {
                            summary: "A larger capture buffer (tcpdump -B), a narrower filter, a shorter \
                                      snapshot, or files on a faster disk"
                                .into(),
                            commands: command::within(namespace, "ss -0anmp").into_iter().collect(),
                            useless: vec![
                                "anything on the network: no packet was lost, only copies".into(),
                            ],
                        }],
                    },
                );
            }
        }
    }
}
