//! One window after the other, for as long as somebody looks: each a whole piece of evidence.
//!
//! The tracer stays attached and its laps add up exactly. The counters of a lap are read when it
//! begins and when it ends; what a counter alone sees in the milliseconds between two laps is in
//! neither.

use std::time::{Duration, Instant};

use anyhow::bail;
use whydrop_collect::Watch;
use whydrop_model::{Evidence, Frame, Host, NotChecked};
use whydrop_probe::{DebugInfo, Resolver};

use crate::cli::Observe;
use crate::observe::{Seen, evidence};
use crate::privilege::Privileges;
use crate::trace::Trace;

/// Reading the counters may take one part in so many of the time.
const SHARE: u32 = 20;

/// Windows that follow each other.
pub(crate) struct Laps {
    what: Observe,
    host: Host,
    unknown: Vec<NotChecked>,
    trace: Trace,
    resolver: Resolver,
    debug_info: DebugInfo,
    /// There between two laps.
    counters: Option<Watch>,
    /// How long a lap is; longer than asked for where reading the counters is expensive.
    length: Duration,
    due: Instant,
}

impl Laps {
    /// Attaches the tracer and begins the first lap.
    pub(crate) fn start(
        what: &Observe,
        length: Duration,
        privileges: &Privileges,
    ) -> anyhow::Result<Self> {
        let (host, unknown) = whydrop_collect::host();
        let trace = Trace::start(what);
        privileges.attached(|| trace.is_readable());
        let resolver = Resolver::read(&what.kernel_btf);
        let debug_info = resolver.debug_info();
        let counters = Some(open(what)?);
        let due = Instant::now() + length;
        let what = what.clone();
        Ok(Self { what, host, unknown, trace, resolver, debug_info, counters, length, due })
    }

    /// Waits for a short time; true once the lap is over.
    pub(crate) fn wait(&mut self, at_most: Duration) -> bool {
        let left = self.due.saturating_duration_since(Instant::now());
        self.trace.wait(left.min(at_most));
        Instant::now() >= self.due
    }

    /// Adds lines of source and merged functions to a stack of some lap. The first one takes a while.
    pub(crate) fn annotate(&mut self, stack: &mut [Frame]) {
        self.debug_info.annotate_by_site(&self.resolver, self.trace.addresses(), stack);
    }

    /// Ends the lap and begins the next.
    pub(crate) fn lap(&mut self) -> anyhow::Result<Evidence> {
        let began = Instant::now();
        let Some(ended) = self.counters.take() else { bail!("the lap before did not end well") };
        let counted = ended.close();
        let (tracer, events, mut not_checked) = self.trace.lap(&self.resolver, &counted.namespaces);
        not_checked.extend(self.unknown.iter().cloned());
        let seen = Seen { tracer, events, counted, not_checked, interrupted: false };
        let evidence = evidence(self.host.clone(), &self.what, seen);
        self.counters = Some(open(&self.what)?);
        self.due = Instant::now() + self.length.max(began.elapsed() * SHARE);
        Ok(evidence)
    }
}

fn open(what: &Observe) -> anyhow::Result<Watch> {
    let netns = what.netns.clone();
    Ok(Watch::open(whydrop_collect::Options { netns, ..whydrop_collect::Options::default() })?)
}
