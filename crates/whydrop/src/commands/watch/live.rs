//! The drops of this host, as they happen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use whydrop_diagnose::attribute::{Surroundings, as_total};
use whydrop_filter::Program;
use whydrop_model::{
    Attribution, Class, DROP_SCHEMA, DropTotal, Exemplar, Sighting, TracerEvidence,
};
use whydrop_probe::{DebugInfo, Options, RawDrop, Reader, Resolver, Tracer};
use whydrop_show::drops;
use whydrop_show::pcapng::Packet;

use super::conditions::Conditions;
use super::names::{Epoch, Names, label};
use super::screen::Screen;
use super::surroundings::{Answer, Look};
use super::{benign, tell};
use crate::cli::{Lines, Watch};
use crate::observe::{TICK, announce};
use crate::privilege::Privileges;
use crate::signals::Ended;

/// How soon a drop is read while they keep coming. The first after a while wakes the reader.
const PROMPT: Duration = Duration::from_millis(50);

/// Drops that wait for what is known of the host, at most. More are shown with what was known last.
const WAITING: usize = 20_000;

/// Ring of exemplars when every drop is asked for.
const LARGE_RING: u32 = 16 << 20;

/// Verdicts remembered, at most, until what is known of the host is read again.
const REMEMBERED: usize = 10_000;

/// Watches until the time is over or a signal comes.
pub(super) fn run(
    options: &Watch,
    filter: Option<&Program>,
    conditions: Conditions,
    privileges: &Privileges,
) -> anyhow::Result<()> {
    let mut names = Names::read(conditions.named_namespaces())?;
    conditions.check_sites()?;
    let ended = Ended::listen()?;
    let mut tracer = Tracer::attach(&tracing(options, filter)?)?;
    privileges.attached(|| tracer.is_readable());
    let resolver = Resolver::read(&options.kernel_btf);
    for missing in resolver.not_checked() {
        tell(&format!("no {}: {}", missing.what, missing.why));
    }
    let look = (!options.quick).then(|| {
        let mut evidence = TracerEvidence::absent(Vec::new());
        evidence.attach = tracer.kind();
        evidence.reasons = resolver.reason_names();
        Look::start(conditions.namespaces(), evidence)
    });
    let mut screen = Screen::new(options, conditions)?;
    tracer.open_window()?;
    let opened = Instant::now();
    let epoch = Epoch::now(tracer.opened_ns());
    if let Some(path) = &options.ready_file {
        announce(path)?;
    }
    let mut desk = Desk {
        names: &mut names,
        resolver: &resolver,
        debug_info: resolver.debug_info(),
        epoch,
        known: None,
        verdicts: BTreeMap::new(),
        firsts: BTreeMap::new(),
    };
    let mut look = look.transpose()?;
    let mut reader = tracer.reader();
    let mut waiting = Vec::new();
    let mut busy = Instant::now();
    while !ended.yet() && options.duration.is_none_or(|limit| opened.elapsed() < limit) {
        let patience = if busy.elapsed() > Reader::REST { TICK } else { PROMPT };
        let left =
            options.duration.map_or(patience, |limit| limit.saturating_sub(opened.elapsed()));
        take(reader.as_mut(), left.min(patience), look.as_ref(), &mut waiting)?;
        if !waiting.is_empty() {
            busy = Instant::now();
        }
        if options.count {
            desk.remember(waiting.drain(..));
        } else {
            desk.pass(&mut waiting, look.as_mut(), &mut screen)?;
        }
        screen.flush()?;
    }
    tracer.close_window()?;
    take(reader.as_mut(), Duration::ZERO, look.as_ref(), &mut waiting)?;
    if let Some(answer) = look.and_then(Look::last) {
        desk.learn(answer);
    }
    if options.count {
        desk.remember(waiting.drain(..));
    } else {
        desk.show(waiting.drain(..), &mut screen)?;
    }
    let elapsed = opened.elapsed();
    let (evidence, _) = tracer.finish(&[], &|_| true)?;
    let totals = desk.totals(evidence.totals.clone(), &screen.conditions);
    if options.count {
        print_totals(&totals, &mut screen)?;
    }
    for why in desk.debug_info.refused() {
        tell(&format!("stacks without lines and merged functions: {why}"));
    }
    screen.finish(options.flame.as_deref())?;
    if let Some(line) = noise(&totals, &screen) {
        tell(&line);
    }
    let asked =
        screen.conditions.are_of_totals().then(|| totals.iter().map(|it| it.0.packets).sum());
    tell(&summary(&evidence, elapsed.as_secs_f64(), filter.is_some(), asked, options.count));
    Ok(())
}

