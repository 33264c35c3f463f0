//! How the accept queue of a listener moved, and which listener refused how many.

use std::time::Duration;

use whydrop_model::{Evidence, Listener, Namespace, QueueStep};

/// A client whose SYN is refused tries again after one second (`TCP_TIMEOUT_INIT`,
/// `include/net/tcp.h`): refusals closer together than that are different clients.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// What the looks at one listener's accept queue add up to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// Longest time without the queue falling below its backlog, in a spell that saw it full.
    pub(crate) pinned: Duration,
    /// Most refusals within one SYN retry interval.
    pub(crate) burst: u64,
    /// The queue was seen full (`queued > backlog`).
    pub(crate) full: bool,
}

impl Course {
    /// Reads the course of a queue. The last step holds until the window's end.
    pub(crate) fn of(listener: &Listener, evidence: &Evidence) -> Self {
        let window = Duration::from_secs_f64(evidence.window.seconds.max(0.0));
        let backlog = listener.backlog.after;
        let full = listener.steps.iter().any(|step| u64::from(step.queued) > backlog);
        Self { pinned: pinned(&listener.steps, backlog, window), burst: burst(listener), full }
    }
}

fn pinned(steps: &[QueueStep], backlog: u64, window: Duration) -> Duration {
    // A backlog of zero still admits one connection; "not below" has to mean "not empty" then.
    let level = backlog.max(1);
    let mut longest = Duration::ZERO;
    let mut spell: Option<(Duration, bool)> = None;
    for step in steps {
        let at = Duration::from_millis(step.at_ms);
        let queued = u64::from(step.queued);
        if queued >= level {
            let (start, full) = spell.unwrap_or((at, false));
            spell = Some((start, full || queued > backlog));
        } else if let Some((start, true)) = spell.take() {
            longest = longest.max(at.saturating_sub(start));
        }
    }
    if let Some((start, true)) = spell {
        longest = longest.max(window.saturating_sub(start));
    }
    longest
}

fn burst(listener: &Listener) -> u64 {
    let steps = &listener.steps;
    let mut most = 0;
    let mut first = 0;
    for (last, step) in steps.iter().enumerate() {
        while Duration::from_millis(step.at_ms - steps[first].at_ms.min(step.at_ms)) > SYN_RETRY
            && first < last
        {
            first += 1;
        }
        most = most.max(step.drops.saturating_sub(steps[first].drops));
    }
    // Drops before the first look of a listener born in the window, or with a single look.
    if most == 0 { listener.drops.delta32() } else { most }
}

/// Connections the backlog must hold so that a burst like the worst one seen is not refused.
pub(crate) fn needed_backlog(listener: &Listener, course: &Course) -> u64 {
    u64::from(listener.peak()) + course.burst
}

/// Twice what is needed, rounded up to a number with two significant bits: precise enough for a
/// setting, and at most three times the need.
pub(crate) fn proposed_backlog(needed: u64) -> u64 {
    let twice = needed.saturating_mul(2).max(16);
    let step = 1_u64 << twice.ilog2().saturating_sub(2);
    twice.div_ceil(step) * step
}

/// Splits `total` over the listeners of a namespace by the weight each has; the parts add up to
/// `total` exactly. Listeners without weight get nothing; if none has any, the result is empty.
pub(crate) fn split(
    total: u64,
    namespace: &Namespace,
    weight: impl Fn(&Listener) -> u64,
) -> Vec<(&Listener, u64)> {
    let mut parts: Vec<_> = namespace
        .listeners
        .iter()
        .map(|listener| (listener, weight(listener)))
        .filter(|(_, weight)| *weight > 0)
        .collect();
    let mut weights_left: u64 = parts.iter().map(|(_, weight)| weight).sum();
    let mut left = total;
    for (_, part) in &mut parts {
        let weight = *part;
        *part = (u128::from(left) * u128::from(weight) / u128::from(weights_left)) as u64;
        left -= *part;
        weights_left -= weight;
    }
    parts.retain(|(_, part)| *part > 0);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn course(backlog: u64, steps: &[(u64, u32, u64)]) -> Course {
        let drops = steps.last().map_or(0, |step| step.2);
        Course::of(&sample::listener(backlog, drops, steps), &sample::evidence())
    }

    #[test]
    fn a_sawtooth_is_not_pinned() {
        let saw = course(5, &[(0, 0, 0), (100, 6, 3), (400, 0, 3), (600, 6, 5), (900, 0, 5)]);
        assert_eq!(saw.pinned, Duration::from_millis(300));
        assert!(saw.full);
    }

    #[test]
    fn a_queue_that_stays_at_its_backlog_is_pinned_until_the_end() {
        let slow = course(5, &[(0, 0, 0), (1000, 6, 3), (2000, 5, 3), (3000, 6, 9)]);
        assert_eq!(slow.pinned, Duration::from_secs(9));
    }

    #[test]
    fn a_queue_that_was_never_full_is_not_pinned() {
        let busy = course(5, &[(0, 5, 0)]);
        assert_eq!(busy.pinned, Duration::ZERO);
        assert!(!busy.full);
    }

    #[test]
    fn a_burst_is_what_one_retry_interval_refused() {
        let steps = [(0, 0, 0), (100, 6, 30), (1500, 6, 40), (1600, 6, 60), (2700, 0, 61)];
        assert_eq!(course(5, &steps).burst, 30);
    }

    #[test]
    fn proposals_cover_the_need_and_at_most_three_times_it() {
        for needed in 8..5000 {
            let proposed = proposed_backlog(needed);
            assert!(proposed >= needed && proposed <= needed * 3, "{needed} -> {proposed}");
        }
    }

    #[test]
    fn parts_add_up() {
        let mut evidence = sample::evidence();
        evidence.namespaces[0].listeners =
            [3, 0, 5, 7].map(|drops| sample::listener(5, drops, &[])).to_vec();
        let parts = split(100, &evidence.namespaces[0], |listener| listener.drops.delta32());
        assert_eq!(parts.len(), 3);
        assert_eq!(parts.iter().map(|(_, part)| part).sum::<u64>(), 100);
        assert!(split(10, &evidence.namespaces[0], |_| 0).is_empty());
    }
}
