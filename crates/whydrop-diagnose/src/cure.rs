//! What would help against each fault: one change, sized by what was measured, or words on whose
//! turn it is.
//!
//! Pure like the rules: a cure is a function of the evidence and of one finding, and nothing is
//! changed here. Each kind of change has a file in `cure/`; a finding without one is handed to the
//! operator with the remedy of its rule.

mod accept_queue;
mod card;
mod fragments;
mod links;
mod neighbours;
mod path_mtu;
mod queues;
mod receive_buffer;
mod routing;
mod shortage;
mod stack;
mod syn_queue;
pub mod trial;

use whydrop_model::{
    Answer, Class, Cure, Evidence, EvidenceItem, EvidenceKind, Finding, Handover, Namespace,
    NetnsRef, Report, Target, Write,
};

use crate::thresholds::Thresholds;

/// Answers a finding; `None` if what is known does not suffice for a change.
type Kind = fn(&Patient<'_>) -> Option<Answer>;

/// The causes for which a change can be proposed.
const KINDS: &[(&str, Kind)] = &[
    ("accept-queue-full", accept_queue::answer),
    ("conntrack-table-full", stack::conntrack),
    ("cpu-backlog-full", stack::cpu_backlog),
    ("cpu-starvation", shortage::starved),
    ("fragment-memory-limit", fragments::answer),
    ("interface-down", links::interface_down),
    ("ip-forwarding-disabled", routing::forwarding),
    ("link-down", links::link_down),
    ("link-mtu-mismatch", links::mtu),
    ("neighbour-queue-full", neighbours::queue),
    ("neighbour-table-full", neighbours::table),
    ("nic-irq-imbalance", card::imbalance),
    ("nic-rx-ring-overrun", card::overrun),
    ("pmtu-blackhole", path_mtu::black_hole),
    ("qdisc-limit-reached", queues::limit),
    ("reverse-path-filter", routing::reverse_path),
    ("syn-queue-full", syn_queue::answer),
    ("udp-receive-buffer-full", receive_buffer::answer),
];

/// The answers to all faults of a report, in its order. The report must be that of the evidence, by the
/// same thresholds. A fault without packets follows from another one, and gets no answer of its own.
#[must_use]
pub fn cures(evidence: &Evidence, report: &Report, thresholds: &Thresholds) -> Vec<Cure> {
    let faults = report.findings.iter().filter(|finding| finding.class == Class::Fault);
    let faults = faults.filter(|finding| finding.packets > 0);
    faults.map(|finding| cure(evidence, finding, thresholds)).collect()
}

/// The causes against which a change may be proposed.
pub fn causes() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(cause, _)| *cause)
}

fn cure(evidence: &Evidence, finding: &Finding, thresholds: &Thresholds) -> Cure {
    let kind = KINDS.iter().find(|(cause, _)| *cause == finding.cause);
    let inode = finding.site.netns.as_ref().and_then(|netns| netns.inode);
    let namespace = inode.and_then(|inode| evidence.namespace(inode));
    let patient = namespace.map(|namespace| Patient { evidence, namespace, finding, thresholds });
    // What follows from another cause needs no change of its own.
    let patient = patient.filter(|_| finding.follows.is_none());
    let answer = kind.zip(patient).and_then(|((_, answer), patient)| answer(&patient));
    Cure {
        cause: finding.cause.clone(),
        variant: finding.variant.clone(),
        packets: finding.packets,
        site: finding.site.clone(),
        answer: answer.unwrap_or_else(|| Answer::Operator(handover(finding))),
    }
}

/// The rule's own remedy.
fn handover(finding: &Finding) -> Handover {
    let remedies = &finding.remedies;
    let words: Vec<_> = remedies.iter().map(|remedy| remedy.summary.as_str()).collect();
    Handover {
        advice: words.join(". "),
        commands: remedies.iter().flat_map(|remedy| remedy.commands.clone()).collect(),
        left_out: left_out(finding),
    }
}

/// What the rule says would be in vain.
fn left_out(finding: &Finding) -> Vec<String> {
    finding.remedies.iter().flat_map(|remedy| remedy.useless.clone()).collect()
}

/// A finding with what is known about its place.
struct Patient<'e> {
    evidence: &'e Evidence,
    namespace: &'e Namespace,
    finding: &'e Finding,
    thresholds: &'e Thresholds,
}

