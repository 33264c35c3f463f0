//! Tracepoints other than `skb:kfree_skb` that tell of loss: counted in the kernel, with a few
//! exemplars of each kind.
//!
//! Every tracepoint has a program of its own. One that this kernel does not have, or refuses, costs
//! its own facts. Nothing here judges: what comes out is [`whydrop_model::EventEvidence`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{ProgramFd, RawTracePoint};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use whydrop_model::{EventEvidence, EventExemplar, EventTotal, NotChecked};

use crate::attach::{Options, Refusal, cpus, load_events};
use crate::clock::monotonic_ns;
use crate::counts::{Count, counter, grown, remainders, totals};
use crate::events::catalogue::{Names, Offer, TRACEPOINTS, Tracepoint, numbered, offers};
use crate::tracer::program_fd;
use crate::wire::event::{EVENTS, EventKey, RawEvent};
use crate::wire::{BUCKET_BYTES, COUNTER_RING_FULL};
use crate::{Btf, Error, RunStats};

mod catalogue;

static OBJECT: &[u8] = include_bytes_aligned!("../bpf/events.bpf.o");

/// What the tables of all CPUs together may take in the kernel.
const KERNEL_BYTES: usize = 4 << 20;
/// More buckets than this a tracepoint never needs: 256 keys per CPU.
const MOST_BUCKETS: usize = 32;

/// Exemplars per second, for each key on each CPU.
const MOST_PER_SECOND: u32 = 2;
/// Exemplars of one key that are kept.
const KEPT_PER_KEY: u32 = 4;
/// Exemplars kept in all.
const KEPT: usize = 512;

/// What the object is told before it is loaded.
pub(crate) struct Globals {
    offers: [Offer; TRACEPOINTS.len()],
    arguments: [u8; EVENTS as usize],
    rate: u32,
    bucket_mask: u32,
}

/// The loaded object, and what the kernel offers to its programs.
pub(crate) struct LoadedEvents {
    ebpf: Ebpf,
    offers: [Offer; TRACEPOINTS.len()],
}

impl Globals {
    pub(crate) fn new(options: &Options, btf: &Btf) -> Result<Self, Error> {
        let offers = offers(btf);
        let mut arguments = [0; EVENTS as usize];
        for (tracepoint, offer) in TRACEPOINTS.iter().zip(&offers) {
            if let Offer::Arguments(number) = offer {
                arguments[tracepoint.number as usize] = *number;
            }
        }
        let wanted = options.buckets.map_or(MOST_BUCKETS, |buckets| buckets as usize);
        let bucket_mask = buckets(wanted, cpus()?) - 1;
        Ok(Self { offers, arguments, rate: options.rate.min(MOST_PER_SECOND), bucket_mask })
    }

    pub(crate) fn load<'a>(&'a self, loader: &mut EbpfLoader<'a>) -> Result<LoadedEvents, Error> {
        let loaded = loader
            .override_global("arguments", &self.arguments[..], true)
            .override_global("rate", &self.rate, true)
            .override_global("bucket_mask", &self.bucket_mask, true)
            .map_max_entries("totals", EVENTS * (self.bucket_mask + 1))
            .load(OBJECT);
        // Whatever is loaded next with this loader need not have it.
        loader.override_global("arguments", &self.arguments[..], false);
        let ebpf = loaded.map_err(|error| Error::loading(&error))?;
        Ok(LoadedEvents { ebpf, offers: self.offers.clone() })
    }
}

/// How many buckets each tracepoint gets, at most as many as wanted: a power of two.
fn buckets(wanted: usize, cpus: usize) -> u32 {
    let fit = KERNEL_BYTES / (BUCKET_BYTES * EVENTS as usize * cpus);
    let most = wanted.clamp(1, MOST_BUCKETS).min(fit.max(1));
    1 << most.ilog2()
}

/// Programs at tracepoints other than `skb:kfree_skb`; detached when dropped.
///
/// Nothing is counted before [`open_window`](Self::open_window).
pub struct Events {
    running: Option<Running>,
    absent: Vec<String>,
    btf: PathBuf,
    opened_ns: u64,
}

struct Running {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    enabled: Array<MapData, u32>,
    programs: Vec<(&'static Tracepoint, ProgramFd)>,
    misses_before: u64,
    kept: Kept,
    told: Told,
    /// Once they were needed.
    names: Option<Names>,
}

/// What earlier laps told.
#[derive(Default)]
struct Told {
    totals: BTreeMap<EventKey, Count>,
    spilled: BTreeMap<u32, Count>,
    ring_full: u64,
    lost: u64,
}

/// Exemplars kept as evidence: the first few of each kind, so that none is crowded out.
#[derive(Default)]
struct Kept {
    events: Vec<RawEvent>,
    per_key: BTreeMap<EventKey, u32>,
    traps: BTreeMap<u32, Box<str>>,
}

/// How often something happened so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// Tracepoint, as `tcp:tcp_send_reset`.
    pub event: String,
    /// Inode of the network namespace; 0 if the event did not tell.
    pub netns: u64,
    /// Own port; 0 as in [`EventTotal`].
    pub port: u16,
    /// How often.
    pub packets: u64,
}

