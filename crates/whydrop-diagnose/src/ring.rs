//! Devices that had no buffer for frames, and what kept the host from providing them.
//!
//! Several causes end in the same counters; the lowest of them is the cause. [`Overrun::why`] decides
//! once, and each rule takes the overruns that are its own.

use std::collections::{BTreeMap, BTreeSet};

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Link, Namespace, Severity, Site};

use crate::case::{Case, Loss};
use crate::cpus::{self, Load};
use crate::nic::Class;
use crate::nic_loss::{self, Tally};
use crate::thresholds::Thresholds;

/// Share of all receive work on one of only two or three CPUs that is as uneven as it gets.
const NEARLY_ALL: f64 = 0.9;

/// Frames for which a device had no buffer of the host.
pub(crate) struct Overrun<'e> {
    pub(crate) namespace: &'e Namespace,
    pub(crate) link: &'e Link,
    pub(crate) tally: Tally,
    /// Failures to get memory for buffers, of the same device.
    pub(crate) no_memory: Tally,
    /// How often the bus stalled the device.
    pcie: Tally,
    /// All CPUs; empty if their time could not be read.
    pub(crate) loads: Vec<Load>,
    /// Those that serve the queues that lost; all if that is not known.
    serving: Vec<Load>,
    thresholds: Thresholds,
    seconds: f64,
}

/// What kept the host from providing buffers in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Why {
    /// No memory for them.
    Memory,
    /// One CPU does most of the receive work; the variant of `nic-irq-imbalance`.
    Uneven(&'static str),
    /// The CPU is saturated with packets.
    CpuBusy,
    /// The CPU is busy with something else than packets.
    Kept(Load),
    /// The hypervisor took the CPU away.
    Stolen(Load),
    /// The bus.
    Pcie,
    /// CPUs have time; the ring is smaller than it may be.
    RingSmall,
    /// CPUs have time and the ring is as large as it may be: they come too late.
    Late,
    /// What CPUs did is not known.
    Unknown,
}

/// Every device that lost frames for want of buffers, with what is known about why.
pub(crate) fn overruns<'e>(case: &Case<'e>) -> Vec<Overrun<'e>> {
    let evidence = case.evidence();
    let loads = cpus::loads(evidence);
    let mut overruns = Vec::new();
    for namespace in case.namespaces() {
        for link in namespace.links.iter().filter(|link| nic_loss::is_hardware(link)) {
            let tally = nic_loss::lost(link, Class::NoBuffer);
            if tally.packets == 0 {
                continue;
            }
            let queues: BTreeSet<u32> = tally.queues.keys().copied().collect();
            let mut serving = cpus::serving(evidence, link, &loads, &queues);
            if serving.is_empty() {
                serving.clone_from(&loads);
            }
            overruns.push(Overrun {
                namespace,
                link,
                tally,
                no_memory: nic_loss::lost(link, Class::NoMemory),
                pcie: nic_loss::lost(link, Class::Pcie),
                loads: loads.clone(),
                serving,
                thresholds: case.thresholds(),
                seconds: evidence.window.seconds,
            });
        }
    }
    overruns
}

