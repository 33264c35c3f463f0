//! How many outcomes were right, by what they prove.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Kind, Outcome};

/// A score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Score {
    /// Played, and nothing was wrong.
    pub right: usize,
    /// Played, and something was.
    pub wrong: usize,
    /// Not played: this machine lacks something.
    pub skipped: usize,
}

impl Score {
    fn add(&mut self, outcome: &Outcome) {
        let field = match outcome {
            Outcome { skipped: Some(_), .. } => &mut self.skipped,
            Outcome { pass: true, .. } => &mut self.right,
            _ => &mut self.wrong,
        };
        *field += 1;
    }
}

/// The score of a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Accuracy {
    /// By what the outcomes prove.
    pub kinds: BTreeMap<Kind, Score>,
    /// Of all.
    pub all: Score,
    /// Packets that were lost by the kernel's counters, as far as a finding is expected.
    pub packets_expected: u64,
    /// Packets that those findings count.
    pub packets_got: u64,
}

impl Accuracy {
    /// Counts the outcomes.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut accuracy = Self::default();
        for outcome in outcomes {
            accuracy.kinds.entry(outcome.kind).or_default().add(outcome);
            accuracy.all.add(outcome);
            accuracy.packets_expected += outcome.packets_expected.unwrap_or(0);
            accuracy.packets_got += outcome.packets_got.unwrap_or(0);
        }
        accuracy
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fault => "fault",
            Self::Policy => "policy",
            Self::Peer => "peer",
            Self::Benign => "benign",
            Self::Info => "info",
            Self::Together => "together",
            Self::Healthy => "healthy",
            Self::Remedied => "remedied",
            Self::Fixed => "fixed",
        })
    }
}
