//! The queue of packets handed to a CPU in software overflowed.
//!
//! `CPU_BACKLOG` in `enqueue_to_backlog` (`net/core/dev.c`, 6.18), counted per CPU in
//! `/proc/net/softnet_stat`, where the flow limit counts its part once more. The queue serves all
//! namespaces. Look-alikes: a veth end with GRO or XDP has a ring of its own; a socket's backlog.

use whydrop_model::{
    Attach, Confidence, CpuSide, EvidenceItem, EvidenceKind, Pair, Remedy, Severity, Site,
    SoftnetCpu,
};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::drops;
use crate::thresholds::Thresholds;
use crate::traced::{self, Group};

/// See the module.
pub(super) struct CpuBacklogFull;

const ID: &str = "cpu-backlog-full";
const LIMIT: &str = "net.core.netdev_max_backlog";

impl Rule for CpuBacklogFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let groups = traced::take(case, &[drops("CPU_BACKLOG", "*")]);
        let traced: u64 = groups.iter().map(|group| group.packets).sum();
        for group in &groups {
            let site = group.site(case, Some(LIMIT.into()));
            conclude(case, site, Loss::traced(group.packets), group.proof(), Some(group));
        }
        let evidence = case.evidence();
        let counted: u64 = evidence.softnet.iter().map(|cpu| cpu.dropped.delta32()).sum();
        // Of a few chosen namespaces only their own share is traced; the rest belongs to others.
        let others = !evidence.scope.netns.is_empty() && evidence.tracer.attach != Attach::None;
        let missing = counted.saturating_sub(traced);
        if missing > 0 && !others {
            let site = Site { object: Some(LIMIT.into()), ..Site::default() };
            conclude(case, site, Loss::counted(missing), Vec::new(), None);
        }
    }
}

