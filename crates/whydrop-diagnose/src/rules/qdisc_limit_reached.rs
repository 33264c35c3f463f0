//! A queue discipline's limit is too small for its rate or for the burst.
//!
//! `QDISC_DROP` or `QDISC_OVERLIMIT` in `__dev_queue_xmit` (`net/core/dev.c`, 6.18; 7.x has reasons of its
//! own for queue disciplines) on a device whose `tc -s qdisc` counts drops. Look-alike: a device without
//! carrier drops with the same reason in a qdisc that counts nothing. Local UDP senders count the same
//! packets again as `Ip.OutDiscards` and `Udp.SndbufErrors`; they are not added.

use whydrop_model::{EvidenceItem, EvidenceKind, Namespace, Qdisc, Severity, TcHandle};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::{command, qdisc, share, traced};

/// See the module.
pub(super) struct QdiscLimitReached;

const ID: &str = "qdisc-limit-reached";

impl Rule for QdiscLimitReached {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let queues = qdisc::dropping(namespace);
            let mut devices: Vec<u32> = queues.iter().map(|(queue, _)| queue.ifindex).collect();
            devices.dedup();
            for ifindex in devices {
                let open = qdisc::open(case, namespace, ifindex);
                let here = queues.iter().filter(|(queue, _)| queue.ifindex == ifindex);
                // Counters and tracer are not read in the same instant: each queue has its share.
                for (queue, packets) in share::split(open, here.copied()) {
                    conclude(case, namespace, queue, packets);
                }
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, queue: &Qdisc, packets: u64) {
    let place = (namespace, queue.ifindex);
    let claims = qdisc::claim(case, place, packets, qdisc::is_refusal);
    for group in traced::gather(case, claims) {
        let name = qdisc::name(namespace, queue);
        let device = qdisc::device(namespace, queue);
        let counted = qdisc::grown(&queue.stats, "drops");
        let mut evidence = group.proof();
        evidence.push(EvidenceItem::new(
            EvidenceKind::Counter,
            format!("drops of {name}"),
            counted,
        ));
        let show = format!("tc -s -d qdisc show dev {device}");
        let conclusion = Conclusion {
            variant: Some(variant(namespace, queue)),
            severity: Severity::Critical,
            confidence: whydrop_model::Confidence::Confirmed,
            loss: Loss { packets: group.packets, traced: group.packets, counted: counted.min(packets) },
            site: group.site(case, Some(name)),
            summary: format!(
                "The {} queue of {device} overflows{}: its limit or rate is too small for what is sent",
                queue.kind,
                limits(queue)
            ),
            evidence,
            remedies: vec![whydrop_model::Remedy {
                summary: "If the rate is meant, let the limit hold rate x the delay you accept; else raise \
                          the rate, or pace the sender. A longer queue in front of a slower link only adds \
                          delay"
                    .into(),
                commands: command::within(namespace, &show).into_iter().collect(),
                useless: vec![
                    "net.core.wmem_max: the senders' errors are this queue's drops, counted again".into(),
                ],
            }],
        };
        case.conclude(ID, conclusion);
    }
}

fn variant(namespace: &Namespace, queue: &Qdisc) -> &'static str {
    // The queue inside a shaper without classes is part of it.
    let inside = namespace.qdiscs.iter().any(|root| {
        root.ifindex == queue.ifindex && root.parent == TcHandle::ROOT && root.kind == "tbf"
    });
    // Behind mq each hardware queue has a root of its own.
    let below_class = namespace.qdiscs.iter().any(|class| {
        class.class
            && class.ifindex == queue.ifindex
            && class.handle == queue.parent
            && class.kind != "mq"
    });
    if inside || queue.options.contains_key("rate_bytes") {
        "shaper"
    } else if below_class {
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
