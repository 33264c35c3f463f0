//! `whydrop watch`: drops as they happen, or counted.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use whydrop_model::{Exemplar, TracerEvidence};
use whydrop_probe::{Options, RawDrop, Reasons, Resolver, Tracer};
use whydrop_show::drops;

use crate::cli::{Plain, Watch};
use crate::observe::{TICK, announce};
use crate::signals::Ended;
use crate::{failure, output};

/// How long namespaces are remembered before an unknown one is looked up again.
const NAMES_AGE: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn run(options: &Watch) -> anyhow::Result<ExitCode> {
    let reasons = Reasons::read(&options.observe.kernel_btf)?;
    for name in &options.reason {
        if !reasons.iter().any(|reason| reason.name == *name) {
            bail!("this kernel has no drop reason {name:?}: `whydrop reasons` lists those it has");
        }
    }
    let mut names = Names::read(&options.observe.netns)?;
    let ended = Ended::listen()?;
    let mut tracer = Tracer::attach(&Options {
        rate: if options.count { 0 } else { options.rate },
        stacks: options.stack,
        btf: options.observe.kernel_btf.clone(),
        ..Options::default()
    })?;
    let resolver = Resolver::read(&options.observe.kernel_btf);
    for missing in resolver.not_checked() {
        output::message(&format!("whydrop: no {}: {}", missing.what, missing.why));
    }
    let mut out = output::stdout();
    tracer.open_window()?;
    let opened = Instant::now();
    let epoch = Epoch::now(tracer.opened_ns());
    if let Some(path) = &options.observe.ready_file {
        announce(path)?;
    }
    let mut reader = tracer.reader();
    while !ended.yet() && options.duration.is_none_or(|limit| opened.elapsed() < limit) {
        let mut batch = Vec::new();
        let left = options.duration.map_or(TICK, |limit| limit.saturating_sub(opened.elapsed()));
        if let Some(reader) = &mut reader {
            reader.poll(left.min(TICK), &mut |drop| batch.push(drop))?;
        }
        show(&batch, options, &resolver, &mut names, &epoch, &mut out)?;
    }
    tracer.close_window()?;
    let elapsed = opened.elapsed();
    let (mut totals, _) = tracer.finish(&[], &|_| true)?;
    if options.count {
        print_totals(&mut totals, options, &mut names, &mut out)?;
    }
    out.flush()?;
    output::message(&summary(&totals, elapsed));
    Ok(failure::CLEAN)
}

/// Prints the drops that were asked for.
fn show(
    batch: &[RawDrop],
    options: &Watch,
    resolver: &Resolver,
    names: &mut Names,
    epoch: &Epoch,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for raw in batch {
        let drop = resolver.exemplar(raw, epoch.monotonic_ns, &|_| true);
        if !asked_for(&options.reason, &drop.reason) || !names.inside(drop.netns) {
            continue;
        }
        match options.format {
            Plain::Json => json_line(&drop, epoch, names, out)?,
            Plain::Text => {
                let netns = names.label(drop.netns);
                drops::write_drop(&drop, &epoch.local_time(drop.at_ns), &netns, out)?;
                if options.stack {
                    drops::write_stack(&drop, out)?;
                }
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn json_line(
    drop: &Exemplar,
    epoch: &Epoch,
    names: &mut Names,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(drop)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("at_ns");
        object.insert("time".into(), epoch.timestamp(drop.at_ns).to_string().into());
        object.insert("netns_name".into(), names.name(drop.netns).into());
    }
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)?;
    Ok(())
}

fn print_totals(
    evidence: &mut TracerEvidence,
    options: &Watch,
    names: &mut Names,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    evidence
        .totals
        .retain(|total| asked_for(&options.reason, &total.reason) && names.inside(total.netns));
    match options.format {
        Plain::Text => drops::write_totals(&evidence.totals, |inode| names.label(inode), out)?,
        Plain::Json => {
            for total in &evidence.totals {
                let mut value = serde_json::to_value(total)?;
                if let Some(object) = value.as_object_mut() {
                    object.insert("netns_name".into(), names.name(total.netns).into());
                }
                serde_json::to_writer(&mut *out, &value)?;
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn asked_for(reasons: &[String], reason: &str) -> bool {
    reasons.is_empty() || reasons.iter().any(|name| name == reason)
}

fn summary(evidence: &TracerEvidence, elapsed: Duration) -> String {
    format!(
        "whydrop: {} drops on this host in {:.1} s; {} in detail, {} beyond the rate, {} for want of \
         ring space; {} missed",
        evidence.events,
        elapsed.as_secs_f64(),
        evidence.sampled,
        evidence.suppressed,
        evidence.ring_full,
        evidence.lost
    )
}

/// The moment the window opened, by both clocks.
struct Epoch {
    wall: jiff::Timestamp,
    monotonic_ns: u64,
    zone: jiff::tz::TimeZone,
}

impl Epoch {
    fn now(monotonic_ns: u64) -> Self {
        let zone = jiff::tz::TimeZone::system();
        Self { wall: jiff::Timestamp::now(), monotonic_ns, zone }
    }

    fn timestamp(&self, at_ns: u64) -> jiff::Timestamp {
        let since = jiff::SignedDuration::from_nanos(i64::try_from(at_ns).unwrap_or(i64::MAX));
        self.wall.checked_add(since).unwrap_or(self.wall)
    }

    fn local_time(&self, at_ns: u64) -> String {
        self.timestamp(at_ns).to_zoned(self.zone.clone()).strftime("%H:%M:%S%.6f").to_string()
    }
}

/// Names of namespaces, by inode.
struct Names {
    by_inode: BTreeMap<u64, Option<String>>,
    only: Vec<String>,
    read: Instant,
}

impl Names {
    fn read(only: &[String]) -> anyhow::Result<Self> {
        let mut names =
            Self { by_inode: BTreeMap::new(), only: only.to_vec(), read: Instant::now() };
        names.refresh()?;
        let known = |name: &String| names.by_inode.values().flatten().any(|known| known == name);
        if let Some(name) = only.iter().find(|name| !known(name)) {
            bail!("no network namespace is named {name:?}: `ip netns list` shows the names");
        }
        Ok(names)
    }

    fn refresh(&mut self) -> Result<(), whydrop_collect::Error> {
        let (found, _) = whydrop_collect::namespaces(&whydrop_collect::Roots::default())?;
        self.by_inode.extend(found.into_iter().map(|one| (one.inode, one.name)));
        self.read = Instant::now();
        Ok(())
    }

    fn name(&mut self, inode: Option<u64>) -> Option<String> {
        let inode = inode?;
        if !self.by_inode.contains_key(&inode) && self.read.elapsed() > NAMES_AGE {
            // A namespace without a name shows as its number.
            let _ = self.refresh();
        }
        self.by_inode.get(&inode).cloned().flatten()
    }

    fn label(&mut self, inode: Option<u64>) -> String {
        match (self.name(inode), inode) {
            (Some(name), _) => name,
            (None, Some(inode)) => format!("net:[{inode}]"),
            (None, None) => "-".into(),
        }
    }

    /// True if this namespace was asked for.
    fn inside(&mut self, inode: Option<u64>) -> bool {
        self.only.is_empty() || self.name(inode).is_some_and(|name| self.only.contains(&name))
    }
}
