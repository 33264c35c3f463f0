//! Active queue management signals congestion by dropping a packet: intended.
//!
//! `QDISC_CONGESTED` and `DUALPI2_STEP_DROP` (6.14 to 6.19); from 7.0 on `qdisc:qdisc_drop` says so, and
//! before 6.14 the kind of the queue and its own counters tell these drops from those of its limit.

use whydrop_model::{Namespace, Qdisc};

use crate::case::Case;
use crate::qdisc::{self, grown};
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct AqmDrop;

const ID: &str = "aqm-drop";
const SIGNATURES: &[Signature] = &[drops("QDISC_CONGESTED", "*"), drops("DUALPI2_STEP_DROP", "*")];
const CODES: &[&str] = &["QDISC_DROP_CONGESTED", "QDISC_DROP_L4S_STEP_NON_ECN"];

impl Rule for AqmDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
        for namespace in case.namespaces() {
            for (queue, own) in qdisc::dropping(namespace) {
                let place = (namespace, queue.ifindex);
                let told = qdisc::told_by_event(case.evidence(), place, CODES);
                let most = if told > 0 { told } else { by_algorithm(case, namespace, queue, own) };
                let claims = qdisc::claim(case, place, most, |total| total.reason == "QDISC_DROP");
                signature::book_claims_as_noise(case, ID, claims);
            }
        }
    }
}

/// Drops of a queue that were its algorithm's, on kernels whose reasons do not tell.
fn by_algorithm(case: &Case<'_>, namespace: &Namespace, queue: &Qdisc, own: u64) -> u64 {
    // Where the kernel has reasons for these, what is left under the general one is something else.
    let told = case.evidence().tracer.totals.iter().any(|total| {
        total.netns == Some(namespace.inode)
            && (total.reason == "QDISC_OVERLIMIT"
                || SIGNATURES.iter().any(|signature| signature.matches(total)))
    });
    if told {
        return 0;
    }
    let counted = |names: &[&str]| names.iter().map(|name| grown(&queue.stats, name)).sum::<u64>();
    match queue.kind.as_str() {
        "codel" | "fq_codel" => own.saturating_sub(counted(&["drop_overlimit"])),
        "red" => counted(&["early"]),
        "sfb" => counted(&["earlydrop"]),
        "cake" => counted(&["tin_dropped_packets"]).min(own),
        "pie" | "fq_pie" => own.saturating_sub(counted(&["overlimit", "overmemory"])),
        "choke" => own.saturating_sub(counted(&["pdrop", "other"])),
        "gred" => counted(&["prob_drop"]),
        "dualpi2" => own,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Pair, Qdisc, TcHandle};

    use crate::{Thresholds, diagnose, sample};

    fn codel(overlimit: u64) -> Evidence {
        let mut evidence = sample::evidence();
        let counter = |name: &str, after| (name.to_owned(), Pair { before: 0, after });
        evidence.namespaces[0].qdiscs = vec![Qdisc {
            ifindex: 2,
            kind: "fq_codel".into(),
            parent: TcHandle::ROOT,
            stats: [counter("drops", 30), counter("drop_overlimit", overlimit)].into(),
            ..Qdisc::default()
        }];
        evidence.tracer.totals = vec![sample::total("QDISC_DROP", "__dev_queue_xmit", 30)];
        evidence
    }

    #[test]
    fn a_queue_whose_algorithm_counts_its_limit_apart_is_full_where_that_says_so() {
        for (kind, full) in [("pie", "overlimit"), ("fq_pie", "overmemory"), ("choke", "pdrop")] {
            let mut evidence = codel(0);
            let queue = &mut evidence.namespaces[0].qdiscs[0];
            queue.kind = kind.into();
            queue.stats.insert(full.into(), Pair { before: 0, after: 20 });
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!((report.ledger.benign, report.ledger.lost), (10, 20), "{kind}");
            assert_eq!(report.findings[0].cause, "qdisc-limit-reached");
        }
    }

    #[test]
    fn before_the_reasons_its_own_counters_tell() {
        let ledger = diagnose(&codel(0), &Thresholds::default()).ledger;
        assert_eq!((ledger.benign, ledger.lost), (30, 0));
        let report = diagnose(&codel(20), &Thresholds::default());
        assert_eq!((report.ledger.benign, report.ledger.lost), (10, 20));
        assert_eq!(report.findings[0].cause, "qdisc-limit-reached");
    }
}
