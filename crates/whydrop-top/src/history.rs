//! How a count went from lap to lap: its rate and its trend.

use std::collections::VecDeque;

/// Laps remembered; more than the widest screen shows.
const REMEMBERED: usize = 240;

/// Laps on either side of a comparison.
const COMPARED: usize = 3;

/// Packets of each of the latest laps, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    laps: VecDeque<u64>,
    /// All packets, also those of laps forgotten since.
    pub(crate) total: u64,
}

/// Whether it gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trend {
    Up,
    Down,
    Level,
}

impl History {
    /// Of something seen for the first time.
    pub(crate) fn starting(packets: u64) -> Self {
        let mut history = Self::default();
        history.push(packets);
        history
    }

    /// Takes in the next lap.
    pub(crate) fn push(&mut self, packets: u64) {
        if self.laps.len() == REMEMBERED {
            self.laps.pop_front();
        }
        self.laps.push_back(packets);
        self.total = self.total.saturating_add(packets);
    }

    /// Packets of the latest lap.
    pub(crate) fn latest(&self) -> u64 {
        self.laps.back().copied().unwrap_or(0)
    }

    /// The latest laps, at most so many, oldest first.
    pub(crate) fn last(&self, laps: usize) -> impl Iterator<Item = u64> {
        self.laps.iter().skip(self.laps.len().saturating_sub(laps)).copied()
    }

    /// The latest few laps against the few before them; a tenth more or less is no change.
    pub(crate) fn trend(&self) -> Trend {
        if self.laps.len() < 2 * COMPARED {
            return Trend::Level;
        }
        let sum = |skip: usize| -> u64 { self.laps.iter().rev().skip(skip).take(COMPARED).sum() };
        let (now, before) = (sum(0), sum(COMPARED));
        if now > before.saturating_add(before / 10) {
            Trend::Up
        } else if now < before - before / 10 {
            Trend::Down
        } else {
            Trend::Level
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(laps: &[u64]) -> History {
        let mut history = History::default();
        for &packets in laps {
            history.push(packets);
        }
        history
    }

    #[test]
    fn the_total_outlives_what_is_forgotten() {
        let history = of(&[1; REMEMBERED + 5]);
        assert_eq!(
            (history.total, history.last(1000).count()),
            (REMEMBERED as u64 + 5, REMEMBERED)
        );
        assert_eq!(of(&[1, 2, 3]).last(2).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_trend_is_more_than_noise() {
        assert_eq!(of(&[100, 100, 100, 105, 100, 103]).trend(), Trend::Level);
        assert_eq!(of(&[100, 100, 100, 120, 130, 100]).trend(), Trend::Up);
        assert_eq!(of(&[100, 100, 100, 0, 0, 0]).trend(), Trend::Down);
        assert_eq!((of(&[]).trend(), of(&[7, 900]).trend()), (Trend::Level, Trend::Level));
    }
}
