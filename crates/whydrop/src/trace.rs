//! The tracer and the other tracepoints over one window, and what becomes of them when there are
//! none.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

use whydrop_model::{EventEvidence, Namespace, NotChecked, TracerEvidence};
use whydrop_probe::{Error, Events, Key, Options, RawDrop, Reader, Resolver, Tracer};

use crate::cli::Observe;
use crate::signals::{Bell, pause};

/// Exemplars of one key kept as evidence. The tracer already thins them out; this bounds a long
/// window.
const KEPT_PER_KEY: u32 = 8;

/// Exemplars kept in all.
const KEPT: usize = 1024;

/// Addresses on stacks that are remembered: a kernel has a few hundred on the ways of its packets.
const MOST_ADDRESSES: usize = 1 << 16;

/// A tracer at work, or why there is none; and beside it the other tracepoints.
pub(crate) struct Trace {
    tracing: Result<Box<Running>, Error>,
    events: Events,
    unheard: Vec<NotChecked>,
}

struct Running {
    tracer: Tracer,
    reader: Option<Reader>,
    kept: Kept,
    /// Those on the stacks of all exemplars that laps told of.
    addresses: BTreeSet<u64>,
}

impl Trace {
    /// Attaches and opens the window.
    pub(crate) fn start(what: &Observe) -> Self {
        let options = Options {
            btf: what.kernel_btf.clone(),
            only: what.attach,
            polls: what.polls,
            ..Options::default()
        };
        let (tracer, mut events, mut unheard) = Tracer::attach_with_events(&options);
        let tracing = tracer.and_then(|mut tracer| {
            tracer.open_window()?;
            let reader = tracer.reader();
            Ok(Box::new(Running {
                tracer,
                reader,
                kept: Kept::default(),
                addresses: BTreeSet::new(),
            }))
        });
        unheard.extend(events.open_window().err().map(|error| no_events(&error)));
        Self { tracing, events, unheard }
    }

    /// Whether what is counted can be read, as far as anything is counted.
    pub(crate) fn is_readable(&self) -> bool {
        self.tracing.as_ref().map_or(true, |running| running.tracer.is_readable())
    }

    /// Exemplars kept so far.
    pub(crate) fn kept(&self) -> usize {
        self.tracing.as_ref().map_or(0, |running| running.kept.drops.len())
    }

    /// Whether the tracer is at work and nothing was seen since the last lap, or since the start. What
    /// waits in a ring is not yet seen.
    pub(crate) fn is_quiet(&self) -> bool {
        let of_drops = |running: &Running| {
            running.reader.is_some()
                && running.kept.drops.is_empty()
                && running.kept.unreadable.is_none()
        };
        !self.events.any_kept() && self.tracing.as_ref().is_ok_and(|running| of_drops(running))
    }

    /// Waits for drops or for a bell, and takes those drops that there are. True if there were some.
    pub(crate) fn wait(&mut self, at_most: Duration, bell: Option<&Bell>) -> bool {
        self.events.drain();
        let bell = bell.map(Bell::as_fd);
        let running = self.tracing.as_mut().map(Box::as_mut);
        let Ok(Running { reader: Some(reader), kept, .. }) = running else {
            pause(at_most, bell.as_slice());
            return false;
        };
        // An unreadable ring costs exemplars; the totals do not depend on it.
        let taken = reader.poll(at_most, bell, &mut |drop| kept.keep(drop));
        let taken = taken.unwrap_or_else(|error| {
            kept.unreadable = Some(error.to_string());
            pause(at_most, bell.as_slice());
            0
        });
        taken > 0
    }

    /// Closes the window and gives everything its name. Without a tracer, says why.
    pub(crate) fn finish(
        mut self,
        namespaces: &[Namespace],
    ) -> (TracerEvidence, EventEvidence, Vec<NotChecked>) {
        let closed = self.tracing.as_mut().map_or(Ok(()), |running| running.tracer.close_window());
        self.wait(Duration::ZERO, None);
        let known = |inode| namespaces.iter().any(|namespace| namespace.inode == inode);
        let mut unheard = self.unheard;
        let events = self.events.finish(&known).unwrap_or_else(|error| {
            unheard.push(no_events(&error));
            EventEvidence::default()
        });
        let finished = self.tracing.and_then(|running| {
            closed?;
            let Running { tracer, kept, .. } = *running;
            let (evidence, mut not_checked) = tracer.finish(&kept.drops, &known)?;
            let unreadable = |why| NotChecked { what: "drops in detail".into(), why };
            not_checked.extend(kept.unreadable.map(unreadable));
            Ok((evidence, not_checked))
        });
        let (tracer, mut not_checked) = finished.unwrap_or_else(|error| absent(&error));
        not_checked.extend(unheard);
        (tracer, events, not_checked)
    }

    /// Return addresses on the stacks that laps told of.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.tracing.iter().flat_map(|running| &running.addresses).copied()
    }

    /// What was seen since the last lap, or since the start; the window stays open.
    pub(crate) fn lap(
        &mut self,
        resolver: &Resolver,
        namespaces: &[Namespace],
    ) -> (TracerEvidence, EventEvidence, Vec<NotChecked>) {
        self.wait(Duration::ZERO, None);
        let known = |inode| namespaces.iter().any(|namespace| namespace.inode == inode);
        let (tracer, mut not_checked) = match &mut self.tracing {
            Err(error) => absent(error),
            Ok(running) => {
                let kept = std::mem::take(&mut running.kept);
                if running.addresses.len() < MOST_ADDRESSES {
                    running.addresses.extend(kept.drops.iter().flat_map(|drop| drop.stack.iter()));
                }
                match running.tracer.lap(&kept.drops, resolver, &known) {
                    Ok(evidence) => (evidence, resolver.not_checked()),
                    Err(error) => absent(&error),
                }
            }
        };
        let events = self.events.lap(&known).unwrap_or_else(|error| {
            not_checked.push(no_events(&error));
            EventEvidence::default()
        });
        not_checked.extend(self.unheard.iter().cloned());
        (tracer, events, not_checked)
    }
}

/// No tracer, because of this.
fn absent(error: &Error) -> (TracerEvidence, Vec<NotChecked>) {
    let what = "drops inside the kernel (tracepoint skb:kfree_skb)".into();
    let missing = NotChecked { what, why: error.to_string() };
    let attempts = match error {
        Error::Refused { attempts } => attempts.clone(),
        _ => Vec::new(),
    };
    (TracerEvidence::absent(attempts), vec![missing])
}

fn no_events(why: &Error) -> NotChecked {
    let what = "signs of loss other than drops".into();
    NotChecked { what, why: why.to_string() }
}

/// Exemplars kept as evidence: the first few of each kind, so that none is crowded out.
#[derive(Default)]
struct Kept {
    drops: Vec<RawDrop>,
    per_key: BTreeMap<Key, u32>,
    unreadable: Option<String>,
}

impl Kept {
    fn keep(&mut self, drop: RawDrop) {
        let count = self.per_key.entry(drop.key).or_default();
        *count += 1;
        if *count <= KEPT_PER_KEY && self.drops.len() < KEPT {
            self.drops.push(drop);
        }
    }
}
