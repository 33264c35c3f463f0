//! One window after the other, for as long as somebody looks: each a whole piece of evidence.
//!
//! While nothing happens a lap goes on: all that is read of a host at the ends of a lap would show the
//! same, and takes a thousand times what it takes to see that nothing happens.
//!
//! The tracer stays attached and its laps add up exactly. The counters of a lap are read when it
//! begins and when it ends; what a counter alone sees in the milliseconds between two laps is in
//! neither.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::bail;
use whydrop_collect::{Arrivals, Roots, Watch};
use whydrop_model::{Evidence, Frame, Host, NotChecked};
use whydrop_probe::{DebugInfo, Resolver};

use crate::cli::Observe;
use crate::observe::{Seen, TICK, evidence};
use crate::privilege::Privileges;
use crate::signals::Bell;
use crate::trace::Trace;

/// Reading the counters may take one part in so many of the time.
const SHARE: u32 = 20;
/// Likewise while nothing happens: then it is for what shows in counters alone, and for what is no loss.
const REST_SHARE: u32 = 5000;
/// Longest lap in which nothing happens, however cheap or expensive reading is.
const LONGEST: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(300);

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
    /// How long one is in which nothing happens.
    longest: Duration,
    due: Instant,
    /// Whether packets come in.
    arrivals: Arrivals,
    /// The lap before showed no loss.
    restful: bool,
    began: Instant,
    /// Up to here nothing happened in this lap, which was told.
    quiet_until: Instant,
}

/// What became of a wait.
pub(crate) enum Waited {
    /// The lap goes on.
    Not,
    /// It goes on, and for so long nothing happened, since it began or since that was told last.
    Quietly(Duration),
    /// The lap is over.
    Over,
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
        let mut arrivals = Arrivals::new(&Roots::default());
        arrivals.any();
        let counters = Some(open(what)?);
        let began = Instant::now();
        Ok(Self {
            what: what.clone(),
            host,
            unknown,
            trace,
            resolver,
            debug_info,
            counters,
            length,
            longest: *LONGEST.start(),
            due: began + length,
            arrivals,
            restful: false,
            began,
            quiet_until: began,
        })
    }

    /// Waits for a short time, for drops or for a bell.
    pub(crate) fn wait(&mut self, bell: &Bell) -> Waited {
        let left = self.due.saturating_duration_since(Instant::now());
        if self.trace.wait(left.min(TICK), Some(bell))
            && let Some(counters) = &self.counters
        {
            counters.hurry();
        }
        let now = Instant::now();
        if now < self.due {
            return Waited::Not;
        }
        let gone = self.counters.as_ref().is_some_and(Watch::any_gone);
        let moved = gone || self.arrivals.any() || !self.trace.is_quiet();
        if moved || !self.restful || now - self.began >= self.longest {
            return Waited::Over;
        }
        let length = now - self.quiet_until;
        (self.quiet_until, self.due) = (now, now + self.length);
        Waited::Quietly(length)
    }

    /// Takes in whether the latest lap showed no loss at all. Only after such a one may the next go on.
    pub(crate) fn note_restful(&mut self, restful: bool) {
        self.restful = restful;
    }

    /// Adds lines of source and merged functions to a stack of some lap. The first one takes a while.
    pub(crate) fn annotate(&mut self, stack: &mut [Frame]) {
        self.debug_info.annotate_by_site(&self.resolver, self.trace.addresses(), stack);
    }

    /// Ends the lap and begins the next. Also says for how long nothing happened at its beginning, as
    /// was told.
    pub(crate) fn lap(&mut self) -> anyhow::Result<(Evidence, Duration)> {
        let began = Instant::now();
        let Some(ended) = self.counters.take() else { bail!("the lap before did not end well") };
        let counted = ended.close();
        let (tracer, events, mut not_checked) = self.trace.lap(&self.resolver, &counted.namespaces);
        not_checked.extend(self.unknown.iter().cloned());
        let seen = Seen { tracer, events, counted, not_checked, interrupted: false };
        let evidence = evidence(self.host.clone(), &self.what, seen);
        let quiet = self.quiet_until - self.began;
        self.arrivals.any();
        self.counters = Some(open(&self.what)?);
        self.began = Instant::now();
        self.quiet_until = self.began;
        let taken = self.began - began;
        self.due = self.began + self.length.max(taken * SHARE);
        self.longest = (taken * REST_SHARE).clamp(*LONGEST.start(), *LONGEST.end());
        Ok((evidence, quiet))
    }
}

fn open(what: &Observe) -> anyhow::Result<Watch> {
    let netns = what.netns.clone();
    Ok(Watch::open(whydrop_collect::Options { netns, ..whydrop_collect::Options::default() })?)
}
