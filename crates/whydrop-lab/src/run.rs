//! Plays scenarios, with the diagnosis watching or alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use whydrop_model::Attach;

use crate::counters::{self, Values};
use crate::diagnosis::{Answer, Diagnosis};
use crate::judge::{Played, Truth};
use crate::netns::{Tag, require_root, sweep};
use crate::outcome::{Spent, Unplayed};
use crate::scenario::find;
use crate::stage::Stage;
use crate::turn::Turn;
use crate::wait::Stop;
use crate::{Job, LabError, Outcome, Tally};

/// Plays scenarios with one program. May be shared by threads; a scenario is played on the thread
/// that asks for it, and several at once do not disturb each other.
#[derive(Debug)]
pub struct Runner {
    pub(crate) program: PathBuf,
    attach: Option<Attach>,
    pub(crate) stop: Stop,
}

/// What a scenario did, with nobody watching.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Provoked {
    /// What the counters that the scenario makes a claim about grew by.
    pub moved: BTreeMap<String, u64>,
    /// How each piece of traffic went.
    pub traffic: Vec<Tally>,
    /// Where the scenario did not do what it claims to; empty if all is well.
    pub failures: Vec<String>,
    /// Why it could not be played on this machine, if it could not; then nothing else is told.
    pub skipped: Option<String>,
}

impl Runner {
    /// A runner of `program`, which must know the commands `diagnose` and `lab-actor`.
    ///
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end this process: they end what is being
    /// played, with [`LabError::Interrupted`].
    pub fn new(program: PathBuf) -> Result<Self, LabError> {
        let stop = Stop::on_signals().map_err(LabError::io("catching signals"))?;
        Ok(Self { program, attach: None, stop })
    }

    /// Has the diagnosis attach its tracer in this way and in no other; `None` for the first that
    /// works. What a cure is judged by is not affected.
    #[must_use]
    pub fn attaching(self, attach: Option<Attach>) -> Self {
        Self { attach, ..self }
    }

    /// Plays a job while the program diagnoses it, and compares.
    ///
    /// A wrong or missing diagnosis gives an outcome that did not pass, a machine that lacks what a
    /// scenario needs one that says so; an error says that a scenario itself failed.
    pub fn run(&self, job: &Job) -> Result<Outcome, LabError> {
        let scenarios = job.scenarios()?;
        prepare()?;
        let alone = job.is_alone()?;
        let _turn = Turn::wait(alone, &self.stop)?;
        let start = Instant::now();
        if job.is_fixed() {
            let mut outcome = self.fix(job, &scenarios)?;
            outcome.seconds = start.elapsed().as_secs_f64();
            return Ok(outcome);
        }
        let mut tags = Vec::new();
        let mut stages = Vec::new();
        for scenario in &scenarios {
            let tag = Tag::new()?;
            match Stage::set(scenario, &tag, &self.program, &self.stop) {
                Ok(stage) => stages.push(stage),
                Err(error) if error.means_skipped() => {
                    return Ok(Outcome::unplayed(job, Unplayed::Skipped(error.to_string())));
                }
                Err(error) => return Err(error),
            }
            tags.push(tag);
        }
        let mut spent = Spent { set: start.elapsed().as_secs_f64(), ..Spent::default() };
        let (played, answer) = match self.observe(&mut stages, &tags, alone, &mut spent) {
            Ok(observed) => observed,
            Err(LabError::Diagnosis(why)) => {
                let nothing = stages.iter().map(|_| Played::default()).collect();
                (nothing, Answer { exit: None, report: Err(why) })
            }
            Err(error) => return Err(error),
        };
        let all: Vec<_> = stages.iter().zip(played).map(truth).collect::<Result<_, _>>()?;
        drop(stages);
        let mut outcome = Outcome::of(job, &all, answer);
        (outcome.seconds, outcome.spent) = (start.elapsed().as_secs_f64(), spent);
        Ok(outcome)
    }

