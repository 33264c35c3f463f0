//! Looks that can be spared: where no packet came in, no receive queue grew.
//!
//! Every packet that a queue could be looked at for is first counted by the CPU that takes it in, the
//! loopback's too. Decides from these counts alone; it neither reads nor looks.

use std::time::{Duration, Instant};

use crate::collector::SoftnetFacts;
use crate::collectors::softnet_stat::{Taken, taken};

/// Longest time without a look, for what changes without a packet: a server that begins to listen.
const LONGEST: Duration = Duration::from_secs(5);

/// What is known since the latest look that found nothing going on.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    since: Option<(Instant, Vec<Taken>)>,
}

impl Stillness {
    /// True if a look at `now` would show what the latest one showed.
    pub(super) fn holds(&self, rows: &[SoftnetFacts], now: Instant) -> bool {
        let Some((since, before)) = &self.since else { return false };
        now - *since < LONGEST
            && !rows.is_empty()
            && rows.iter().map(taken).eq(before.iter().copied())
    }

    /// All was looked at, after `rows` were read, and nothing was going on.
    pub(super) fn begin(&mut self, rows: &[SoftnetFacts], now: Instant) {
        self.since = Some((now, rows.iter().map(taken).collect()));
    }

    /// Something is going on, or was not looked at.
    pub(super) fn end(&mut self) {
        self.since = None;
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
    }
}