impl Events {
    /// Loads and attaches whatever this kernel takes. What it refuses is returned beside it;
    /// tracepoints that it does not have are not.
    pub fn attach(options: &Options) -> (Self, Vec<NotChecked>) {
        Self::attach_loaded(load_events(options), options)
    }

    /// None at all, because of this.
    pub(crate) fn none(why: &Error) -> (Self, Vec<NotChecked>) {
        let what = "signs of loss other than drops (resets, retransmits, full queues)".to_owned();
        let none = Self { running: None, absent: Vec::new(), btf: PathBuf::new(), opened_ns: 0 };
        (none, vec![NotChecked { what, why: why.to_string() }])
    }

    pub(crate) fn attach_loaded(
        loaded: Result<LoadedEvents, Error>,
        options: &Options,
    ) -> (Self, Vec<NotChecked>) {
        match loaded.and_then(|loaded| Self::try_attach(loaded, options)) {
            Ok(attached) => attached,
            Err(error) => Self::none(&error),
        }
    }

    fn try_attach(
        loaded: LoadedEvents,
        options: &Options,
    ) -> Result<(Self, Vec<NotChecked>), Error> {
        let LoadedEvents { mut ebpf, offers } = loaded;
        let (mut programs, mut absent, mut not_checked) = (Vec::new(), Vec::new(), Vec::new());
        for (tracepoint, offer) in TRACEPOINTS.iter().zip(offers) {
            if tracepoint.name == "napi_poll" && !options.polls {
                continue;
            }
            let why = match offer {
                Offer::Absent => {
                    absent.push(tracepoint.full_name());
                    continue;
                }
                Offer::Unsuited(why) => why,
                Offer::Arguments(_) => match attach_one(&mut ebpf, tracepoint.name) {
                    Ok(()) => {
                        programs.push((tracepoint, program_fd(&ebpf, tracepoint.name)?));
                        continue;
                    }
                    Err(refusal) if refusal.denied => {
                        let what = "loading programs for tracepoints".to_owned();
                        return Err(Error::NotPermitted { what });
                    }
                    Err(refusal) => refusal.why,
                },
            };
            let what = format!("tracepoint {}", tracepoint.full_name());
            not_checked.push(NotChecked { what, why });
        }
        let missing = |name: &str| Error::Object { why: format!("it has no map `{name}`") };
        let ring = ebpf.take_map("exemplars").ok_or_else(|| missing("exemplars"))?;
        let enabled = ebpf.take_map(".bss").ok_or_else(|| missing(".bss"))?;
        let running = Running {
            ring: RingBuf::try_from(ring).map_err(|error| Error::map("the ring", error))?,
            enabled: Array::try_from(enabled).map_err(|error| Error::map("the switch", error))?,
            ebpf,
            programs,
            misses_before: 0,
            kept: Kept::default(),
            told: Told::default(),
            names: None,
        };
        let btf = options.btf.clone();
        Ok((Self { running: Some(running), absent, btf, opened_ns: 0 }, not_checked))
    }