impl Overrun<'_> {
    /// The busiest of the CPUs that serve the device.
    pub(crate) fn busiest(&self) -> Option<Load> {
        self.serving.iter().copied().max_by(|a, b| a.busy.total_cmp(&b.busy))
    }

    fn most_stolen(&self) -> Option<Load> {
        self.serving.iter().copied().max_by(|a, b| a.steal.total_cmp(&b.steal))
    }

    /// What kept the host from providing buffers: the lowest cause that the evidence shows.
    pub(crate) fn why(&self, evidence: &whydrop_model::Evidence) -> Why {
        let limits = &self.thresholds;
        if !self.no_memory.is_empty() {
            return Why::Memory;
        }
        if let Some(stolen) = self.most_stolen().filter(|load| load.steal >= limits.steal) {
            return Why::Stolen(stolen);
        }
        let Some(busiest) = self.busiest() else { return Why::Unknown };
        let with_packets = busiest.softirq * 2.0 >= busiest.busy;
        if busiest.softirq >= limits.softirq_busy
            || (busiest.busy >= limits.cpu_busy && with_packets)
        {
            let uneven = self.uneven(busiest).then(|| self.spread(evidence));
            return uneven.map_or(Why::CpuBusy, Why::Uneven);
        }
        if busiest.busy >= limits.cpu_busy {
            return Why::Kept(busiest);
        }
        if !self.pcie.is_empty() {
            return Why::Pcie;
        }
        match self.ring() {
            Some((now, most)) if now < most => Why::RingSmall,
            _ => Why::Late,
        }
    }

    /// This CPU does far more of the receive work than the others, which have time to spare.
    fn uneven(&self, busiest: Load) -> bool {
        let count = self.loads.len() as f64;
        let all: u64 = self.loads.iter().map(|load| load.receives).sum();
        let times_mean = busiest.receives as f64 * count / all.max(1) as f64;
        let others = self.loads.iter().filter(|load| load.cpu != busiest.cpu);
        let spare = others.map(|load| load.busy).fold(f64::INFINITY, f64::min);
        self.loads.len() > 1
            && times_mean >= self.thresholds.imbalance.min(NEARLY_ALL * count)
            && spare < self.thresholds.cpu_busy
    }

    /// Why the work is not spread.
    fn spread(&self, evidence: &whydrop_model::Evidence) -> &'static str {
        let queues = cpus::receive_queues(self.link);
        if queues == Some(1) {
            return "single-queue";
        }
        let cpus: BTreeSet<u32> =
            cpus::by_queue(evidence, self.link).into_values().flatten().collect();
        let packets = packets_by_queue(self.link);
        let all: u64 = packets.values().sum();
        let share = packets.values().max().copied().unwrap_or(0) as f64 / all.max(1) as f64;
        let count = packets.len() as f64;
        let one_flow = share >= self.thresholds.queue_share
            && share * count >= self.thresholds.imbalance.min(NEARLY_ALL * count);
        if cpus.len() > 1 && one_flow { "elephant-flow" } else { "rss" }
    }

    /// Mask of all CPUs but one, as the kernel writes masks: groups of 32 bits. `None` if there is no
    /// other.
    pub(crate) fn others_mask(&self, hot: u32) -> Option<String> {
        let others = self.loads.iter().map(|load| load.cpu).filter(|cpu| *cpu != hot && *cpu < 64);
        match others.fold(0_u64, |mask, cpu| mask | 1 << cpu) {
            0 => None,
            mask if mask >> 32 == 0 => Some(format!("{mask:x}")),
            mask => Some(format!("{:x},{:08x}", mask >> 32, mask & 0xffff_ffff)),
        }
    }

    /// Descriptors of the receive ring: now, and at most.
    pub(crate) fn ring(&self) -> Option<(u32, u32)> {
        let of = |name: &str| self.link.ring.get(name).copied();
        Some((of("rx_pending")?, of("rx_max_pending")?))
    }

    /// Queues, each with a CPU of its own, that the host's softirqs need.
    pub(crate) fn queues_needed(&self) -> u32 {
        let load: f64 = self.loads.iter().map(|load| load.softirq).sum();
        let cpus = u32::try_from(self.loads.len()).unwrap_or(u32::MAX).max(1);
        let enough = |queues: &u32| load <= self.thresholds.planned_load * f64::from(*queues);
        (1..cpus).find(enough).unwrap_or(cpus)
    }

    /// Takes the packets out of the counters that know them.
    pub(crate) fn book(&self, case: &mut Case<'_>) -> Loss {
        book(case, self.namespace, self.link, Class::NoBuffer);
        Loss::counted(self.tally.packets)
    }

    /// Where it happened.
    pub(crate) fn site(&self, case: &Case<'_>, object: String) -> Site {
        Site {
            device: Some(self.link.name.clone()),
            object: Some(object),
            ..case.site_of(Some(self.namespace.inode))
        }
    }

    /// The counters, and what CPUs and ring were like.
    pub(crate) fn proof(&self) -> Vec<EvidenceItem> {
        use EvidenceKind::State;
        let mut proof = self.tally.proof(&self.link.name);
        proof.extend(self.no_memory.proof(&self.link.name));
        proof.extend(self.pcie.proof(&self.link.name));
        if let Some((now, most)) = self.ring() {
            let name = format!("receive ring of {}, descriptors of at most", self.link.name);
            proof.push(EvidenceItem::new(State, name, format!("{now} of {most}")));
        }
        proof.extend(self.busiest().map(|load| state_of(&load)));
        let stolen = self.most_stolen().filter(|load| load.steal >= self.thresholds.steal);
        proof.extend(stolen.map(|load| {
            let name = format!("CPU {}, stolen by the hypervisor", load.cpu);
            EvidenceItem::new(State, name, percent(load.steal))
        }));
        proof
    }

    /// Certain if the state is known as well as the counter.
    pub(crate) fn confidence(&self) -> Confidence {
        if self.loads.is_empty() { Confidence::Likely } else { Confidence::Confirmed }
    }

    /// See [`severity`].
    pub(crate) fn severity(&self) -> Severity {
        severity(self.link, self.tally.packets, self.seconds)
    }
}

