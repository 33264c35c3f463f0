//! Plays scenarios, with the diagnosis watching or alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::counters::{self, Values};
use crate::diagnosis::{Answer, Diagnosis};
use crate::judge::{Judgement, Played, Truth};
use crate::netns::{Tag, require_root, sweep};
use crate::scenario::{Scenario, find};
use crate::stage::Stage;
use crate::wait::Stop;
use crate::{LabError, Outcome, Tally};

/// Plays scenarios with one program. May be shared by threads; a scenario is played on the thread
/// that asks for it, and several at once do not disturb each other.
#[derive(Debug)]
pub struct Runner {
    program: PathBuf,
    stop: Stop,
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
        Ok(Self { program, stop })
    }

    /// Plays a scenario, with its remedy applied or not, while the program diagnoses it, and
    /// compares.
    ///
    /// A wrong or missing diagnosis gives an outcome that did not pass, a machine that lacks what the
    /// scenario needs one that says so; an error says that the scenario itself failed.
    pub fn run(&self, name: &str, with_remedy: bool) -> Result<Outcome, LabError> {
        let start = Instant::now();
        let scenario = prepare(name, with_remedy)?;
        let tag = Tag::new()?;
        let mut stage = match Stage::set(&scenario, &tag, &self.program, &self.stop) {
            Err(error) if error.means_skipped() => {
                return Ok(Outcome::skipped(name, with_remedy, error.to_string()));
            }
            stage => stage?,
        };
        let (truth, answer) = match self.observe(&mut stage, &scenario, &tag) {
            Ok((truth, answer)) => (truth, answer),
            Err(LabError::Diagnosis(why)) => {
                let answer = Answer { exit: None, report: Err(why) };
                (truth(&stage, &scenario, Played::default())?, answer)
            }
            Err(error) => return Err(error),
        };
        drop(stage);

        let played = !truth.played.traffic.is_empty();
        let Judgement { got, packets_got, ledger_remainder, mut failures } = truth.judge(&answer);
        if played {
            failures.splice(0..0, truth.unproved());
        }
        let pass = failures.is_empty();
        Ok(Outcome {
            name: name.to_owned(),
            remedied: with_remedy,
            expected: truth.expected(),
            got,
            packets_expected: truth.packets().filter(|_| played),
            packets_got,
            ledger_remainder,
            seconds: start.elapsed().as_secs_f64(),
            pass,
            skipped: None,
            failures,
            moved: named(&truth.played.moved),
            traffic: truth.played.traffic,
            report: answer.report.ok().filter(|_| !pass),
        })
    }

    /// Plays a scenario with nobody watching, to see by the kernel's own counters whether it does
    /// what it claims to.
    pub fn provoke(&self, name: &str, with_remedy: bool) -> Result<Provoked, LabError> {
        let scenario = prepare(name, with_remedy)?;
        let mut stage = match Stage::set(&scenario, &Tag::new()?, &self.program, &self.stop) {
            Err(error) if error.means_skipped() => {
                return Ok(Provoked { skipped: Some(error.to_string()), ..Provoked::default() });
            }
            stage => stage?,
        };
        let before = stage.read()?;
        let traffic = stage.play()?;
        let moved = counters::growth(&before, &stage.settle(&before)?);
        let at_most = moved.clone();
        let truth = truth(&stage, &scenario, Played { moved, at_most, traffic })?;
        let failures = truth.unproved();
        let moved = named(&truth.played.moved);
        Ok(Provoked { moved, traffic: truth.played.traffic, failures, skipped: None })
    }

    fn observe<'s>(
        &self,
        stage: &mut Stage<'s>,
        scenario: &'s Scenario,
        tag: &Tag,
    ) -> Result<(Truth<'s>, Answer), LabError> {
        let before = stage.read()?;
        let namespaces = stage.namespaces()?;
        let names = namespaces.values().filter_map(|netns| netns.name.as_deref());
        let diagnosis = Diagnosis::start(&self.program, names, tag.ready_file(), &self.stop)?;
        let traffic = stage.play()?;
        let after = stage.settle(&before)?;
        let answer = diagnosis.finish(&self.stop)?;
        // The program read its counters for the last time between these two readings. As a rule they
        // are equal, and then there is but one right number.
        let moved = counters::growth(&before, &after);
        let at_most = counters::growth(&before, &stage.read()?);
        Ok((truth(stage, scenario, Played { moved, at_most, traffic })?, answer))
    }
}

fn prepare(name: &str, with_remedy: bool) -> Result<Scenario, LabError> {
    let scenario = find(name)?;
    let scenario = if with_remedy { scenario.remedied()? } else { scenario };
    require_root()?;
    // What cannot be removed is in nobody's way: names are never used twice.
    let _ = sweep();
    Ok(scenario)
}

fn truth<'s>(
    stage: &Stage<'s>,
    scenario: &'s Scenario,
    played: Played,
) -> Result<Truth<'s>, LabError> {
    let namespaces = stage.namespaces()?;
    Ok(Truth { scenario, namespaces, processes: stage.processes(), played })
}

fn named(values: &Values) -> BTreeMap<String, u64> {
    values.iter().map(|(counter, value)| (counter.to_string(), *value)).collect()
}
