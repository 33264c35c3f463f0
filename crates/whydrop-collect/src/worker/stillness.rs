//! Looks that can be spared: where no packet came in, no receive queue grew.
//!
//! Every packet that a queue could be looked at for is first counted by the CPU that takes it in, the
//! loopback's too. Decides from these counts alone; it neither reads nor looks.

use std::time::{Duration, Instant};

use crate::collector::SoftnetFacts;
use crate::collectors::softnet_stat::{Taken, taken};

/// Longest time without a look, for what changes without a packet: a server that begins to listen.
const LONGEST: Duration = Duration::from_secs(5);
/// A host where no packet came in for so long is at rest.
const REST: Duration = Duration::from_secs(3);

/// What is known since the latest look that found nothing going on.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    since: Option<Since>,
}

#[derive(Debug)]
struct Since {
    looked: Instant,
    /// When the first such look was after a packet came in.
    began: Instant,
    taken: Vec<Taken>,
}

impl Stillness {
    /// True if a look at `now` would show what the latest one showed.
    pub(super) fn holds(&self, rows: &[SoftnetFacts], now: Instant) -> bool {
        let Some(since) = &self.since else { return false };
        now - since.looked < LONGEST && since.is_unmoved(rows)
    }

    /// True if that has been so for long.
    pub(super) fn is_rest(&self, now: Instant) -> bool {
        self.since.as_ref().is_some_and(|since| now - since.began >= REST)
    }

    /// All was looked at, after `rows` were read, and nothing was going on.
    pub(super) fn begin(&mut self, rows: &[SoftnetFacts], now: Instant) {
        let began = match &self.since {
            Some(since) if since.is_unmoved(rows) => since.began,
            _ => now,
        };
        self.since = Some(Since { looked: now, began, taken: rows.iter().map(taken).collect() });
    }

    /// Something is going on, or was not looked at.
    pub(super) fn end(&mut self) {
        self.since = None;
    }
}

impl Since {
    /// True if no packet came in; false also where that is not told.
    fn is_unmoved(&self, rows: &[SoftnetFacts]) -> bool {
        !rows.is_empty() && rows.iter().map(taken).eq(self.taken.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(processed: u64, dropped: u64) -> [SoftnetFacts; 1] {
        [SoftnetFacts {
            cpu: 0,
            processed,
            dropped,
            time_squeeze: 0,
            flow_limit: None,
            received_rps: None,
            backlog_len: Some(0),
        }]
    }

    #[test]
    fn it_holds_until_a_packet_comes_or_the_time_is_over() {
        let mut still = Stillness::default();
        let began = Instant::now();
        assert!(!still.holds(&row(5, 0), began), "nothing was looked at yet");
        still.begin(&row(5, 0), began);
        assert!(still.holds(&row(5, 0), began + LONGEST / 2));
        assert!(!still.holds(&row(6, 0), began));
        assert!(!still.holds(&row(5, 1), began), "what the backlog dropped came in too");
        assert!(!still.holds(&row(5, 0), began + LONGEST));
        still.end();
        assert!(!still.holds(&row(5, 0), began));
    }

    #[test]
    fn a_host_that_does_not_tell_is_always_looked_at() {
        let mut still = Stillness::default();
        let began = Instant::now();
        still.begin(&[], began);
        assert!(!still.holds(&[], began));
        still.begin(&[], began + REST);
        assert!(!still.is_rest(began + REST));
    }

    #[test]
    fn rest_is_stillness_that_lasts() {
        let mut still = Stillness::default();
        let began = Instant::now();
        still.begin(&row(5, 0), began);
        assert!(!still.is_rest(began + REST / 2));
        still.begin(&row(5, 0), began + REST / 2);
        assert!(still.is_rest(began + REST), "the look between them found nothing new");
        still.begin(&row(6, 0), began + REST);
        assert!(!still.is_rest(began + REST), "a packet came in");
        assert!(still.is_rest(began + 2 * REST));
        still.end();
        assert!(!still.is_rest(began + 2 * REST));
    }
}
