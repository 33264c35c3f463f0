//! `whydrop fix`: from a diagnosis to one change for each fault; with `--apply` the first of them is
//! made, watched by the same diagnosis, and kept or taken back.
//!
//! Wiring only: what to change and what came of it is judged by the diagnosis, the host is changed by
//! `whydrop-cure`.

mod choose;
mod keep;
mod tell;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use whydrop_collect::Roots;
use whydrop_cure::{Changes, Journal, Planned, Record, State, Step};
use whydrop_diagnose::cure::{self, trial};
use whydrop_diagnose::{Thresholds, causes, knowledge};
use whydrop_model::{Cure, Effect, Evidence, Proposal, Report, Trial};

use crate::cli::{Fix, Observe};
use crate::privilege::{Part, Privileges};
use crate::{config, evidence_file, failure, observe};
use choose::Choice;

/// A diagnosis and the answers to it.
struct Case {
    evidence: Evidence,
    report: Report,
    cures: Vec<Cure>,
    thresholds: Thresholds,
}

/// What became of a change.
struct Outcome {
    record: Record,
    effect: Effect,
    before: Trial,
    after: Trial,
    kept: keep::Kept,
}

/// Runs the command.
pub(crate) fn run(options: &Fix) -> anyhow::Result<ExitCode> {
    if let Some(cause) = &options.cause {
        check_cause(cause)?;
    }
    let thresholds = config::read(options.observe.config.as_deref())?.thresholds;
    let privileges = privileges(options);
    let evidence = match &options.file {
        Some(path) => evidence_file::read(path)?,
        None => observe::observe(&live_window(options), options.duration, &privileges)?,
    };
    let report = whydrop_diagnose::diagnose(&evidence, &thresholds);
    let mut cures = cure::cures(&evidence, &report, &thresholds);
    if let Some(cause) = &options.cause {
        cures.retain(|cure| cure.cause == *cause);
    }
    let case = Case { evidence, report, cures, thresholds };
    if !options.apply && !options.dry_run {
        tell::proposals(options, &case)?;
        return Ok(if case.cures.is_empty() { failure::CLEAN } else { failure::fault() });
    }
    choose::check_fresh(&case.evidence, thresholds.evidence_age())?;
    let roots = Roots::default();
    let (cure, proposal, plan) = match choose::choose(options, &case.cures, &roots)? {
        Choice::Nothing => {
            tell::proposals(options, &case)?;
            return Ok(if case.cures.is_empty() { failure::CLEAN } else { failure::fault() });
        }
        Choice::Done(cure, proposal) => {
            look_at_journal(options, roots)?;
            tell::in_force(options, cure, proposal)?;
            return Ok(failure::CLEAN);
        }
        Choice::Change { cure, proposal, plan } => (cure, proposal, plan),
    };
    if options.dry_run {
        tell::plan(options, cure, proposal, &plan)?;
        return Ok(failure::fault());
    }
    let outcome = apply(options, &case, &Chosen { cure, proposal, plan }, roots)?;
    tell::outcome(options, cure, &outcome)?;
    Ok(match (outcome.effect, outcome.record.state) {
        (_, State::Undone) => failure::taken_back(),
        (Effect::Cured, _) => failure::CLEAN,
        _ => failure::fault(),
    })
}

/// An error if there is no such cause.
fn check_cause(id: &str) -> anyhow::Result<()> {
    if causes::find(id).is_some() {
        return Ok(());
    }
    let known = causes::all().iter().map(|cause| cause.id);
    match knowledge::nearest(id, known) {
        Some(near) => bail!("no cause is called {id:?}; did you mean {near}?"),
        None => bail!("no cause is called {id:?}: `whydrop explain` lists them"),
    }
}

/// Somebody may be judging just now what is so already, or nobody may have.
fn look_at_journal(options: &Fix, roots: Roots) -> anyhow::Result<()> {
    if !options.journal.journal.exists() {
        return Ok(());
    }
    match Changes::open(&Journal::new(&options.journal.journal), roots) {
        Ok(changes) => changes.unjudged()?.iter().for_each(tell::unjudged),
        Err(busy @ whydrop_cure::Error::Busy { .. }) => return Err(busy.into()),
        // It is not needed where nothing is to be changed.
        Err(_) => {}
    }
    Ok(())
}

/// Only who makes a change needs more than to look.
fn privileges(options: &Fix) -> Privileges {
    if options.apply {
        return Privileges::Kept;
    }
    // A plan reads what is set now, also for a recording.
    let recorded = options.file.is_some() && !options.dry_run;
    let part = if recorded { Part::File } else { Part::Everything };
    Privileges::reduce(part, options.observe.ready_file.as_deref())
}

/// The change that is to be made.
struct Chosen<'c> {
    cure: &'c Cure,
    proposal: &'c Proposal,
    plan: Vec<Planned>,
}

fn apply(options: &Fix, case: &Case, chosen: &Chosen<'_>, roots: Roots) -> anyhow::Result<Outcome> {
    let journal = Journal::new(&options.journal.journal);
    let changes = Changes::open(&journal, roots).context("nothing was changed")?;
    if let Some(open) = changes.interrupted()? {
        bail!("change {open} was interrupted and may be half made: `whydrop undo {open}` first");
    }
    for record in changes.unjudged()? {
        tell::unjudged(&record);
    }
    let told = &mut |step: Step| tell::step(step);
    let Chosen { cure, proposal, plan } = chosen;
    let mut record = changes.apply(cure, &proposal.summary, plan, told)?;
    tell::applied(&record, options.verify);
    let verified = verify(options, case, cure);
    let (effect, before, after) = match verified {
        Ok(judged) => judged,
        Err(error) => {
            // What cannot be judged is not left behind.
            changes.roll_back(&mut record, None, told).context("while taking it back")?;
            return Err(error.context("the change was taken back, because it could not be watched"));
        }
    };
    let judged = Some((effect, before, after));
    let helped = matches!(effect, Effect::Cured | Effect::Improved);
    let harmless = effect == Effect::NoLoad;
    let mut kept = keep::Kept::default();
    if helped || harmless || options.keep {
        let id = record.id;
        changes.keep(&mut record, judged, told).with_context(|| {
            format!("change {id} stays in force ({effect}), which the journal does not say; `whydrop undo {id}`")
        })?;
        if options.persist {
            kept = keep::keep(options, chosen, &changes, &mut record, helped)?;
        }
    } else {
        let id = record.id;
        changes.roll_back(&mut record, judged, told).with_context(|| {
            format!("{effect}, and taking it back did not end well; `whydrop undo {id}` goes on")
        })?;
    }
    Ok(Outcome { record, effect, before, after, kept })
}

/// Watches the same place under whatever load there is, and judges by the same diagnosis.
fn verify(options: &Fix, case: &Case, cure: &Cure) -> anyhow::Result<(Effect, Trial, Trial)> {
    let what = Observe { netns: case.evidence.scope.netns.clone(), ..options.observe.clone() };
    let evidence = observe::observe(&what, options.verify, &Privileges::Kept)?;
    let report = whydrop_diagnose::diagnose(&evidence, &case.thresholds);
    let before = trial::trial(&case.evidence, &case.report, cure);
    let after = trial::trial(&evidence, &report, cure);
    let moved = trial::moved(&case.report, &report, cure);
    Ok((trial::judge(before, after, moved, &case.thresholds), before, after))
}

/// The first window; the ready file is for the one after the change, if there is one.
fn live_window(options: &Fix) -> Observe {
    let ready_file = options.observe.ready_file.clone().filter(|_| !options.apply);
    Observe { ready_file, ..options.observe.clone() }
}
