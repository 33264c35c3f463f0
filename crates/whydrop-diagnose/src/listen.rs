//! How the accept queue of a listener moved, and which listener refused how many.

use std::time::Duration;

use whydrop_model::{DropTotal, Evidence, Listener, Namespace, QueueStep};

use crate::cure::rounded_up;
use crate::share;

/// A client whose SYN is refused tries again after one second (`TCP_TIMEOUT_INIT`,
/// `include/net/tcp.h`): refusals closer together than that are different clients.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// What the looks at one listener's accept queue add up to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// Longest time without the queue falling below its backlog, in a spell that saw it full.
    pub(crate) pinned: Duration,
    /// Most clients refused for the first time within one SYN retry interval.
    pub(crate) burst: u64,
    /// The queue was seen full (`queued > backlog`).
    pub(crate) full: bool,
}

impl Course {
    /// Reads the course of a queue. The last step holds until the window's end.
    pub(crate) fn of(listener: &Listener, evidence: &Evidence) -> Self {
        let window = evidence.window.length();
        let backlog = listener.backlog.after;
        let full = listener.steps.iter().any(|step| u64::from(step.queued) > backlog);
        let burst = once_each(burst(listener), listener, evidence);
        Self { pinned: pinned(&listener.steps, backlog, window), burst, full }
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

/// Clients refused for the first time within one retry interval, at most.
///
/// Those refused in one interval come back in the next, so only what an interval has more than the
/// one before it is new. Intervals are cut half a second after the first refusal and then every
/// second: retries and bursts that keep time with them fall into the middle, where a look that comes
/// a little early or late changes nothing.
fn burst(listener: &Listener) -> u64 {
    let base = listener.drops.before;
    let Some(first) = listener.steps.iter().find(|step| step.drops > base) else {
        // Refused and closed between two looks.
        return listener.drops.delta32();
    };
    let interval = SYN_RETRY.as_millis() as u64;
    let cut = first.at_ms.saturating_add(interval / 2);
    let number =
        |step: &QueueStep| step.at_ms.checked_sub(cut).map_or(0, |past| past / interval + 1);
    let (mut most, mut earlier, mut seen, mut last, mut current) = (0, 0, base, base, 0);
    for step in &listener.steps {
        let now = number(step);
        if now > current {
            let refused = last.saturating_sub(seen);
            most = most.max(refused.saturating_sub(earlier));
            // In an interval without a step nothing was refused.
            earlier = if now == current + 1 { refused } else { 0 };
            (seen, current) = (last, now);
        }
        last = last.max(step.drops);
    }
    most.max(last.saturating_sub(seen).saturating_sub(earlier))
}

/// Clients among so many refusals. Who got a SYN cookie thinks itself connected, and whatever it sends,
/// again and again, is refused like its first ACK: what is refused so more often than cookies were sent
/// is no further client.
fn once_each(refusals: u64, listener: &Listener, evidence: &Evidence) -> u64 {
    let holds = |one: &&Namespace| one.listeners.iter().any(|it| std::ptr::eq(it, listener));
    let Some(namespace) = evidence.namespaces.iter().find(holds) else { return refusals };
    let grown = |counter: &str| namespace.delta(counter).unwrap_or(0);
    let cookie_ack = |total: &&DropTotal| {
        let site = total.site.as_ref().map_or("", |site| site.symbol.as_str());
        total.netns == Some(namespace.inode)
            && total.reason == "NO_SOCKET"
            && matches!(site, "cookie_v4_check" | "cookie_v6_check")
    };
    let totals = evidence.tracer.totals.iter().filter(cookie_ack);
    let answered: u64 = totals.map(|total| total.packets).sum();
    let all = grown("TcpExt.ListenOverflows").max(1);
    let repeated = answered.saturating_sub(grown("TcpExt.SyncookiesSent")).min(all);
    (u128::from(refusals) * u128::from(all - repeated)).div_ceil(u128::from(all)) as u64
}

/// Connections the backlog must hold so that a burst like the worst one seen is not refused.
pub(crate) fn needed_backlog(listener: &Listener, course: &Course) -> u64 {
    u64::from(listener.peak()).saturating_add(course.burst)
}

/// Twice what is needed, rounded up to a number with two significant bits: precise enough for a
/// setting, and at most three times the need.
pub(crate) fn proposed_backlog(needed: u64) -> u64 {
    rounded_up(needed.saturating_mul(2).max(16))
}

/// Splits `total` over the listeners of a namespace by the weight each has.
pub(crate) fn split(
    total: u64,
    namespace: &Namespace,
    weight: impl Fn(&Listener) -> u64,
) -> Vec<(&Listener, u64)> {
    share::split(total, namespace.listeners.iter().map(|one| (one, weight(one))))
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
    fn those_who_come_back_are_not_counted_again() {
        // Thirty clients a second against a backlog of 8: nine get in, the rest come back.
        let steps =
            [(0, 0, 0), (300, 9, 21), (500, 0, 21), (1300, 9, 63), (1500, 0, 63), (2310, 9, 126)];
        let waves = course(8, &steps);
        assert_eq!(waves.burst, 21);
        assert_eq!(needed_backlog(&sample::listener(8, 126, &steps), &waves), 30);
    }

    #[test]
    fn who_comes_back_with_a_cookie_is_counted_once() {
        let mut evidence = sample::evidence();
        let steps = [(0, 0, 0), (100, 6, 90), (400, 0, 90)];
        evidence.namespaces[0].listeners.push(sample::listener(5, 90, &steps));
        sample::count(&mut evidence, "TcpExt.ListenOverflows", 90);
        sample::count(&mut evidence, "TcpExt.SyncookiesSent", 20);
        evidence.tracer.totals = vec![sample::total("NO_SOCKET", "cookie_v4_check", 80)];
        // Ten SYNs, and twenty clients whose ACKs came four times each.
        let listener = &evidence.namespaces[0].listeners[0];
        assert_eq!(Course::of(listener, &evidence).burst, 30);
        evidence.tracer.totals.clear();
        let listener = &evidence.namespaces[0].listeners[0];
        assert_eq!(Course::of(listener, &evidence).burst, 90);
    }

    #[test]
    fn proposals_cover_the_need_and_at_most_three_times_it() {
        for needed in 8..5000 {
            let proposed = proposed_backlog(needed);
            assert!(proposed >= needed && proposed <= needed * 3, "{needed} -> {proposed}");
        }
    }
}