impl<'e> Patient<'e> {
    fn variant(&self) -> &'e str {
        self.finding.variant.as_deref().unwrap_or_default()
    }

    /// The namespace as reports name it.
    fn netns(&self) -> NetnsRef {
        reference(self.namespace)
    }

    /// A sysctl of this namespace to be written.
    fn sysctl(&self, name: impl Into<String>, new: u64) -> Write {
        sysctl(self.namespace, name, new)
    }

    /// A setting of a device as a number: where it is that of all devices, only that is among the
    /// evidence.
    fn device_setting(&self, family: &str, group: &str, device: &str, name: &str) -> Option<u64> {
        let device = device.replace('.', "/");
        let general = if group == "neigh" { "default" } else { "all" };
        let value = |of: &str| self.namespace.sysctl(&format!("net.{family}.{group}.{of}.{name}"));
        value(&device).or_else(|| value(general)).and_then(|value| u64::try_from(value).ok())
    }

    /// Mean `skb->len` of drops for this reason in the namespace; `None` if none was traced.
    fn mean_length(&self, reason: &str) -> Option<u64> {
        let totals = self.evidence.tracer.totals.iter();
        let these = totals
            .filter(|total| total.reason == reason && total.netns == Some(self.namespace.inode));
        let (bytes, packets) = these
            .fold((0, 0), |(bytes, packets), total| (bytes + total.bytes, packets + total.packets));
        u64::checked_div(bytes, packets)
    }

    /// Growth of a counter of the namespace.
    fn grown(&self, counter: &str) -> u64 {
        self.namespace.delta(counter).unwrap_or(0)
    }

    /// Length of the window in seconds, for rates.
    fn seconds(&self) -> f64 {
        self.evidence.window.seconds.max(0.001)
    }

    /// The namespace that keeps the settings of the host as a whole: whydrop's own.
    fn host(&self) -> Option<&'e Namespace> {
        self.evidence.namespaces.iter().find(|namespace| namespace.own)
    }
}

fn reference(namespace: &Namespace) -> NetnsRef {
    NetnsRef { inode: Some(namespace.inode), name: namespace.name.clone() }
}

/// A sysctl to be written.
fn sysctl(namespace: &Namespace, name: impl Into<String>, new: u64) -> Write {
    let name = name.into();
    let old = namespace.sysctls.get(&name).cloned();
    Write {
        netns: reference(namespace),
        target: Target::Sysctl { name },
        old,
        new: new.to_string(),
    }
}

/// Something measured.
fn measured(name: impl Into<String>, value: u64) -> EvidenceItem {
    EvidenceItem::new(EvidenceKind::State, name, value)
}

/// With half of it again, which is how much larger than needed a size is proposed.
pub(crate) fn with_half(number: u64) -> u64 {
    number.saturating_add(number / 2)
}

/// Rounds up to a number with two significant bits: precise enough for a setting.
pub(crate) fn rounded_up(number: u64) -> u64 {
    let step = 1_u64 << number.max(1).ilog2().saturating_sub(2);
    number.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use whydrop_model::Answer;

    use super::{KINDS, cures, rounded_up};
    use crate::{Thresholds, causes, diagnose, sample};

    #[test]
    fn kinds_are_sorted_faults() {
        assert!(KINDS.is_sorted_by_key(|(cause, _)| *cause));
        for (id, _) in KINDS {
            let cause = causes::find(id).expect("a cause");
            assert_eq!(cause.class, whydrop_model::Class::Fault, "{id}");
        }
    }

    #[test]
    fn a_fault_without_a_cure_of_its_own_is_handed_over() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.ListenDrops", 5);
        let report = diagnose(&evidence, &Thresholds::default());
        let cures = cures(&evidence, &report, &Thresholds::default());
        assert_eq!(cures[0].cause, "listen-drop-other");
        assert!(matches!(&cures[0].answer, Answer::Operator(to) if !to.advice.is_empty()));
    }

    #[test]
    fn rounding_goes_up_by_less_than_a_third() {
        for number in 1..10_000 {
            let rounded = rounded_up(number);
            assert!(rounded >= number && rounded * 3 < number * 4 + 3, "{number} -> {rounded}");
        }
    }
}
