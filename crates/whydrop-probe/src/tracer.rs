//! The running tracer: its window, what it counted, and its end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::ProgramFd;
use whydrop_model::{Attach, NotChecked, TracerEvidence};

use crate::Error;
use crate::attach::{Both, KINDS, Loaded, Options, load, load_both};
use crate::clock::monotonic_ns;
use crate::counts::Counts;
use crate::events::Events;
use crate::reader::Reader;
use crate::resolve::Resolver;
use crate::wire::RawDrop;

/// A tracer attached to `skb:kfree_skb`. Detached when dropped; nothing is pinned, so nothing
/// remains however the process ends.
///
/// It counts nothing before [`open_window`](Self::open_window).
pub struct Tracer {
    ebpf: Ebpf,
    reader: Option<Reader>,
    enabled: Array<MapData, u32>,
    program: ProgramFd,
    kind: Attach,
    refused: Vec<String>,
    btf: PathBuf,
    opened_ns: u64,
    misses_before: u64,
    misses: Option<u64>,
    /// What earlier laps told, and when the latest of them ended.
    told: Counts,
    lap_ns: u64,
}

/// What the kernel says about the runs of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunStats {
    /// Nanoseconds spent in it; counted only while `kernel.bpf_stats_enabled` is 1.
    pub run_time_ns: u64,
    /// Runs; counted only while `kernel.bpf_stats_enabled` is 1.
    pub run_count: u64,
    /// Runs refused because the program was already running on that CPU; always counted. Zero on
    /// kernels that do not say (before 5.12).
    pub recursion_misses: u64,
}

impl Tracer {
    /// Loads and attaches the tracer, in the first way that the kernel accepts.
    pub fn attach(options: &Options) -> Result<Self, Error> {
        Self::attach_loaded(load(options)?, options)
    }

    /// Attaches the tracer, and beside it the programs of the other tracepoints, for less than
    /// both would take one after the other. Neither needs the other.
    pub fn attach_with_events(options: &Options) -> (Result<Self, Error>, Events, Vec<NotChecked>) {
        match load_both(options) {
            // The kernel checks each program before it takes it: most of what is left to do, and
            // nothing that the two have in common.
            Ok(Both { drops, events }) => thread::scope(|scope| {
                let attaching = scope.spawn(|| Events::attach_loaded(events, options));
                let tracer = drops.and_then(|loaded| Self::attach_loaded(loaded, options));
                let (events, not_checked) =
                    attaching.join().unwrap_or_else(|panic| resume_unwind(panic));
                (tracer, events, not_checked)
            }),
            Err(error) => {
                let (events, not_checked) = Events::none(&error);
                (Err(error), events, not_checked)
            }
        }
    }

    fn attach_loaded(mut loaded: Loaded, options: &Options) -> Result<Self, Error> {
        let (kind, program, refused) = attach_first(&mut loaded, options.only)?;
        // The type information that the loader needed is large; only the maps go on.
        let Loaded { mut ebpf, .. } = loaded;
        let program = program_fd(&ebpf, program)?;
        let missing = |name: &str| Error::Object { why: format!("it has no map `{name}`") };
        let ring = ebpf.take_map("exemplars").ok_or_else(|| missing("exemplars"))?;
        let reader = Some(Reader::new(ring, options.stacks)?);
        let enabled = ebpf.take_map(".bss").ok_or_else(|| missing(".bss"))?;
        let enabled = Array::try_from(enabled).map_err(|error| Error::map("the switch", error))?;
        Ok(Self {
            ebpf,
            reader,
            enabled,
            program,
            kind,
            refused,
            btf: options.btf.clone(),
            opened_ns: 0,
            misses_before: 0,
            misses: None,
            told: Counts::default(),
            lap_ns: 0,
        })
    }

    /// How it is attached.
    pub fn kind(&self) -> Attach {
        self.kind
    }

    /// Why cheaper ways to attach were not possible, one line each.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// The reader of exemplars, to be used here or in another thread; `None` after the first call.
    pub fn reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    /// Starts counting.
    pub fn open_window(&mut self) -> Result<(), Error> {
        self.misses_before = self.run_stats()?.recursion_misses;
        self.misses = None;
        self.opened_ns = monotonic_ns();
        self.lap_ns = self.opened_ns;
        self.switch(1)
    }

    /// Stops counting. Exemplars already on their way can still be read.
    pub fn close_window(&mut self) -> Result<(), Error> {
        self.switch(0)?;
        self.misses = Some(self.run_stats()?.recursion_misses);
        Ok(())
    }

    fn switch(&mut self, enabled: u32) -> Result<(), Error> {
        self.enabled.set(0, enabled, 0).map_err(|error| Error::map("the switch", error))
    }

