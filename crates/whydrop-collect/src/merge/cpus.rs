//! CPUs, their backlog and their interrupts at both ends of the window.

use std::collections::BTreeMap;

use whydrop_model::{Cpu, CpuSide, Interrupt, Pair, SoftnetCpu};

use super::counters_of;
use crate::collector::Facts;

/// Interrupts kept: more than the queues of any one device, and little enough to store.
const MOST_INTERRUPTS: usize = 512;

/// CPUs that have a row at both ends. A CPU that came online meanwhile kept the counts of its
/// earlier life, which are unknown.
pub(crate) fn softnet(before: &Facts, after: &Facts) -> Vec<SoftnetCpu> {
    let mut cpus: Vec<SoftnetCpu> = after
        .softnet
        .iter()
        .filter_map(|now| {
            let then = before.softnet.iter().find(|then| then.cpu == now.cpu)?;
            let pair = |before, after| Pair { before, after };
            let maybe = |(before, after)| Pair { before, after };
            Some(SoftnetCpu {
                cpu: now.cpu,
                processed: pair(then.processed, now.processed),
                dropped: pair(then.dropped, now.dropped),
                time_squeeze: pair(then.time_squeeze, now.time_squeeze),
                flow_limit: then.flow_limit.zip(now.flow_limit).map(maybe),
                received_rps: then.received_rps.zip(now.received_rps).map(maybe),
                backlog_peak: then.backlog_len.max(now.backlog_len),
                looks: 2,
            })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

/// What the CPUs did between two readings of the host.
pub(crate) fn cpu_side(before: &Facts, after: &mut Facts) -> CpuSide {
    let (interrupts, interrupts_left_out) = interrupts(before, after);
    let pressure = before.pressure.iter().map(|(name, value)| (name.as_str(), *value));
    CpuSide {
        cpus: cpus(before, after),
        interrupts,
        interrupts_left_out,
        pressure: counters_of(pressure, std::mem::take(&mut after.pressure)),
    }
}

/// As with [`softnet`]: only CPUs of both ends.
fn cpus(before: &Facts, after: &Facts) -> Vec<Cpu> {
    let mut cpus: Vec<Cpu> = after
        .cpu_times
        .iter()
        .filter_map(|now| {
            let then = before.cpu_times.iter().find(|then| then.cpu == now.cpu)?;
            let softirqs = |facts: &Facts| -> Option<Vec<(&'static str, u64)>> {
                let of_cpu = facts.softirqs.iter().find(|one| one.cpu == now.cpu);
                of_cpu.map(|one| one.counts.clone())
            };
            Some(Cpu {
                cpu: now.cpu,
                time: counters_of(then.counts.iter().copied(), now.counts.iter().copied()),
                softirqs: match (softirqs(before), softirqs(after)) {
                    (Some(then), Some(now)) => counters_of(then, now),
                    _ => whydrop_model::Counters::new(),
                },
            })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

/// Interrupts by number, at most [`MOST_INTERRUPTS`]; and how many that leaves out. One that was
/// requested inside the window counts from zero.
fn interrupts(before: &Facts, after: &mut Facts) -> (Vec<Interrupt>, u32) {
    let then: BTreeMap<u32, &BTreeMap<u32, u64>> =
        before.interrupts.iter().map(|it| (it.irq, &it.per_cpu)).collect();
    let mut interrupts: Vec<Interrupt> = std::mem::take(&mut after.interrupts)
        .into_iter()
        .map(|now| {
            let then = then.get(&now.irq);
            let per_cpu = now.per_cpu.into_iter().map(|(cpu, after)| {
                let before = then.and_then(|then| then.get(&cpu)).copied().unwrap_or(0);
                (cpu, Pair { before, after })
            });
            Interrupt {
                irq: now.irq,
                name: now.name,
                device: now.device,
                per_cpu: per_cpu.collect(),
                affinity: now.affinity,
            }
        })
        .collect();
    let left_out = interrupts.len().saturating_sub(MOST_INTERRUPTS);
    if left_out > 0 {
        interrupts.sort_by_cached_key(|interrupt| {
            std::cmp::Reverse(
                interrupt.per_cpu.values().map(|pair| pair.delta()).fold(0, u64::saturating_add),
            )
        });
        interrupts.truncate(MOST_INTERRUPTS);
    }
    interrupts.sort_by_key(|interrupt| interrupt.irq);
    (interrupts, left_out as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::{CpuCounts, InterruptFacts, SoftnetFacts};

    #[test]
    fn a_cpu_needs_both_ends() {
        let row = |cpu, dropped, flow_limit, backlog_len| SoftnetFacts {
            cpu,
            processed: 9,
            dropped,
            time_squeeze: 0,
            flow_limit,
            received_rps: Some(dropped),
            backlog_len,
        };
        let of = |softnet| Facts { softnet, ..Facts::default() };
        let before = of(vec![row(0, 1, Some(1), Some(30)), row(1, 5, None, None)]);
        let after =
            of(vec![row(2, 8, None, None), row(1, 6, Some(1), None), row(0, 4, Some(2), Some(3))]);
        let cpus = softnet(&before, &after);
        assert_eq!(cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cpus[0].dropped, Pair { before: 1, after: 4 });
        assert_eq!(cpus[0].received_rps, Some(Pair { before: 1, after: 4 }));
        assert_eq!(cpus[0].flow_limit, Some(Pair { before: 1, after: 2 }));
        assert_eq!(cpus[1].flow_limit, None);
        assert_eq!((cpus[0].backlog_peak, cpus[1].backlog_peak), (Some(30), None));
    }

    #[test]
    fn times_and_softirqs_of_a_cpu_are_joined() {
        let counts = |cpu, name, count| CpuCounts { cpu, counts: vec![(name, count)] };
        let of = |softirq, user| Facts {
            cpu_times: vec![counts(0, "user", user), counts(softirq as u32, "user", user)],
            softirqs: vec![counts(0, "NET_RX", softirq)],
            pressure: vec![("cpu.some".into(), user)],
            ..Facts::default()
        };
        let joined = cpu_side(&of(4, 10), &mut of(6, 30));
        let [cpu] = &joined.cpus[..] else { panic!("{joined:?}") };
        assert_eq!(cpu.time["user"], Pair { before: 10, after: 30 });
        assert_eq!(cpu.softirqs["NET_RX"], Pair { before: 4, after: 6 });
        assert_eq!(joined.pressure["cpu.some"].delta(), 20);
        let none = cpu_side(&Facts { softirqs: Vec::new(), ..of(4, 10) }, &mut of(6, 30));
        assert!(none.cpus[0].softirqs.is_empty(), "one end tells nothing");
    }

    #[test]
    fn the_busiest_interrupts_are_kept() {
        let line = |irq: u32, count| InterruptFacts {
            irq,
            name: format!("eth0-{irq}"),
            device: None,
            per_cpu: BTreeMap::from([(1, count)]),
            affinity: None,
        };
        let of = |lines: Vec<InterruptFacts>| Facts { interrupts: lines, ..Facts::default() };
        let lines = MOST_INTERRUPTS as u32 + 2;
        let before = of((0..lines - 1).map(|irq| line(irq, 10)).collect());
        // All but numbers 3 and 5 fired.
        let fired = |irq| if irq == 3 || irq == 5 { 10 } else { 12 };
        let mut after = of((0..lines).map(|irq| line(irq, fired(irq))).collect());
        let (kept, left_out) = interrupts(&before, &mut after);
        assert_eq!((kept.len(), left_out), (MOST_INTERRUPTS, 2));
        assert!(kept.is_sorted_by_key(|it| it.irq) && !kept.iter().any(|it| it.irq == 3));
        assert_eq!(kept[0].per_cpu[&1], Pair { before: 10, after: 12 });
        assert_eq!(kept.last().unwrap().per_cpu[&1].before, 0, "requested inside the window");
    }
}
