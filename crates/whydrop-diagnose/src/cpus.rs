//! How busy CPUs were, and which of them serve a network device.

use std::collections::{BTreeMap, BTreeSet};

use whydrop_model::{Cpu, Evidence, Interrupt, Link};

/// What a CPU did in the window, as shares of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// CPU number.
    pub(crate) cpu: u32,
    /// Not idle and not waiting for a disk; without what was stolen.
    pub(crate) busy: f64,
    /// Running softirqs, most of which are packets.
    pub(crate) softirq: f64,
    /// Wanted to run, and the hypervisor ran something else.
    pub(crate) steal: f64,
    /// How often it ran the receive softirq.
    pub(crate) receives: u64,
}

/// All CPUs whose time could be read.
pub(crate) fn loads(evidence: &Evidence) -> Vec<Load> {
    evidence.cpu_side.cpus.iter().filter_map(load).collect()
}

fn load(cpu: &Cpu) -> Option<Load> {
    let time = |name: &str| cpu.time.get(name).map_or(0, |pair| pair.delta());
    let all: u64 = cpu.time.values().map(|pair| pair.delta()).sum();
    let share = |part: u64| part as f64 / all as f64;
    (all > 0).then(|| Load {
        cpu: cpu.cpu,
        busy: share(all - time("idle") - time("iowait") - time("steal")),
        softirq: share(time("softirq")),
        steal: share(time("steal")),
        receives: cpu.softirqs.get("NET_RX").map_or(0, |pair| pair.delta()),
    })
}

/// Those of `loads` that took interrupts of the device, or of some of its queues if any of theirs is
/// known; empty if it is not known which.
pub(crate) fn serving(
    evidence: &Evidence,
    link: &Link,
    loads: &[Load],
    queues: &BTreeSet<u32>,
) -> Vec<Load> {
    let all: Vec<_> =
        evidence.cpu_side.interrupts.iter().filter(|one| belongs(one, link)).collect();
    let of_queues: Vec<_> = all
        .iter()
        .copied()
        .filter(|one| queue(one).is_some_and(|number| queues.contains(&number)))
        .collect();
    let cpus = takers(if of_queues.is_empty() { &all } else { &of_queues });
    loads.iter().copied().filter(|load| cpus.contains(&load.cpu)).collect()
}

/// CPUs that took each queue's interrupts.
pub(crate) fn by_queue(evidence: &Evidence, link: &Link) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut queues: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for one in evidence.cpu_side.interrupts.iter().filter(|one| belongs(one, link)) {
        let takers = takers(&[one]);
        if let Some(queue) = queue(one).filter(|_| !takers.is_empty()) {
            queues.entry(queue).or_default().extend(takers);
        }
    }
    queues
}

fn takers(interrupts: &[&Interrupt]) -> BTreeSet<u32> {
    let taken = interrupts.iter().flat_map(|one| &one.per_cpu);
    taken.filter(|(_, pair)| pair.delta() > 0).map(|(cpu, _)| *cpu).collect()
}

fn belongs(interrupt: &Interrupt, link: &Link) -> bool {
    let bus = link.driver.as_ref().map_or("", |driver| driver.bus.as_str());
    let parent = link.parent_device.as_deref().unwrap_or_default();
    let device = interrupt.device.as_deref();
    let on_it = device.is_some_and(|device| device == bus || device == parent);
    let mut words = interrupt.name.split(['-', '@', ':', '.', ' ']);
    on_it || words.any(|word| word == link.name || (!parent.is_empty() && word == parent))
}

/// The queue that an interrupt is about, by its name: `eth0-TxRx-3`, `mlx5_comp3@pci:...`,
/// `virtio2-input.3`. That of sending (`virtio2-output.3`) or of management is about none.
fn queue(interrupt: &Interrupt) -> Option<u32> {
    let name = interrupt.name.split('@').next()?;
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number = name[name.len() - digits..].parse().ok()?;
    let sends = name.contains("output") || name.contains("-tx-") || name.contains("-Tx-");
    let receives = name.to_ascii_lowercase().contains("rx");
    (!sends || receives).then_some(number)
}

/// Queues that the device receives with, as far as it tells.
pub(crate) fn receive_queues(link: &Link) -> Option<u32> {
    let channels = |name: &str| link.channels.get(name).copied().unwrap_or(0);
    let counted = channels("combined_count") + channels("rx_count");
    if counted > 0 { Some(counted) } else { link.rx_queues }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Pair;

    use super::*;
    use crate::sample;

    fn interrupt(name: &str, device: Option<&str>, cpu: u32) -> Interrupt {
        Interrupt {
            name: name.into(),
            device: device.map(Into::into),
            per_cpu: BTreeMap::from([(cpu, Pair { before: 0, after: 5 })]),
            ..Interrupt::default()
        }
    }

    #[test]
    fn shares_of_a_cpus_time() {
        let pair = |after| Pair { before: 0, after };
        let time = [("user", 1000), ("softirq", 6000), ("idle", 2000), ("steal", 1000)];
        let cpu = Cpu {
            cpu: 3,
            time: time.iter().map(|(name, ms)| ((*name).to_owned(), pair(*ms))).collect(),
            ..Cpu::default()
        };
        let load = load(&cpu).unwrap();
        assert_eq!((load.cpu, load.softirq, load.steal), (3, 0.6, 0.1));
        assert!((load.busy - 0.7).abs() < 1e-9);
        assert_eq!(super::load(&Cpu::default()), None);
    }

    #[test]
    fn interrupts_belong_to_their_device() {
        let mut evidence = sample::evidence();
        evidence.cpu_side.interrupts = vec![
            interrupt("eth0-TxRx-0", None, 0),
            interrupt("eth0-TxRx-1", None, 1),
            interrupt("eth1-TxRx-0", None, 2),
            interrupt("mlx5_comp3@pci:0000:05:00.0", Some("0000:05:00.0"), 3),
        ];
        let eth0 = Link { name: "eth0".into(), ..Link::default() };
        let queues = by_queue(&evidence, &eth0);
        assert_eq!(queues, BTreeMap::from([(0, [0].into()), (1, [1].into())]));
        let driver = whydrop_model::Driver { bus: "0000:05:00.0".into(), ..Default::default() };
        let mlx = Link { name: "p1".into(), driver: Some(driver), ..Link::default() };
        assert_eq!(by_queue(&evidence, &mlx), BTreeMap::from([(3, [3].into())]));
    }

    #[test]
    fn queues_are_told_by_the_names_of_interrupts() {
        let of = |name: &str| queue(&interrupt(name, None, 0));
        assert_eq!(of("virtio2-input.3"), Some(3));
        assert_eq!(of("virtio2-output.3"), None);
        assert_eq!(of("i40e-eth0-TxRx-12"), Some(12));
        assert_eq!(of("mlx5_comp7@pci:0000:05:00.0"), Some(7));
        assert_eq!(of("ena-mgmnt@pci:0000:00:05.0"), None);
        assert_eq!(of("eth0-Tx-2"), None);
    }
}