    /// Whether its maps can be read. Before Linux 5.19 that takes `CAP_BPF` or `CAP_SYS_ADMIN` where
    /// unprivileged BPF is off (`__sys_bpf()`, `kernel/bpf/syscall.c`); later their descriptors do.
    pub fn is_readable(&self) -> bool {
        self.enabled.get(&0, 0).is_ok()
    }

    /// When the window was opened, by [`monotonic_ns`].
    pub fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// What was counted so far, all CPUs together. Exact once the window is closed.
    pub fn counts(&self) -> Result<Counts, Error> {
        let misses = match self.misses {
            Some(misses) => misses,
            None => self.run_stats()?.recursion_misses,
        };
        Counts::read(&self.ebpf, misses.saturating_sub(self.misses_before))
    }

    /// What the kernel says about the runs of the attached program.
    pub fn run_stats(&self) -> Result<RunStats, Error> {
        RunStats::read(&self.program)
    }

    /// What was counted since the last lap, or since the window was opened, with its names; the window
    /// stays open. Laps add up exactly: what is counted while one ends is in it or in the next.
    ///
    /// `drops` are the exemplars that were read since; `known` is as for [`finish`](Self::finish).
    pub fn lap(
        &mut self,
        drops: &[RawDrop],
        resolver: &Resolver,
        known: &dyn Fn(u64) -> bool,
    ) -> Result<TracerEvidence, Error> {
        let counts = self.counts()?;
        let growth = counts.since(&self.told);
        self.told = counts;
        let began = std::mem::replace(&mut self.lap_ns, monotonic_ns());
        let mut evidence = resolver.evidence(&growth, drops, began, known);
        evidence.attach = self.kind;
        evidence.refused.clone_from(&self.refused);
        Ok(evidence)
    }

    /// Closes the window, detaches, and gives everything its name.
    ///
    /// `drops` are the exemplars that were read; `known` says which namespaces exist, by inode. A
    /// total of any other namespace becomes one of which the namespace is not known. What could
    /// not be named is returned beside the evidence.
    pub fn finish(
        mut self,
        drops: &[RawDrop],
        known: &dyn Fn(u64) -> bool,
    ) -> Result<(TracerEvidence, Vec<NotChecked>), Error> {
        self.close_window()?;
        let counts = self.counts()?;
        let Self { ebpf, kind, refused, btf, opened_ns, .. } = self;
        drop(ebpf);
        let resolver = Resolver::read(&btf);
        let mut evidence = resolver.evidence(&counts, drops, opened_ns, known);
        evidence.attach = kind;
        evidence.refused = refused;
        Ok((evidence, resolver.not_checked()))
    }
}

/// Tries the ways to attach in order; returns the one that worked, with its program, and why those
/// before it did not.
fn attach_first(
    loaded: &mut Loaded,
    only: Option<Attach>,
) -> Result<(Attach, &'static str, Vec<String>), Error> {
    let mut attempts = Vec::new();
    let mut denied = false;
    if only == Some(Attach::None) {
        attempts.push("nothing was to be tried".to_owned());
    }
    for (kind, program) in KINDS {
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        match loaded.attach(kind, program) {
            Ok(()) => return Ok((kind, program, attempts)),
            Err(refusal) => {
                denied |= refusal.denied;
                attempts.push(format!("{kind}: {}", refusal.why));
            }
        }
    }
    if denied {
        return Err(Error::NotPermitted { what: "loading the tracer".to_owned() });
    }
    Err(Error::Refused { attempts })
}

/// A descriptor of a loaded program.
pub(crate) fn program_fd(ebpf: &Ebpf, name: &str) -> Result<ProgramFd, Error> {
    let what = || format!("the program `{name}`");
    let program = ebpf
        .program(name)
        .ok_or_else(|| Error::Object { why: format!("it has no program `{name}`") })?;
    let fd = program
        .fd()
        .map_err(|error| Error::Read { what: what(), source: io::Error::other(error) })?;
    fd.try_clone().map_err(|source| Error::Read { what: what(), source })
}

impl RunStats {
    /// Reads them from the descriptor's own page, as `bpf_prog_show_fdinfo` in
    /// `kernel/bpf/syscall.c` writes it (6.18).
    pub(crate) fn read(program: &ProgramFd) -> Result<Self, Error> {
        let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
        let text =
            fs::read_to_string(&path).map_err(|source| Error::Read { what: path, source })?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
                .unwrap_or(0)
        };
        Ok(Self {
            run_time_ns: value("run_time_ns"),
            run_count: value("run_cnt"),
            recursion_misses: value("recursion_misses"),
        })
    }
}
