//! A fair queue dropped because one flow, one band or one departure time was beyond its limit.
//!
//! `fq_enqueue` (`net/sched/sch_fq.c`, 6.18) says `FQ_FLOW_LIMIT`, `FQ_BAND_LIMIT` or `FQ_HORIZON_LIMIT`,
//! cake says `CAKE_FLOOD`; from 7.0 on `qdisc:qdisc_drop` says it, before 6.14 only fq's own counters do.
//! Look-alikes: the limit of the whole queue, and drops of an algorithm against congestion.

use whydrop_model::{Namespace, Qdisc, Severity};

use crate::case::Case;
use crate::qdisc::{self, grown};
use crate::rule::Rule;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct FqLimitReached;

const ID: &str = "fq-limit-reached";

/// One of the limits, and how kernels tell it.
struct Limit {
    variant: &'static str,
    reasons: &'static [&'static str],
    codes: &'static [&'static str],
    stats: &'static [&'static str],
    summary: &'static str,
    cure: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        variant: "flow",
        reasons: &["FQ_FLOW_LIMIT", "CAKE_FLOOD"],
        codes: &["QDISC_DROP_FLOW_LIMIT", "QDISC_DROP_FLOOD_PROTECTION"],
        stats: &["flows_plimit"],
        summary: "one flow has more packets waiting than flow_limit allows: a sender without pacing",
        cure: "Pace that sender (SO_MAX_PACING_RATE), or raise flow_limit to its burst in packets",
    },
    Limit {
        variant: "band",
        reasons: &["FQ_BAND_LIMIT"],
        codes: &["QDISC_DROP_BAND_LIMIT"],
        stats: &["band0_drops", "band1_drops", "band2_drops"],
        summary: "a priority band holds more than its share of the limit",
        cure: "Raise `limit` to packets per second x the delay you accept, or pace the senders",
    },
    Limit {
        variant: "horizon",
        reasons: &["FQ_HORIZON_LIMIT"],
        codes: &["QDISC_DROP_HORIZON_LIMIT"],
        stats: &["horizon_drops"],
        summary: "packets are stamped to leave later than its horizon",
        cure: "Correct who stamps the packets: SO_TXTIME with another clock, a BPF bandwidth manager",
    },
];

impl Rule for FqLimitReached {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for limit in LIMITS {
            let claims = case.claim(|total| limit.reasons.contains(&total.reason.as_str()));
            for group in traced::gather(case, claims) {
                conclude(case, &group, limit);
            }
        }
        for namespace in case.namespaces() {
            for (queue, _) in qdisc::dropping(namespace) {
                for limit in LIMITS {
                    by_counters(case, namespace, queue, limit);
                }
            }
        }
    }
}

fn by_counters(case: &mut Case<'_>, namespace: &Namespace, queue: &Qdisc, limit: &Limit) {
    let place = (namespace, queue.ifindex);
    let told = qdisc::told_by_event(case.evidence(), place, limit.codes);
    let counted: u64 = limit.stats.iter().map(|name| grown(&queue.stats, name)).sum();
    // What the reasons told already is no longer open under the general one.
    let most = if queue.kind == "fq" { told.max(counted) } else { told };
    let claims = qdisc::claim(case, place, most, |total| total.reason == "QDISC_DROP");
    for group in traced::gather(case, claims) {
        conclude(case, &group, limit);
    }
}

fn conclude(case: &mut Case<'_>, group: &Group<'_>, limit: &Limit) {
    let queue = group.namespace.and_then(|namespace| {
        let of = |queue: &&Qdisc| {
            Some(queue.ifindex) == group.first().map(|total| total.ifindex)
                && matches!(queue.kind.as_str(), "fq" | "cake")
        };
        Some((namespace, namespace.qdiscs.iter().find(of)?))
    });
    let name = queue.map_or_else(
        || format!("fq of {}", group.device_name()),
        |(namespace, queue)| qdisc::name(namespace, queue),
    );
    let kind = Kind { variant: Some(limit.variant), signatures: &[], counters: &[] };
    let told = Told {
        summary: format!("In {name} {}", limit.summary),
        object: Some(name),
        cure: limit.cure.into(),
        command: group.device.map(|device| format!("tc -s -d qdisc show dev {device}")),
        useless: &["txqueuelen: fair queues do not use it"],
        ..Told::default()
    };
    group.conclude(case, ID, Severity::Warning, &kind, told);
}