/// Descriptors that a receive ring needs.
pub(crate) struct Needed {
    /// How many it has.
    pub(crate) now: u32,
    /// How many it may have.
    pub(crate) most: u32,
    /// What its worst queue lost, or all of them if that is not told.
    pub(crate) lost: u64,
    /// How many it needs.
    pub(crate) size: u32,
}

/// Descriptors needed so that a loss like this one does not come again, if all of it was one burst:
/// what the ring has, and what the worst queue lost. A power of two, as drivers want it; `None` if it
/// cannot have more than it has.
pub(crate) fn needed(link: &Link) -> Option<Needed> {
    let of = |name: &str| link.ring.get(name).copied();
    let (now, most) = (of("rx_pending")?, of("rx_max_pending")?);
    let tally = nic_loss::lost(link, Class::NoBuffer);
    let lost = tally.worst_queue().map_or(tally.packets, |(_, lost)| lost);
    let needed = u32::try_from(u64::from(now).saturating_add(lost)).unwrap_or(u32::MAX);
    let size = needed.checked_next_power_of_two().unwrap_or(most).min(most);
    (size > now).then_some(Needed { now, most, lost, size })
}

/// Takes what a device lost out of the fields that count it.
pub(crate) fn book(case: &mut Case<'_>, namespace: &Namespace, link: &Link, class: Class) {
    for field in nic_loss::all_fields(class) {
        let grown = case.unbooked_field(namespace, link, field);
        case.book_field(namespace, link, field, grown);
    }
}

/// One packet a second, or one of ten thousand, is felt.
pub(crate) fn severity(link: &Link, lost: u64, seconds: f64) -> Severity {
    let received = link.stats.get("rx_packets").map_or(0, |pair| pair.delta());
    let often = lost as f64 >= seconds.max(1.0);
    if often || lost.saturating_mul(10_000) >= received.max(1) {
        Severity::Critical
    } else {
        Severity::Warning
    }
}

/// How busy a CPU was, as evidence.
pub(crate) fn state_of(load: &Load) -> EvidenceItem {
    let name = format!("CPU {}, busy and of that in softirqs", load.cpu);
    let value = format!("{} and {}", percent(load.busy), percent(load.softirq));
    EvidenceItem::new(EvidenceKind::State, name, value)
}

/// A share, for people.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Packets received on each queue, by whatever name the driver has for it.
fn packets_by_queue(link: &Link) -> BTreeMap<u32, u64> {
    let mut queues = BTreeMap::new();
    for (name, pair) in &link.ethtool {
        let lower = name.to_ascii_lowercase();
        let counts = ["packets", "_cnt", "pkts", "_pkts"].iter().any(|end| lower.ends_with(end));
        let other = ["xdp", "tx", "drop", "xsk", "csum"].iter().any(|word| lower.contains(word));
        let mut numbers = lower.split(|c: char| !c.is_ascii_digit()).filter(|it| !it.is_empty());
        let number = numbers.next().filter(|_| numbers.next().is_none());
        if let Some(queue) = number.and_then(|number| number.parse().ok())
            && lower.contains("rx")
            && counts
            && !other
        {
            let most: &mut u64 = queues.entry(queue).or_default();
            *most = pair.delta().max(*most);
        }
    }
    queues
}