    /// Plays a scenario with nobody watching, to see by the kernel's own counters whether it does
    /// what it claims to.
    pub fn provoke(&self, name: &str, with_remedy: bool) -> Result<Provoked, LabError> {
        let scenario = find(name)?;
        let scenario = if with_remedy { scenario.remedied()? } else { scenario };
        prepare()?;
        let _turn = Turn::wait(scenario.alone.is_some(), &self.stop)?;
        let mut stage = match Stage::set(&scenario, &Tag::new()?, &self.program, &self.stop) {
            Err(error) if error.means_skipped() => {
                return Ok(Provoked { skipped: Some(error.to_string()), ..Provoked::default() });
            }
            stage => stage?,
        };
        let before = stage.read()?;
        play(std::slice::from_mut(&mut stage))?;
        let moved = counters::growth(&before, &stage.settle(&before)?);
        let at_most = moved.clone();
        let played = Played { moved, at_most, traffic: stage.tallies() };
        let truth = truth((&stage, played))?;
        let failures = truth.unproved();
        let moved = named(&truth.played.moved);
        Ok(Provoked { moved, traffic: truth.played.traffic, failures, skipped: None })
    }

    /// Plays everything while the program watches all of it.
    fn observe(
        &self,
        stages: &mut [Stage<'_>],
        tags: &[Tag],
        alone: bool,
        spent: &mut Spent,
    ) -> Result<(Vec<Played>, Answer), LabError> {
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let first: Vec<_> = stages.iter().map(Stage::read).collect::<Result<_, _>>()?;
        let names = stages.iter().flat_map(Stage::observed);
        let ready = tags.first().map(Tag::ready_file).unwrap_or_default();
        let diagnosis = Diagnosis::start(&self.program, self.attach, names, ready, &self.stop)?;
        let before: Vec<_> = stages.iter().map(Stage::read).collect::<Result<_, _>>()?;
        spent.watch = lap();
        if alone {
            // What disturbs others is played when the others are over.
            let mut order: Vec<usize> = (0..stages.len()).collect();
            order.sort_by_key(|&at| stages[at].disturbs());
            for at in order {
                play(std::slice::from_mut(&mut stages[at]))?;
                stages[at].settle(&before[at])?;
            }
        } else {
            play(stages)?;
        }
        spent.play = lap();
        for (stage, before) in stages.iter().zip(&before) {
            stage.settle(before)?;
        }
        // Read again: one stage may have moved while another came to a rest.
        let after: Vec<_> = stages.iter().map(Stage::read).collect::<Result<_, _>>()?;
        spent.settle = lap();
        let answer = diagnosis.finish(&self.stop)?;
        spent.report = lap();
        // The program read its counters for the first time between two readings, and for the last time
        // between two others. As a rule both are equal, and then there is but one right number.
        let mut played = Vec::new();
        let readings = first.iter().zip(&before).zip(&after);
        for (stage, ((first, before), after)) in stages.iter().zip(readings) {
            let moved = counters::growth(before, after);
            let at_most = counters::growth(first, &stage.read()?);
            played.push(Played { moved, at_most, traffic: stage.tallies() });
        }
        Ok((played, answer))
    }
}

/// Plays act after act, those of all stages together.
pub(crate) fn play(stages: &mut [Stage<'_>]) -> Result<(), LabError> {
    let acts: BTreeSet<_> = stages.iter().flat_map(Stage::acts).collect();
    for act in acts {
        for stage in &mut *stages {
            stage.begin(act)?;
        }
        for stage in &mut *stages {
            stage.end_act()?;
        }
    }
    Ok(())
}

/// What comes before any play.
pub(crate) fn prepare() -> Result<(), LabError> {
    require_root()?;
    // What cannot be removed is in nobody's way: names are never used twice.
    let _ = sweep();
    Ok(())
}

fn truth<'s>((stage, played): (&Stage<'s>, Played)) -> Result<Truth<'s>, LabError> {
    let (scenario, namespaces) = (stage.scenario(), stage.namespaces()?);
    Ok(Truth { scenario, namespaces, processes: stage.processes(), played })
}

pub(crate) fn named(values: &Values) -> BTreeMap<String, u64> {
    values.iter().map(|(counter, value)| (counter.to_string(), *value)).collect()
}