    /// Starts counting.
    pub fn open_window(&mut self) -> Result<(), Error> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.misses_before = running.misses()?;
        self.opened_ns = monotonic_ns();
        running.switch(1)
    }

    /// Stops counting.
    pub fn close_window(&mut self) -> Result<(), Error> {
        self.running.as_mut().map_or(Ok(()), |running| running.switch(0))
    }

    /// Takes what exemplars there are out of the ring and keeps the first of each kind. Does not
    /// wait: to be called a few times a second, or the ring fills up, which is counted.
    pub fn drain(&mut self) {
        let Some(Running { ring, kept, .. }) = &mut self.running else { return };
        while let Some(record) = ring.next() {
            if let Some(event) = RawEvent::read(&record) {
                kept.keep(event);
            }
        }
    }

    /// Whether something is to tell of in detail since the last lap, or since the start.
    #[must_use]
    pub fn any_kept(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.kept.events.is_empty())
    }

    /// What was counted so far, without what spilled.
    pub fn counts(&self) -> Result<Vec<EventCount>, Error> {
        let Some(running) = &self.running else { return Ok(Vec::new()) };
        let counts = totals(&running.ebpf, EventKey::in_use)?;
        let counts = counts.into_iter().map(|(key, count)| EventCount {
            event: numbered(key.event).map(Tracepoint::full_name).unwrap_or_default(),
            netns: key.netns.into(),
            port: key.port,
            packets: count.packets,
        });
        Ok(counts.collect())
    }

    /// What the kernel says about the runs of each program, by tracepoint.
    pub fn run_stats(&self) -> Result<Vec<(String, RunStats)>, Error> {
        let programs = self.running.iter().flat_map(|running| &running.programs);
        programs.map(|(tracepoint, fd)| Ok((tracepoint.full_name(), RunStats::read(fd)?))).collect()
    }

    /// Closes the window, detaches, and gives everything its name. `known` says which namespaces
    /// exist, as for [`Tracer::finish`](crate::Tracer::finish).
    pub fn finish(mut self, known: &dyn Fn(u64) -> bool) -> Result<EventEvidence, Error> {
        self.close_window()?;
        self.lap(known)
    }

    /// What was counted since the last lap, or since the window was opened, with its names; the window
    /// stays open.
    pub fn lap(&mut self, known: &dyn Fn(u64) -> bool) -> Result<EventEvidence, Error> {
        self.drain();
        let Some(running) = &mut self.running else { return Ok(EventEvidence::default()) };
        let now = Told {
            totals: totals(&running.ebpf, EventKey::in_use)?,
            spilled: (0..).zip(remainders(&running.ebpf, EVENTS)?).collect(),
            ring_full: counter(&running.ebpf, COUNTER_RING_FULL)?,
            lost: running.misses()?.saturating_sub(running.misses_before),
        };
        let kept = std::mem::take(&mut running.kept.events);
        running.kept.per_key.clear();
        // The kernel's type information is megabytes, and does not change.
        let mut names = match running.names.take() {
            Some(names) => names,
            None => Names::read(&Btf::read(&self.btf)?),
        };
        names.traps.clone_from(&running.kept.traps);
        let told = std::mem::replace(&mut running.told, now);
        let counts = grown(&running.told.totals, &told.totals);
        let growth = grown(&running.told.spilled, &told.spilled);
        let spilled: Vec<Count> =
            (0..EVENTS).map(|event| growth.get(&event).copied().unwrap_or_default()).collect();
        let began = std::mem::replace(&mut self.opened_ns, monotonic_ns());
        let attached = running.programs.iter().map(|(point, _)| point.full_name()).collect();
        let mut evidence = EventEvidence {
            attached,
            absent: self.absent.clone(),
            ring_full: running.told.ring_full.saturating_sub(told.ring_full),
            spilled: spilled.iter().map(|count| count.packets).sum(),
            lost: running.told.lost.saturating_sub(told.lost),
            totals: named_totals(counts, &spilled, &names, known),
            exemplars: kept
                .into_iter()
                .filter_map(|raw| exemplar(raw, began, &names, known))
                .collect(),
            ..EventEvidence::default()
        };
        running.names = Some(names);
        evidence.exemplars.sort_by_key(|exemplar| exemplar.at_ns);
        evidence.settle();
        Ok(evidence)
    }
}

fn attach_one(ebpf: &mut Ebpf, name: &str) -> Result<(), Refusal> {
    let Some(program) = ebpf.program_mut(name) else {
        return Err(Refusal::new("the object has no program for it"));
    };
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(name).map(drop).map_err(|error| {
        let _ = program.unload();
        error.into()
    })
}

impl Running {
    fn switch(&mut self, enabled: u32) -> Result<(), Error> {
        self.enabled.set(0, enabled, 0).map_err(|error| Error::map("the switch", error))
    }

    fn misses(&self) -> Result<u64, Error> {
        let stats = self.programs.iter().map(|(_, program)| RunStats::read(program));
        stats.map(|stats| stats.map(|stats| stats.recursion_misses)).sum()
    }
}

impl Kept {
    fn keep(&mut self, event: RawEvent) {
        if let Some(trap) = &event.trap {
            self.traps.entry(event.key.code).or_insert_with(|| trap.clone());
        }
        let count = self.per_key.entry(event.key).or_default();
        *count += 1;
        if *count <= KEPT_PER_KEY && self.events.len() < KEPT {
            self.events.push(event);
        }
    }
}

/// The key without a namespace that does not exist, nor the interface index within it.
fn settle(mut key: EventKey, known: &dyn Fn(u64) -> bool) -> EventKey {
    if !known(key.netns.into()) {
        key.netns = 0;
        key.ifindex = 0;
    }
    key
}

