//! A queue discipline's limit is too small for its rate or for the burst.
//!
//! `QDISC_DROP` or `QDISC_OVERLIMIT` in `__dev_queue_xmit` (`net/core/dev.c`, 6.18; 7.x has reasons of its
//! own for queue disciplines) on a device whose `tc -s qdisc` counts drops. Look-alike: a device without
//! carrier drops with the same reason in a qdisc that counts nothing. Local UDP senders count the same
//! packets again as `Ip.OutDiscards` and `Udp.SndbufErrors`; they are not added.

use whydrop_model::{DropTotal, Evidence, Qdisc, Severity, TcHandle};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct QdiscLimitReached;

const ID: &str = "qdisc-limit-reached";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for QdiscLimitReached {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| {
            matches!(total.reason.as_str(), "QDISC_DROP" | "QDISC_OVERLIMIT")
                && dropping(evidence, total).is_some()
        });
        for group in traced::gather(case, claims) {
            let qdisc = group.first().and_then(|total| dropping(evidence, total));
            let device = group.device_name();
            let kind = qdisc.map_or("qdisc", |qdisc| qdisc.kind.as_str());
            let limits = qdisc.map(limits).unwrap_or_default();
            let told = Told {
                variant: qdisc.map(|qdisc| variant(evidence, qdisc, group.netns)),
                object: Some(qdisc.map_or(format!("qdisc of {device}"), |qdisc| {
                    format!("qdisc {} {} (parent {}) of {device}", kind, qdisc.handle, qdisc.parent)
                })),
                summary: format!(
                    "The {kind} queue of {device} overflows{limits}: its limit or rate is too small for what \
                     is sent"
                ),
                cure: "If the rate is meant, let the limit hold rate x the delay you accept; else raise the \
                       rate, or pace the sender. A longer queue in front of a slower link only adds delay"
                    .into(),
                command: group.device.map(|device| format!("tc -s -d qdisc show dev {device}")),
                useless: &[
                    "net.core.wmem_max: the senders' errors are this queue's drops, counted again",
                ],
            };
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

/// The queue that dropped on the device these packets were sent by: of those that count drops, the one
/// furthest from the root, because parents count what their children drop.
fn dropping<'e>(evidence: &'e Evidence, total: &DropTotal) -> Option<&'e Qdisc> {
    let namespace = evidence.namespace(total.netns?)?;
    let dropped = |qdisc: &&Qdisc| {
        qdisc.ifindex == total.ifindex
            && !qdisc.class
            && qdisc.parent != TcHandle::INGRESS
            && qdisc.stats.get("drops").is_some_and(|pair| pair.delta() > 0)
    };
    namespace.qdiscs.iter().filter(dropped).max_by_key(|qdisc| qdisc.parent != TcHandle::ROOT)
}

fn variant(evidence: &Evidence, qdisc: &Qdisc, netns: Option<u64>) -> &'static str {
    let namespace = netns.and_then(|inode| evidence.namespace(inode));
    // The queue inside a shaper without classes is part of it.
    let shaped = namespace.is_some_and(|one| {
        one.qdiscs.iter().any(|root| {
            root.ifindex == qdisc.ifindex && root.parent == TcHandle::ROOT && root.kind == "tbf"
        })
    });
    if shaped || qdisc.options.contains_key("rate_bytes") {
        "shaper"
    } else if qdisc.parent != TcHandle::ROOT {
        "child"
    } else {
        "txqueuelen"
    }
}

/// The limits that the kernel tells, in words.
fn limits(qdisc: &Qdisc) -> String {
    let told: Vec<_> = qdisc
        .options
        .iter()
        .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
        .collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}