/// Takes what drops there are, or waits for some, and has the owners of their sockets found.
fn take(
    reader: Option<&mut Reader>,
    at_most: Duration,
    look: Option<&Look>,
    waiting: &mut Vec<RawDrop>,
) -> anyhow::Result<()> {
    let Some(reader) = reader else { return Ok(()) };
    reader.poll(at_most, None, &mut |drop| {
        if let Some(look) = look {
            look.note(&drop);
        }
        waiting.push(drop);
    })?;
    Ok(())
}

/// How to trace.
fn tracing(options: &Watch, filter: Option<&Program>) -> anyhow::Result<Options> {
    let filter =
        filter.map(Program::to_ebpf).transpose().map_err(|why| anyhow!("filter: {why}"))?;
    let rate = match (options.count, options.all) {
        // One of a kind tells what became of all of it.
        (true, _) => 1,
        (false, true) => u32::MAX,
        (false, false) => options.rate,
    };
    let mut tracing = Options {
        rate,
        stacks: options.stack || options.flame.is_some(),
        btf: options.kernel_btf.clone(),
        filter: filter.map(Into::into),
        ..Options::default()
    };
    if options.write.is_some() {
        tracing.packet_bytes = options.snaplen;
    }
    if options.all {
        tracing.ring_bytes = LARGE_RING;
    }
    Ok(tracing)
}

/// Where drops get their names, their cause and their owner.
struct Desk<'w> {
    names: &'w mut Names,
    resolver: &'w Resolver,
    debug_info: DebugInfo,
    epoch: Epoch,
    known: Option<Surroundings>,
    verdicts: BTreeMap<Kind, Option<Attribution>>,
    /// The first drop of each kind that is counted together.
    firsts: BTreeMap<whydrop_probe::Key, Exemplar>,
}

/// Drops that get the same verdict: what is counted together, and the ports.
type Kind = (whydrop_probe::Key, Option<u16>, Option<u16>);

impl Desk<'_> {
    /// Shows the drops of which the surroundings are known, or all if nobody looks at those.
    fn pass(
        &mut self,
        waiting: &mut Vec<RawDrop>,
        look: Option<&mut Look>,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let Some(look) = look else { return self.show(waiting.drain(..), screen) };
        if let Some(answer) = look.answer() {
            let until_ns = answer.until_ns;
            self.learn(answer);
            let later = waiting.iter().position(|drop| drop.monotonic_ns > until_ns);
            self.show(waiting.drain(..later.unwrap_or(waiting.len())), screen)?;
        }
        if waiting.len() > WAITING {
            self.show(waiting.drain(..), screen)?;
        }
        if !waiting.is_empty() {
            look.ask();
        }
        Ok(())
    }

    fn learn(&mut self, answer: Answer) {
        self.known = Some(answer.surroundings);
        self.verdicts.clear();
    }

    /// Shows nothing, and keeps what the totals will be told by.
    fn remember(&mut self, drops: impl Iterator<Item = RawDrop>) {
        for raw in drops {
            self.exemplar(&raw);
        }
    }

    /// A drop with its names.
    fn exemplar(&mut self, raw: &RawDrop) -> Exemplar {
        let drop = self.resolver.exemplar(raw, self.epoch.monotonic_ns, &|_| true);
        if self.firsts.len() < REMEMBERED {
            self.firsts.entry(raw.key).or_insert_with(|| drop.clone());
        }
        drop
    }

    fn show(
        &mut self,
        drops: impl Iterator<Item = RawDrop>,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        for raw in drops {
            let drop = self.exemplar(&raw);
            let time = self.epoch.timestamp(drop.at_ns);
            let mut sighting = self.sighting(&raw, drop, time);
            if !screen.wants(&sighting) {
                continue;
            }
            if screen.wants_stacks() {
                self.debug_info.annotate(&raw, &mut sighting.drop.stack);
            }
            let packet =
                Packet { mac: raw.mac, l3: raw.key.l3, bytes: &raw.packet, length: raw.packet_len };
            screen.show(&sighting, time, Some(packet))?;
        }
        Ok(())
    }

    fn sighting(&mut self, raw: &RawDrop, drop: Exemplar, time: jiff::Timestamp) -> Sighting {
        let known = self.known.as_ref();
        let container = || known?.container(drop.netns?).map(str::to_owned);
        Sighting {
            schema: DROP_SCHEMA.into(),
            time: format!("{time:.9}"),
            packet_len: Some(raw.packet_len),
            netns_name: self.names.name(drop.netns),
            container: container(),
            owner: known.and_then(|known| known.owner(&drop)),
            verdict: self.verdict(raw, &drop),
            drop,
        }
    }

    fn verdict(&mut self, raw: &RawDrop, drop: &Exemplar) -> Option<Attribution> {
        let known = self.known.as_mut()?;
        let port = |end: fn(&whydrop_model::Flow) -> Option<u16>| drop.flow.as_ref().and_then(end);
        let kind: Kind =
            (raw.key, port(|flow| flow.source.port), port(|flow| flow.destination.port));
        if let Some(verdict) = self.verdicts.get(&kind) {
            return verdict.clone();
        }
        let total = as_total(drop, raw.key.l4, raw.key.marks);
        let verdict = known.attribute(&total, Some(drop));
        if self.verdicts.len() < REMEMBERED {
            self.verdicts.insert(kind, verdict.clone());
        }
        verdict
    }

    /// The totals that were asked for, with names and verdicts.
    fn totals(
        &mut self,
        totals: Vec<DropTotal>,
        conditions: &Conditions,
    ) -> Vec<(DropTotal, String, Option<Attribution>)> {
        let mut asked = Vec::new();
        for mut total in totals {
            let known = self.known.as_mut();
            let first = self.firsts.iter().find(|(key, first)| {
                first.is_of(&total) && key.l4 == total.l4 && key.marks == total.marks
            });
            let first = first.map(|(_, first)| first);
            let verdict = known.and_then(|known| known.attribute(&total, first));
            let namespace = || self.known.as_ref()?.namespace(total.netns?);
            if total.device.is_none() {
                let link = namespace()
                    .and_then(|it| it.links.iter().find(|link| link.ifindex == total.ifindex));
                total.device = link.map(|link| link.name.clone());
            }
            let name = self.names.name(total.netns);
            if conditions.admit_total(&total, name.as_deref(), verdict.as_ref()) {
                asked.push((total.clone(), label(name.as_deref(), total.netns), verdict));
            }
        }
        asked
    }
}

