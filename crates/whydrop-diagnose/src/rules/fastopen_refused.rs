//! TCP Fast Open data was refused, and the connection went on without it: nothing is lost.
//!
//! `TCPFastOpenPassiveFail` counts cookies that are not ours, `TCPFastOpenListenOverflow` a listener
//! whose queue of such requests is full (`tcp_try_fastopen()`, `net/ipv4/tcp_fastopen.c`, 6.18). The
//! client sends its data again after the handshake.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct FastopenRefused;

const ID: &str = "fastopen-refused";
const VARIANTS: [(&str, &str); 2] =
    [("cookie", "TcpExt.TCPFastOpenPassiveFail"), ("queue", "TcpExt.TCPFastOpenListenOverflow")];

impl Rule for FastopenRefused {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (variant, counter) in VARIANTS {
                let Some(refused) = namespace.delta(counter).filter(|refused| *refused > 0) else {
                    continue;
                };
                let (what, cure) = if variant == "queue" {
                    (
                        "a listener's queue for TCP Fast Open is full",
                        "If Fast Open matters: a larger value in setsockopt(TCP_FASTOPEN) (nginx \
                         `fastopen=`), up to net.core.somaxconn",
                    )
                } else {
                    (
                        "clients bring TCP Fast Open cookies that are not this host's",
                        "Usually nothing: they get a new cookie. Behind a load balancer give all servers \
                         the same net.ipv4.tcp_fastopen_key",
                    )
                };
                case.conclude(
                    ID,
                    Conclusion {
                        variant: Some(variant),
                        severity: Severity::Notice,
                        confidence: Confidence::Confirmed,
                        loss: Loss::default(),
                        site: Site {
                            object: Some(format!("TCP Fast Open ({variant})")),
                            ..case.site_of(Some(namespace.inode))
                        },
                        summary: format!(
                            "{refused} connections began without their early data, because {what}; they \
                             take one round trip more and nothing is lost"
                        ),
                        evidence: vec![EvidenceItem::new(EvidenceKind::Counter, counter, refused)],
                        remedies: vec![Remedy {
                            summary: cure.into(),
                            commands: command::within(namespace, "sysctl net.ipv4.tcp_fastopen")
                                .into_iter()
                                .collect(),
                            useless: Vec::new(),
                        }],
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn each_counter_is_a_variant_without_packets() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.TCPFastOpenPassiveFail", 3);
        sample::count(&mut evidence, "TcpExt.TCPFastOpenListenOverflow", 4);
        sample::count(&mut evidence, "TcpExt.TCPFastOpenPassive", 9);
        let report = diagnose(&evidence, &Thresholds::default());
        let variants: Vec<_> =
            report.findings.iter().filter_map(|one| one.variant.as_deref()).collect();
        assert_eq!(variants, ["cookie", "queue"]);
        assert_eq!(report.ledger.lost, 0);
    }
}
