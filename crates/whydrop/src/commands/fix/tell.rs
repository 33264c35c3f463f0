//! What `whydrop fix` says: one document for programs, or text.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use whydrop_cure::{Planned, Record, State, Step};
use whydrop_model::{Answer, Cure, Effect, Proposal, Trial};
use whydrop_show::style::{FAINT, FAULT, GOOD, NOTICE, STRONG};
use whydrop_show::{Safe, cures};

use super::{Case, Outcome};
use crate::cli::{Fix, Plain};
use crate::output;

const SCHEMA: &str = "whydrop.fix/1";

fn document(value: &Value) -> anyhow::Result<()> {
    let mut out = output::stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// The answers to all faults; nothing was changed.
pub(super) fn proposals(options: &Fix, case: &Case) -> anyhow::Result<()> {
    if options.format == Plain::Json {
        return document(&json!({
            "schema": SCHEMA,
            "host": case.report.host,
            "window": case.report.window,
            "cures": case.cures,
        }));
    }
    let mut out = output::stdout();
    if let Some(cause) = options.cause.as_ref().filter(|_| case.cures.is_empty()) {
        writeln!(out, "{GOOD}whydrop: no fault by {cause}, nothing to change{GOOD:#}")?;
        return Ok(out.flush()?);
    }
    cures::write(&case.cures, output::width(), &mut out)?;
    let change = case.cures.iter().find_map(|cure| match &cure.answer {
        Answer::Change(change) => Some(change),
        Answer::Capacity(_) | Answer::Operator(_) => None,
    });
    if let Some(change) = change {
        let needs = needs(change);
        writeln!(
            out,
            "\nNothing was changed. `whydrop fix --apply{needs}` makes the first change, watches it and \
             takes it back unless it helps."
        )?;
    }
    Ok(out.flush()?)
}

/// The options without which a change is not made, as they follow `--apply`.
fn needs(change: &Proposal) -> String {
    let options = [
        (change.is_live(), " --live"),
        (change.weakens.is_some(), " --allow-weaker-security"),
        (change.interrupts.is_some(), " --allow-link-reset"),
    ];
    options.into_iter().filter_map(|(needed, option)| needed.then_some(option)).collect()
}

/// What is asked for is so already.
pub(super) fn in_force(options: &Fix, cure: &Cure, proposal: &Proposal) -> anyhow::Result<()> {
    if options.format == Plain::Json {
        return document(&json!({ "schema": SCHEMA, "cures": [cure], "in_force": true }));
    }
    let mut out = output::stdout();
    writeln!(out, "{GOOD}whydrop: already so, nothing to change{GOOD:#}")?;
    for write in &proposal.writes {
        writeln!(out, "  {} = {}", Safe(&write.target.to_string()), Safe(&write.new))?;
    }
    Ok(out.flush()?)
}

/// What would be written.
pub(super) fn plan(
    options: &Fix,
    cure: &Cure,
    proposal: &Proposal,
    plan: &[Planned],
) -> anyhow::Result<()> {
    if options.format == Plain::Json {
        let writes: Vec<_> = plan
            .iter()
            .map(|one| {
                json!({
                    "netns": one.write.netns,
                    "target": one.write.target,
                    "now": one.now,
                    "new": one.write.new,
                })
            })
            .collect();
        return document(&json!({ "schema": SCHEMA, "cures": [cure], "would_write": writes }));
    }
    let mut out = output::stdout();
    writeln!(out, "{STRONG}{}{STRONG:#}", Safe(&proposal.summary))?;
    for Planned { write, now } in plan {
        let inode = write.netns.inode.map_or("?".into(), |inode| inode.to_string());
        let place = write.netns.name.clone().unwrap_or_else(|| format!("net:[{inode}]"));
        let (target, new) = (write.target.to_string(), &write.new);
        let end = if now == new { " (is so already)" } else { "" };
        writeln!(
            out,
            "  in {}: {}: {} -> {}{end}",
            Safe(&place),
            Safe(&target),
            Safe(now),
            Safe(new)
        )?;
    }
    let needs = needs(proposal);
    let needs =
        if needs.is_empty() { String::new() } else { format!(" To be made it needs{needs}.") };
    writeln!(out, "{FAINT}Nothing was written.{needs}{FAINT:#}")?;
    Ok(out.flush()?)
}

/// What has just been done. Only what the operator may want to know while waiting.
pub(super) fn step(step: Step) {
    if step == Step::Undoing {
        output::message("whydrop: taking the change back");
    }
}

/// An earlier change is in force, and nobody knows what came of it.
pub(super) fn unjudged(record: &Record) {
    output::message(&format!(
        "whydrop: change {} is in force and was never judged, because whydrop ended while it watched; \
         `whydrop undo {}` takes it back",
        record.id, record.id
    ));
}

/// The change is made and being watched.
pub(super) fn applied(record: &Record, verify: Duration) {
    for write in &record.writes {
        let became = write.became.as_ref().unwrap_or(&write.new);
        output::message(&format!(
            "whydrop: {}: {} -> {}",
            Safe(&write.target.to_string()),
            Safe(&write.old),
            Safe(became)
        ));
    }
    output::message(&format!(
        "whydrop: change {} is made; watching for {} s (Ctrl-C judges by what was seen; if this process \
         dies, `whydrop undo {}`)",
        record.id,
        verify.as_secs_f64(),
        record.id
    ));
}

/// What came of it.
pub(super) fn outcome(options: &Fix, cure: &Cure, outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome { record, effect, before, after, kept } = outcome;
    if options.format == Plain::Json {
        return document(&json!({
            "schema": SCHEMA,
            "cures": [cure],
            "change": record,
            "effect": effect,
            "before": before,
            "after": after,
            "persisted": kept.files,
            "notes": kept.notes,
        }));
    }
    let mut out = output::stdout();
    let style = match effect {
        Effect::Cured => GOOD,
        Effect::Improved | Effect::NoLoad => NOTICE,
        Effect::NoEffect | Effect::Worse => FAULT,
    };
    writeln!(out, "{style}whydrop: {effect}{style:#}")?;
    writeln!(out, "  before  {}", told(before))?;
    writeln!(out, "  after   {}", told(after))?;
    let end = match (record.state, effect) {
        (State::Undone, _) => "It was taken back; all settings are as before.".into(),
        (_, Effect::NoLoad) => format!(
            "It stays in force, unproven: nothing came that could have been lost. `whydrop undo {}` takes \
             it back.",
            record.id
        ),
        _ => format!("It stays in force; `whydrop undo {}` takes it back.", record.id),
    };
    writeln!(out, "{end}")?;
    for file in &kept.files {
        writeln!(out, "Written: {}", Safe(file))?;
    }
    for note in &kept.notes {
        writeln!(out, "{}", Safe(note))?;
    }
    Ok(out.flush()?)
}

fn told(trial: &Trial) -> String {
    format!("{} lost of {} in {:.1} s", trial.lost, trial.offered, trial.seconds)
}
