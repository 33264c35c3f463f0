//! The link itself is the bottleneck: its root queue drops although no rate is configured.
//!
//! The device stops its transmit queues, the root qdisc fills and refuses (`__dev_xmit_skb`,
//! `net/core/dev.c`, 6.18). That the line is full shows in what was sent against its speed. Look-alikes:
//! a shaper, and a queue too short for bursts on a line that is far from full.

use whydrop_model::{EvidenceItem, EvidenceKind, Namespace, Qdisc, Severity};

use crate::case::{Case, Conclusion, Loss};
use crate::qdisc::{self, grown};
use crate::rule::Rule;
use crate::{command, traced};

/// See the module.
pub(super) struct LinkSaturated;

const ID: &str = "link-saturated";

impl Rule for LinkSaturated {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (queue, own) in qdisc::dropping(namespace) {
                if qdisc::is_shaped(namespace, queue) {
                    continue;
                }
                let share = utilisation(case, namespace, queue);
                if let Some(share) = share.filter(|share| *share >= case.thresholds().link_busy) {
                    conclude(case, namespace, (queue, own), share);
                }
            }
        }
    }
}

/// What was sent, as a share of what the line carries; `None` if its speed is not known.
fn utilisation(case: &Case<'_>, namespace: &Namespace, queue: &Qdisc) -> Option<f64> {
    let link = namespace.links.iter().find(|link| link.ifindex == queue.ifindex)?;
    // A speed that nothing enforces is no speed.
    let virtual_link = link.kind.as_deref().is_some_and(|kind| matches!(kind, "veth" | "tun"));
    let speed = link.speed.filter(|speed| *speed > 0 && !virtual_link)?;
    let bits = grown(&link.stats, "tx_bytes") as f64 * 8.0;
    let seconds = case.evidence().window.length().as_secs_f64();
    (seconds > 0.0).then(|| bits / seconds / (f64::from(speed) * 1e6))
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, (queue, own): (&Qdisc, u64), share: f64) {
    let place = (namespace, queue.ifindex);
    let claims = qdisc::claim(case, place, own, qdisc::is_refusal);
    for group in traced::gather(case, claims) {
        let name = qdisc::name(namespace, queue);
        let device = qdisc::device(namespace, queue);
        let percent = format!("{:.0}", share * 100.0);
        let mut evidence = group.proof();
        evidence.push(EvidenceItem::new(EvidenceKind::Counter, format!("drops of {name}"), own));
        let used = format!("{percent} % of its speed");
        evidence.push(EvidenceItem::new(EvidenceKind::State, format!("{device} sent"), used));
        let conclusion = Conclusion {
            variant: None,
            severity: Severity::Critical,
            confidence: whydrop_model::Confidence::Confirmed,
            loss: Loss { packets: group.packets, traced: group.packets, counted: own },
            site: group.site(case, Some(name)),
            summary: format!(
                "{device} sends at {percent} % of its speed, and its root queue drops what does not fit"
            ),
            evidence,
            remedies: vec![whydrop_model::Remedy {
                summary: "Send less over it, spread the load, or use a faster link; until then let flows \
                          share it fairly with fq, below mq where it has several hardware queues"
                    .into(),
                commands: command::within(namespace, &format!("tc -s qdisc show dev {device}"))
                    .into_iter()
                    .collect(),
                useless: vec![
                    "a longer queue (txqueuelen, limit): it trades loss for delay".into(),
                ],
            }],
        };
        case.conclude(ID, conclusion);
    }
}