type Totals = [(DropTotal, String, Option<Attribution>)];

fn print_totals(totals: &Totals, screen: &mut Screen) -> anyhow::Result<()> {
    match screen.lines() {
        Some((out, Lines::Text)) => {
            let rows: Vec<_> = totals
                .iter()
                .map(|(total, netns, verdict)| (total, netns.as_str(), verdict.as_ref()))
                .collect();
            drops::write_totals(&rows, out)?;
        }
        Some((out, Lines::Ndjson)) => {
            for (total, netns, verdict) in totals {
                let mut value = serde_json::to_value(total)?;
                if let Some(object) = value.as_object_mut() {
                    object.insert("netns_name".into(), netns.as_str().into());
                    object.insert("verdict".into(), serde_json::to_value(verdict)?);
                }
                serde_json::to_writer(&mut *out, &value)?;
                writeln!(out)?;
            }
        }
        None => {}
    }
    Ok(())
}

/// How much noise there was, exactly, if it was not shown.
fn noise(totals: &Totals, screen: &Screen) -> Option<String> {
    if !screen.folds_noise() {
        return None;
    }
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (total, _, verdict) in totals {
        if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.class == Class::Benign) {
            *causes.entry(&verdict.cause).or_default() += total.packets;
        }
    }
    let all: u64 = causes.values().sum();
    let list: Vec<_> = causes.iter().map(|(cause, packets)| format!("{packets} {cause}")).collect();
    (all > 0)
        .then(|| format!("{} not shown ({}); --benign shows them", benign(all), list.join(", ")))
}

/// How many drops there were, how many of them were `asked` for if there were conditions, and how many
/// are not shown for whatever reason.
fn summary(
    evidence: &TracerEvidence,
    seconds: f64,
    filtered: bool,
    asked: Option<u64>,
    counted: bool,
) -> String {
    let which = if filtered { "drops that the filter accepts" } else { "drops on this host" };
    let TracerEvidence { events, sampled, suppressed, ring_full, lost, .. } = evidence;
    let asked = asked.map(|asked| format!(", {asked} of them asked for")).unwrap_or_default();
    let shown = if counted {
        String::new()
    } else {
        format!(
            " {sampled} in detail, {suppressed} beyond the rate, {ring_full} for want of ring space;"
        )
    };
    format!("{events} {which} in {seconds:.1} s{asked};{shown} {lost} missed")
}
