//! Where the evidence is incomplete or disagrees with itself, in words for the operator.
//!
//! What the collectors could not read they say themselves; here is what only shows when all of it is
//! put together.

use whydrop_model::{Evidence, LedgerEntry, NotChecked};

/// A trace of so many times the counter's number is no matter of units or of the moment in which the
/// counter was read.
const DISAGREE: u64 = 2;

/// What could not be known, given what was booked.
pub(crate) fn about(evidence: &Evidence, entries: &[LedgerEntry]) -> Vec<NotChecked> {
    let mut doubts = Vec::new();
    let mut doubt = |what: String, why: String| doubts.push(NotChecked { what, why });
    let tracer = &evidence.tracer;
    if tracer.lost > 0 {
        doubt(
            format!("{} drops", tracer.lost),
            "they happened while the tracer was at work on the same CPU, and could not be counted; \
             counters may know of them"
                .into(),
        );
    }
    if tracer.spilled > 0 {
        doubt(
            format!("where {} drops happened", tracer.spilled),
            "there were more kinds of drops than the tracer's table holds; these were counted by reason \
             only"
                .into(),
        );
    }
    if tracer.reasons.is_empty() && !tracer.totals.is_empty() {
        doubt(
            "the reasons of drops".into(),
            "this kernel gives none, as Linux does since 5.17: causes are told by call site and by what \
             was counted beside, or stay open"
                .into(),
        );
    }
    if evidence.window.interrupted {
        doubt(
            "the whole window".into(),
            format!("it was ended after {:.1} s by a signal", evidence.window.seconds),
        );
    }
    for entry in entries.iter().filter(|entry| disagrees(entry)) {
        let place = entry.site.object.as_deref().or(entry.site.device.as_deref());
        doubt(
            format!("how many packets {} lost{}", entry.cause, at(place)),
            format!(
                "the tracer saw {}, the kernel's own counter {}: another cause may have the same \
                 signature",
                entry.traced, entry.counted
            ),
        );
    }
    doubts
}

fn at(place: Option<&str>) -> String {
    place.map_or(String::new(), |place| format!(" at {place}"))
}

/// The trace is far above a counter that should have seen every one of these packets. The other way
/// round is no conflict: some of what counters count is never traced.
fn disagrees(entry: &LedgerEntry) -> bool {
    entry.counted > 0 && entry.packets > 0 && entry.traced > entry.counted.saturating_mul(DISAGREE)
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_kernel_without_reasons_is_told() {
        let mut evidence = sample::evidence();
        evidence.tracer.reasons.clear();
        let doubts = |evidence: &whydrop_model::Evidence| {
            diagnose(evidence, &Thresholds::default()).not_checked
        };
        assert_eq!(doubts(&evidence), [], "nothing was dropped");
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "nf_hook_slow", 1)];
        assert_eq!(doubts(&evidence)[0].what, "the reasons of drops");
    }

    #[test]
    fn a_trace_far_above_its_counter_is_told() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.RcvbufErrors", 10);
        let traced =
            |packets| vec![sample::total("SOCKET_RCVBUFF", "udp_queue_rcv_one_skb", packets)];
        evidence.tracer.totals = traced(15);
        let doubts = |evidence: &whydrop_model::Evidence| {
            diagnose(evidence, &Thresholds::default()).not_checked
        };
        assert_eq!(doubts(&evidence), []);
        evidence.tracer.totals = traced(90);
        let told = doubts(&evidence);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].why.contains("saw 90, the kernel's own counter 10"), "{told:?}");
    }

    #[test]
    fn what_the_tracer_missed_is_told() {
        let mut evidence = sample::evidence();
        evidence.tracer.lost = 3;
        evidence.tracer.spilled = 4;
        evidence.window.interrupted = true;
        let told = diagnose(&evidence, &Thresholds::default()).not_checked;
        let what: Vec<_> = told.iter().map(|doubt| doubt.what.as_str()).collect();
        assert_eq!(what, ["3 drops", "where 4 drops happened", "the whole window"]);
    }
}
