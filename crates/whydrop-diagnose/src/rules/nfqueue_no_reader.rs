//! A rule hands packets to a program, and no program takes them.
//!
//! `nf_queue` (`net/netfilter/nf_queue.c`, 6.18) frees a packet, without a reason of its own, if its queue
//! has no reader and the rule does not say `bypass`, or if the queue is full. Which it was shows in
//! `/proc/net/netfilter/nfnetlink_queue`: a queue that is listed has a reader.

use whydrop_model::{Namespace, PacketQueue, RuleVerdict, Severity};

use crate::case::Case;
use crate::firewall::{self, Dropper};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct NfqueueNoReader;

const ID: &str = "nfqueue-no-reader";
const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "nf_queue"),
    drops("NOT_SPECIFIED", "__nf_queue"),
    drops("NOT_SPECIFIED", "nfqnl_*"),
];
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for NfqueueNoReader {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, SIGNATURES) {
            let full = group.namespace.and_then(overflowing);
            let rule = group.namespace.and_then(unread);
            let told = match (full, rule) {
                (Some(queue), None) => slow(queue),
                (_, rule) => absent(rule.as_deref()),
            };
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

/// The rule that sends to a queue that nobody reads; `None` if there is none or more than one.
fn unread(namespace: &Namespace) -> Option<String> {
    let number = |verdict: &RuleVerdict| match *verdict {
        RuleVerdict::Queue { number, bypass: false } => Some(u32::from(number)),
        _ => None,
    };
    let read = |number| namespace.packet_queues.iter().any(|queue| queue.number == number);
    let mut rules =
        firewall::rules(namespace, |verdict| number(verdict).is_some_and(|number| !read(number)))
            .into_iter();
    let first = rules.next()?;
    rules.next().is_none().then(|| Dropper::name(&first))
}

/// A queue whose reader is too slow.
fn overflowing(namespace: &Namespace) -> Option<&PacketQueue> {
    let lost = |queue: &&PacketQueue| {
        ["dropped", "user_dropped"]
            .iter()
            .any(|name| queue.stats.get(*name).is_some_and(|pair| pair.delta() > 0))
    };
    namespace.packet_queues.iter().find(lost)
}

fn absent(rule: Option<&str>) -> Told {
    Told {
        object: Some(rule.unwrap_or("a rule that queues to a program (NFQUEUE)").into()),
        summary: format!(
            "Packets are handed to a program that does not run, and dropped: {}",
            rule.unwrap_or("a rule queues them, and no program reads that queue")
        ),
        cure: "Start the program that should read the queue; add `bypass` (iptables: --queue-bypass) to \
               the rule if packets may pass uninspected while it is away"
            .into(),
        command: Some("cat /proc/net/netfilter/nfnetlink_queue".into()),
        useless: &["deleting the rule: it takes the inspection away with it"],
        ..Told::default()
    }
}

fn slow(queue: &PacketQueue) -> Told {
    let PacketQueue { number, port, .. } = queue;
    Told {
        object: Some(format!("queue {number} (NFQUEUE), read by netlink port {port}")),
        summary: format!(
            "The program that reads packet queue {number} (netlink port {port}, mostly its pid) is too \
             slow: the queue is full"
        ),
        cure: "Give the program more CPU, spread the traffic over several queues (`queue flags fanout to \
               0-3`), or let it make the queue longer (nfq_set_queue_maxlen)"
            .into(),
        command: Some("cat /proc/net/netfilter/nfnetlink_queue".into()),
        useless: &["net.core.rmem_max: the program sets its own socket buffer"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Chain, Evidence, Netfilter, PacketQueue, Pair, Rule, RuleVerdict};

    use crate::{Thresholds, diagnose, sample};

    fn queued(queues: Vec<PacketQueue>) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "nf_queue", 30)];
        let rule = Rule {
            handle: 4,
            text: "udp dport 53 queue num 5".into(),
            verdicts: vec![RuleVerdict::Queue { number: 5, bypass: false }],
            ..Rule::default()
        };
        let chain = Chain { name: "input".into(), rules: vec![rule], ..Chain::default() };
        evidence.namespaces[0].netfilter =
            Some(Netfilter { chains: vec![chain], ..Netfilter::default() });
        evidence.namespaces[0].packet_queues = queues;
        evidence
    }

    fn object(evidence: &Evidence) -> String {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.ledger.lost), (1, 30));
        assert_eq!(report.findings[0].cause, super::ID);
        report.findings[0].site.object.clone().unwrap_or_default()
    }

    #[test]
    fn a_queue_that_is_not_listed_has_no_reader() {
        assert!(object(&queued(Vec::new())).contains("udp dport 53 queue num 5"));
    }

    #[test]
    fn a_queue_that_is_listed_and_drops_is_full() {
        let mut queue = PacketQueue { number: 5, port: 77, ..PacketQueue::default() };
        queue.stats.insert("dropped".into(), Pair { before: 0, after: 30 });
        assert!(object(&queued(vec![queue])).starts_with("queue 5"));
    }
}