fn conclude(
    case: &mut Case<'_>,
    site: Site,
    loss: Loss,
    mut proof: Vec<EvidenceItem>,
    group: Option<&Group<'_>>,
) {
    let evidence = case.evidence();
    let full: Vec<_> = evidence.softnet.iter().filter(|cpu| cpu.dropped.delta32() > 0).collect();
    for cpu in &full {
        let name = format!("softnet_stat dropped of CPU {}", cpu.cpu);
        proof.push(EvidenceItem::new(EvidenceKind::Counter, name, cpu.dropped.delta32()));
    }
    let limit = evidence.namespaces.iter().find_map(|namespace| namespace.sysctls.get(LIMIT));
    if let Some(limit) = limit {
        proof.push(EvidenceItem::new(EvidenceKind::State, LIMIT, limit.clone()));
    }
    let variant = variant(&full, &evidence.cpu_side, case.thresholds());
    let numbers: Vec<_> = full.iter().map(|cpu| cpu.cpu.to_string()).collect();
    let cpus = match numbers.as_slice() {
        [] => "a CPU".to_owned(),
        [one] => format!("CPU {one}"),
        _ => format!("CPUs {}", numbers.join(", ")),
    };
    let through = group.and_then(|group| group.device);
    let through = through.map(|device| format!(" from {device}")).unwrap_or_default();
    let (why, cure, command) = match variant {
        "flow-limit" => (
            "one flow had more than its share of the queue, and the flow limit cut it",
            "Take the CPU out of net.core.flow_limit_cpu_bitmap, or give its flows a larger \
             net.core.flow_limit_table_len, if this one flow is meant to have all of it",
            "sysctl net.core.flow_limit_cpu_bitmap",
        ),
        "hot-cpu" => (
            "the CPU has no time left for more",
            "Spread the work: RPS over more CPUs, interrupts to others, or take away what else keeps it \
             busy. A longer queue only delays what is dropped",
            "cat /proc/softirqs",
        ),
        _ => (
            "a burst was longer than the queue",
            "Let the queue hold 1.5 x packets per second to that CPU x its longest pause; it is one setting \
             for the whole host",
            "sysctl net.core.netdev_max_backlog",
        ),
    };
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Critical,
        confidence: if full.is_empty() { Confidence::Likely } else { Confidence::Confirmed },
        loss,
        site,
        summary: format!("The backlog of {cpus} overflows with packets{through}: {why}"),
        evidence: proof,
        remedies: vec![Remedy {
            summary: cure.into(),
            commands: vec![command.into()],
            useless: vec![
                "the rings of network cards, somaxconn: other queues".into(),
                "netdev_max_backlog against a card without RPS: it never uses this queue".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

fn variant(full: &[&SoftnetCpu], side: &CpuSide, thresholds: Thresholds) -> &'static str {
    let dropped: u64 = full.iter().map(|cpu| cpu.dropped.delta32()).sum();
    let limited: u64 = full.iter().filter_map(|cpu| cpu.flow_limit).map(Pair::delta32).sum();
    if limited > 0 && limited.saturating_mul(2) > dropped {
        return "flow-limit";
    }
    let worst = full.iter().max_by_key(|cpu| cpu.dropped.delta32());
    let busy = worst.and_then(|worst| {
        let times = &side.cpus.iter().find(|cpu| cpu.cpu == worst.cpu)?.time;
        let sum: u64 = times.values().map(|pair| pair.delta()).sum();
        let idle = |name: &str| times.get(name).map_or(0, |pair| pair.delta());
        (sum > 0).then(|| 1.0 - (idle("idle") + idle("iowait")) as f64 / sum as f64)
    });
    if busy.is_some_and(|busy| busy >= thresholds.cpu_busy) { "hot-cpu" } else { "burst" }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Attach, Cpu, Evidence, Pair, SoftnetCpu};

    use crate::{Thresholds, diagnose, sample};

    fn softnet(dropped: u64, flow_limit: u64) -> SoftnetCpu {
        SoftnetCpu {
            cpu: 1,
            dropped: Pair { before: 0, after: dropped },
            flow_limit: Some(Pair { before: 0, after: flow_limit }),
            ..SoftnetCpu::default()
        }
    }

    fn found(evidence: &Evidence) -> Vec<(Option<String>, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|it| it.cause == "cpu-backlog-full"));
        report.findings.into_iter().map(|it| (it.variant, it.packets)).collect()
    }

    #[test]
    fn what_is_traced_and_counted_is_one_loss() {
        let mut evidence = sample::evidence();
        evidence.softnet = vec![softnet(30, 0)];
        evidence.tracer.totals = vec![sample::total("CPU_BACKLOG", "enqueue_to_backlog", 30)];
        assert_eq!(found(&evidence), [(Some("burst".into()), 30)]);
        evidence.softnet = vec![softnet(30, 30)];
        assert_eq!(found(&evidence), [(Some("flow-limit".into()), 30)]);
        let time = [("idle", 1), ("softirq", 90), ("user", 9)]
            .map(|(name, after)| (name.into(), Pair { before: 0, after }));
        evidence.softnet = vec![softnet(30, 0)];
        evidence.cpu_side.cpus = vec![Cpu { cpu: 1, time: time.into(), ..Cpu::default() }];
        assert_eq!(found(&evidence), [(Some("hot-cpu".into()), 30)]);
    }

    #[test]
    fn what_only_the_counter_saw_is_nobodys_namespace() {
        let mut evidence = sample::evidence();
        let dropped = Pair { before: u64::from(u32::MAX), after: 4 };
        evidence.softnet = vec![SoftnetCpu { dropped, ..SoftnetCpu::default() }];
        evidence.tracer.attach = Attach::None;
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.packets, &finding.site.netns), (5, &None));
        assert_eq!(report.ledger.unexplained, 0);
    }

    #[test]
    fn of_chosen_namespaces_only_the_own_share_counts() {
        let mut evidence = sample::evidence();
        evidence.softnet = vec![softnet(1000, 0)];
        evidence.scope.netns = vec!["b".into()];
        assert_eq!(found(&evidence), []);
        evidence.tracer.totals = vec![sample::total("CPU_BACKLOG", "enqueue_to_backlog", 30)];
        assert_eq!(found(&evidence), [(Some("burst".into()), 30)]);
    }
}