fn named_totals(
    counts: BTreeMap<EventKey, Count>,
    spilled: &[Count],
    names: &Names,
    known: &dyn Fn(u64) -> bool,
) -> Vec<EventTotal> {
    // Keys may become equal once namespaces that do not exist are taken out of them.
    let mut settled: BTreeMap<EventKey, Count> = BTreeMap::new();
    for (key, count) in counts {
        settled.entry(settle(key, known)).or_default().add(count);
    }
    let placed = settled.into_iter().filter_map(|(key, count)| {
        let tracepoint = numbered(key.event)?;
        Some(EventTotal {
            event: tracepoint.full_name(),
            code: names.code(tracepoint, key.code),
            netns: (key.netns != 0).then_some(key.netns.into()),
            ifindex: key.ifindex,
            device: None,
            family: key.family,
            l4: (key.l4 != 0).then_some(key.l4),
            port: key.port,
            packets: count.packets,
        })
    });
    let spilled = (0..).zip(spilled).filter_map(|(number, count)| {
        Some(EventTotal {
            event: numbered(number).filter(|_| count.packets != 0)?.full_name(),
            code: String::new(),
            netns: None,
            ifindex: 0,
            device: None,
            family: 0,
            l4: None,
            port: 0,
            packets: count.packets,
        })
    });
    let mut totals: Vec<_> = placed.chain(spilled).collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.packets));
    totals
}

fn exemplar(
    raw: RawEvent,
    opened_ns: u64,
    names: &Names,
    known: &dyn Fn(u64) -> bool,
) -> Option<EventExemplar> {
    let key = settle(raw.key, known);
    let tracepoint = numbered(key.event)?;
    Some(EventExemplar {
        at_ns: raw.monotonic_ns.saturating_sub(opened_ns),
        event: tracepoint.full_name(),
        code: names.code(tracepoint, key.code),
        netns: (key.netns != 0).then_some(key.netns.into()),
        ifindex: key.ifindex,
        device: raw.device.map(Into::into),
        flow: raw.flow,
        neighbour: raw.neighbour,
        socket: raw.socket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: EventKey =
        EventKey { event: 3, code: 1, netns: 7, ifindex: 2, port: 80, family: 2, l4: 6 };

    #[test]
    fn the_table_stays_within_its_memory() {
        assert_eq!(buckets(MOST_BUCKETS, 2), 32);
        assert_eq!(buckets(MOST_BUCKETS, 64), 8);
        assert_eq!((buckets(1, 2), buckets(3, 2), buckets(0, 2)), (1, 2, 1));
        for cpus in 1..=585 {
            let bytes =
                buckets(MOST_BUCKETS, cpus) as usize * EVENTS as usize * BUCKET_BYTES * cpus;
            assert!(bytes <= KERNEL_BYTES, "{cpus} CPUs take {bytes}");
        }
        // Beyond, the least that makes sense wins.
        assert_eq!(buckets(MOST_BUCKETS, 8192), 1);
    }

    #[test]
    fn unknown_namespaces_are_taken_out_and_the_sum_stays() {
        let count = |packets| Count { packets, bytes: 0 };
        let other = EventKey { netns: 8, ifindex: 3, ..KEY };
        let third = EventKey { netns: 9, ifindex: 4, ..KEY };
        let counts = BTreeMap::from([(KEY, count(1)), (other, count(2)), (third, count(4))]);
        let mut spilled = [Count::default(); EVENTS as usize];
        spilled[13] = count(5);
        let totals = named_totals(counts, &spilled, &Names::default(), &|inode| inode == 7);
        let found: Vec<_> =
            totals.iter().map(|total| (&*total.event, total.netns, total.packets)).collect();
        assert_eq!(
            found,
            [
                ("tcp:tcp_send_reset", None, 6),
                ("napi:napi_poll", None, 5),
                ("tcp:tcp_send_reset", Some(7), 1),
            ]
        );
        assert_eq!(totals[0].ifindex, 0);
    }

    #[test]
    fn the_first_of_each_kind_are_kept() {
        let event = |code, trap: Option<&str>| RawEvent {
            key: EventKey { code, ..KEY },
            monotonic_ns: 0,
            device: None,
            trap: trap.map(Into::into),
            flow: None,
            neighbour: None,
            socket: None,
        };
        let mut kept = Kept::default();
        for _ in 0..10 {
            kept.keep(event(1, None));
        }
        kept.keep(event(2, Some("blackhole_route")));
        assert_eq!(kept.events.len(), KEPT_PER_KEY as usize + 1);
        assert_eq!(kept.traps.get(&2).map(AsRef::as_ref), Some("blackhole_route"));
        for code in 3..1000 {
            kept.keep(event(code, None));
        }
        assert_eq!(kept.events.len(), KEPT);
    }
}
