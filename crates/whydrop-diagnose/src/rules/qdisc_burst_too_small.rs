//! Packets larger than a shaper's burst can never pass.
//!
//! `tbf_enqueue` (`net/sched/sch_tbf.c`, 6.18) refuses a packet longer than the bucket is deep, however
//! empty the queue; it is freed as `QDISC_DROP`. Look-alike: a full queue refuses short packets too.

use whydrop_model::{DropTotal, Evidence, Qdisc, Severity};

use crate::case::Case;
use crate::qdisc;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct QdiscBurstTooSmall;

const ID: &str = "qdisc-burst-too-small";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for QdiscBurstTooSmall {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for namespace in case.namespaces() {
            for (queue, own) in qdisc::dropping(namespace) {
                let Some(burst) = burst(queue) else { continue };
                let place = (namespace, queue.ifindex);
                let claims = qdisc::claim(case, place, own, |total| {
                    qdisc::is_refusal(total) && is_longer(evidence, total, burst)
                });
                for group in traced::gather(case, claims) {
                    let name = qdisc::name(namespace, queue);
                    let length = group.mean_length().unwrap_or(0);
                    let device = qdisc::device(namespace, queue);
                    let told = Told {
                        summary: format!(
                            "Packets of {length} bytes never pass {name}: its burst is {burst} bytes"
                        ),
                        object: Some(name),
                        cure: format!(
                            "Set burst to at least the MTU of {device} and its link header, and to rate \
                             / HZ; with a peak rate set, mtu too"
                        ),
                        command: Some(format!("tc -s -d qdisc show dev {device}")),
                        useless: &["a higher limit: these packets are refused by an empty queue"],
                        ..Told::default()
                    };
                    group.conclude(case, ID, Severity::Critical, &KIND, told);
                }
            }
        }
    }
}

fn burst(queue: &Qdisc) -> Option<u64> {
    queue.options.get("burst_bytes").copied().filter(|_| queue.kind == "tbf")
}

/// True if most of these packets that were seen in detail, or else their mean, are longer.
fn is_longer(evidence: &Evidence, total: &DropTotal, burst: u64) -> bool {
    let exemplars = || evidence.tracer.exemplars.iter().filter(|one| one.is_of(total));
    let longer = exemplars().filter(|one| u64::from(one.len) > burst).count();
    match exemplars().count() {
        0 => total.bytes > total.packets.saturating_mul(burst),
        seen => longer * 2 > seen,
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Pair, Qdisc, TcHandle};

    use crate::{Thresholds, diagnose, sample};

    fn shaped(length: u64) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.namespaces[0].qdiscs = vec![Qdisc {
            ifindex: 2,
            kind: "tbf".into(),
            handle: TcHandle(0x1_0000),
            parent: TcHandle::ROOT,
            options: [("rate_bytes", 125_000), ("burst_bytes", 1000)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            stats: [("drops".to_owned(), Pair { before: 0, after: 30 })].into(),
            ..Qdisc::default()
        }];
        let mut total = sample::total("QDISC_DROP", "__dev_queue_xmit", 30);
        total.bytes = 30 * length;
        evidence.tracer.totals = vec![total];
        evidence
    }

    #[test]
    fn only_packets_longer_than_the_burst() {
        for (length, cause) in [(1442, super::ID), (900, "qdisc-limit-reached")] {
            let report = diagnose(&shaped(length), &Thresholds::default());
            assert_eq!((report.findings[0].cause.as_str(), report.ledger.lost), (cause, 30));
            assert!(
                report.findings[0].site.object.as_deref().is_some_and(|it| it.contains("tbf 1:"))
            );
        }
    }
}
