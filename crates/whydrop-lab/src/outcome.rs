//! How a job went, for people and for machines.

use std::collections::BTreeMap;

use serde::Serialize;
use whydrop_model::Report;

use crate::diagnosis::Answer;
use crate::judge::{self, Judgement, Truth};
use crate::run::named;
use crate::{Job, Tally};

mod accuracy;
mod table;

pub use accuracy::{Accuracy, Score};
pub use table::{write_json, write_table};

/// How the diagnosis of a job went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Name of the scenario, or names of those that were played together.
    pub name: String,
    /// True if it was played with its remedy applied.
    pub remedied: bool,
    /// What it proves.
    pub kind: Kind,
    /// What a right diagnosis says.
    pub expected: String,
    /// What this one said.
    pub got: String,
    /// Packets that the expected findings should count, from the kernel's counters; `None` if none
    /// is expected.
    pub packets_expected: Option<u64>,
    /// Packets that those findings do count; `None` if there was none.
    pub packets_got: Option<u64>,
    /// Packets that the ledger leaves unexplained; `None` without a report.
    pub ledger_remainder: Option<u64>,
    /// How long it took, namespaces included, waiting for its turn not.
    pub seconds: f64,
    /// What it took that long for.
    pub spent: Spent,
    /// True if it was played and nothing was wrong.
    pub pass: bool,
    /// Why it could not be played on this machine, if it could not: neither right nor wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What was wrong, one line each.
    pub failures: Vec<String>,
    /// What the counters that the scenario makes a claim about grew by.
    pub moved: BTreeMap<String, u64>,
    /// How each piece of traffic went.
    pub traffic: Vec<Tally>,
    /// The report, if something was wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

/// Seconds by what they were spent for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spent {
    /// Namespaces and servers.
    pub set: f64,
    /// The diagnosis, until it watches.
    pub watch: f64,
    /// Traffic.
    pub play: f64,
    /// Counters, until they stand still.
    pub settle: f64,
    /// The diagnosis again, from the signal that ends it to its report.
    pub report: f64,
}

/// What an outcome proves: the class of what is lost, or that nothing is said without reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A fault is found.
    Fault,
    /// A policy that drops is found.
    Policy,
    /// A peer that is to blame is found.
    Peer,
    /// Noise is booked as such.
    Benign,
    /// A state worth knowing is found.
    Info,
    /// Several scenarios at once are kept apart.
    Together,
    /// Nothing is found where nothing is wrong.
    Healthy,
    /// Nothing is found once the remedy is applied.
    Remedied,
    /// The program cures it, and undoes that.
    Fixed,
}

/// Why there is nothing to compare.
pub(crate) enum Unplayed {
    /// This machine lacks something.
    Skipped(String),
    /// The scenario itself failed.
    Failed(String),
}

impl Outcome {
    /// What came of a job that was played.
    pub(crate) fn of(job: &Job, truths: &[Truth<'_>], answer: Answer) -> Self {
        let several = truths.len() > 1;
        let played = truths.iter().any(|truth| !truth.played.traffic.is_empty());
        let Judgement { got, packets_got, ledger_remainder, mut failures } =
            judge::judge(truths, &answer);
        if played {
            failures.splice(0..0, judge::unproved(truths));
        }
        let mut moved = BTreeMap::new();
        for truth in truths {
            let name = &truth.scenario.name;
            let title = |counter| if several { format!("{name} {counter}") } else { counter };
            let own = named(&truth.played.moved);
            moved.extend(own.into_iter().map(|(counter, value)| (title(counter), value)));
        }
        let pass = failures.is_empty();
        Self {
            expected: judge::expected(truths),
            got,
            packets_expected: judge::packets(truths).filter(|_| played),
            packets_got,
            ledger_remainder,
            pass,
            failures,
            moved,
            traffic: truths.iter().flat_map(|truth| truth.played.traffic.clone()).collect(),
            report: answer.report.ok().filter(|_| !pass),
            ..Self::empty(job)
        }
    }

    /// What came of a job in which the program was to cure what is lost, or to say why not.
    pub(crate) fn fixed(job: &Job, expected: String, got: String, failures: Vec<String>) -> Self {
        let pass = failures.is_empty();
        Self { expected, got, pass, failures, ..Self::empty(job) }
    }

    /// A job that was not played to its end.
    pub(crate) fn unplayed(job: &Job, why: Unplayed) -> Self {
        let mut outcome = Self::empty(job);
        match why {
            Unplayed::Skipped(why) => outcome.skipped = Some(why),
            Unplayed::Failed(why) => outcome.failures = vec![why],
        }
        outcome
    }

    fn empty(job: &Job) -> Self {
        Self {
            name: job.name(),
            remedied: job.is_remedied(),
            kind: job.kind(),
            expected: String::new(),
            got: String::new(),
            packets_expected: None,
            packets_got: None,
            ledger_remainder: None,
            seconds: 0.0,
            spent: Spent::default(),
            pass: false,
            skipped: None,
            failures: Vec::new(),
            moved: BTreeMap::new(),
            traffic: Vec::new(),
            report: None,
        }
    }

    /// True if something was wrong.
    pub fn is_wrong(&self) -> bool {
        !self.pass && self.skipped.is_none()
    }

    /// The scenario's name, and what was done about it.
    fn title(&self) -> String {
        match self.kind {
            Kind::Remedied => format!("{} + remedy", self.name),
            Kind::Fixed => format!("{} + fix", self.name),
            _ => self.name.clone(),
        }
    }
}
