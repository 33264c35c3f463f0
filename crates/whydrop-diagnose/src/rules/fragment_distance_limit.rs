//! Other fragments of the same sender came between those of a datagram: more than
//! `net.ipv4.ipfrag_max_dist` allows.
//!
//! The kernel counts the fragments of each sender and gives a datagram up when too many of others came
//! since its last one, for fear that the 16 bits of its id were used again (`ip_frag_too_far()`,
//! `net/ipv4/ip_fragment.c`, 6.18). What was there is freed as `FRAG_TOO_FAR` in
//! `inet_frag_rbtree_purge`, where fragments do not tell their namespace any more; `Ip.ReasmFails` counts
//! the datagram, beyond those that timed out or overlapped.

use whydrop_model::{
    Attach, Confidence, DropTotal, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site,
};

use crate::case::{self, Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::{command, share};

/// See the module.
pub(super) struct FragmentDistanceLimit;

const ID: &str = "fragment-distance-limit";
const REASON: &str = "FRAG_TOO_FAR";
const SETTING: &str = "net.ipv4.ipfrag_max_dist";

impl Rule for FragmentDistanceLimit {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let traced = case::packets(&case.claim(|total| total.reason == REASON));
        // Watching a few namespaces, the tracer shows nothing that does not tell where it was.
        let all_seen = evidence.scope.netns.is_empty() && evidence.tracer.attach != Attach::None;
        let known = evidence.tracer.knows_reason(REASON);
        let given_up: Vec<_> =
            case.namespaces().iter().map(|here| (here, given_up(case, here))).collect();
        let parts = share::split(traced, given_up.iter().copied());
        for (namespace, datagrams) in given_up {
            let part = parts.iter().find(|(here, _)| here.inode == namespace.inode);
            let fragments = part.map_or(0, |(_, packets)| *packets);
            if datagrams > 0 && (fragments > 0 || (known && !all_seen)) {
                conclude(case, Some(namespace), fragments, datagrams);
            }
        }
        if traced > 0 && parts.is_empty() {
            conclude(case, None, traced, 0);
        }
    }
}

/// Datagrams that failed neither by time nor by overlap nor for want of memory.
fn given_up(case: &Case<'_>, namespace: &Namespace) -> u64 {
    let distance = namespace.sysctl(SETTING);
    if distance.is_some_and(|distance| distance <= 0) {
        return 0;
    }
    let refused = |total: &&DropTotal| {
        let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
        total.netns == Some(namespace.inode)
            && total.reason == "NOT_SPECIFIED"
            && symbol == "ip_defrag"
    };
    let totals = case.evidence().tracer.totals.iter().filter(refused);
    let refused: u64 = totals.map(|total| total.packets).sum();
    let grown = |counter| namespace.delta(counter).unwrap_or(0);
    grown("Ip.ReasmFails").saturating_sub(grown("Ip.ReasmTimeout")).saturating_sub(refused)
}

fn conclude(case: &mut Case<'_>, namespace: Option<&Namespace>, fragments: u64, datagrams: u64) {
    let mut evidence = Vec::new();
    if fragments > 0 {
        evidence.push(EvidenceItem::new(EvidenceKind::Tracer, REASON, fragments));
    }
    if datagrams > 0 {
        let name = "Ip.ReasmFails, without timeouts and overlaps";
        evidence.push(EvidenceItem::new(EvidenceKind::Counter, name, datagrams));
    }
    let distance = namespace.and_then(|here| here.sysctl(SETTING));
    if let Some(distance) = distance {
        evidence.push(EvidenceItem::new(EvidenceKind::State, SETTING, distance.to_string()));
    }
    let command =
        namespace.and_then(|here| command::within(here, &format!("sysctl -w {SETTING}=0")));
    let both = fragments > 0 && datagrams > 0;
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Warning,
        confidence: if both { Confidence::Confirmed } else { Confidence::Likely },
        // Fragments, where they were seen; otherwise datagrams, of which each had at least one.
        loss: Loss { packets: fragments.max(datagrams), traced: fragments, counted: datagrams },
        site: Site {
            object: Some(SETTING.into()),
            ..case.site_of(namespace.map(|here| here.inode))
        },
        summary: format!(
            "Datagrams are given up because more than {} other fragments of the same sender came between \
             theirs ({SETTING})",
            distance.map_or("some".into(), |distance| distance.to_string())
        ),
        evidence,
        remedies: vec![Remedy {
            summary: format!(
                "Set {SETTING}=0 (no limit) or higher where one sender has many fragmented datagrams on \
                 the way at once (a NAT, a resolver, parallel paths). The limit guards against ids that \
                 are used again: with it off, lower net.ipv4.ipfrag_time at high rates"
            ),
            commands: command.into_iter().collect(),
            useless: vec!["net.ipv4.ipfrag_high_thresh: memory was not short".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::Evidence;

    use crate::{Thresholds, diagnose, sample};

    fn failed(fails: u64, timeouts: u64) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.ReasmFails", fails);
        sample::count(&mut evidence, "Ip.ReasmTimeout", timeouts);
        let sysctls = &mut evidence.namespaces[0].sysctls;
        sysctls.insert(super::SETTING.into(), "64".into());
        evidence.tracer.reasons = vec![super::REASON.into()];
        evidence
    }

    fn told(evidence: &Evidence) -> Vec<(String, u64, bool)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        let told = report.findings.into_iter();
        told.map(|one| (one.cause, one.packets, one.site.netns.is_some())).collect()
    }

    #[test]
    fn fragments_without_a_namespace_belong_where_datagrams_failed() {
        let mut evidence = failed(30, 0);
        let mut far = sample::total(super::REASON, "inet_frag_rbtree_purge", 59);
        far.netns = None;
        evidence.tracer.totals = vec![far];
        assert_eq!(told(&evidence), [(super::ID.into(), 59, true)]);
        evidence.namespaces[0].sysctls.insert(super::SETTING.into(), "0".into());
        assert_eq!(told(&evidence), [(super::ID.into(), 59, false)], "not here, for it is off");
    }

    #[test]
    fn in_a_chosen_namespace_the_counter_alone_tells() {
        let timed_out = |packets| ("fragment-timeout".to_owned(), packets, true);
        let mut evidence = failed(30, 10);
        assert_eq!(told(&evidence), [timed_out(10)], "the tracer would have seen it");
        evidence.scope.netns = vec!["b".into()];
        assert_eq!(told(&evidence), [(super::ID.into(), 20, true), timed_out(10)]);
        let mut evidence = failed(30, 30);
        evidence.scope.netns = vec!["b".into()];
        assert_eq!(told(&evidence), [timed_out(30)], "time ran out for all of them");
    }
}
