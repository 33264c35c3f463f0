//! A rule drops what connection tracking calls INVALID.
//!
//! `nf_conntrack_in` (`net/netfilter/nf_conntrack_core.c`, 6.18) counts such a packet as
//! `nf_conntrack.invalid` and lets it pass; only a rule that asks for the state drops it. Look-alikes:
//! invalid packets that no rule asks for are not lost, and a rule that drops something else as well
//! says nothing about why.

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity,
};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::firewall::{self, Dropper};
use crate::rule::Rule;
use crate::signature::drops;
use crate::{command, traced};

/// See the module.
pub(super) struct ConntrackInvalidDrop;

const ID: &str = "conntrack-invalid-drop";
const COUNTER: &str = "nf_conntrack.invalid";

impl Rule for ConntrackInvalidDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let invalid = namespace.delta(COUNTER).unwrap_or(0);
            if invalid > 0 {
                by_nftables(case, namespace, invalid);
                by_legacy(case, namespace, invalid);
            }
        }
    }
}

fn by_nftables(case: &mut Case<'_>, namespace: &Namespace, invalid: u64) {
    let droppers = firewall::droppers(namespace);
    let (ours, others): (Vec<_>, Vec<_>) = droppers.into_iter().partition(Dropper::drops_invalid);
    let counted_by = |them: &[Dropper<'_>]| them.iter().filter_map(|one| one.counted).sum::<u64>();
    let mut left = invalid;
    for dropper in ours.iter().filter(|one| one.counted.is_some()) {
        let most = dropper.counted.unwrap_or(0).min(left);
        left -= conclude(case, namespace, ("nft_do_chain", Some(dropper)), most);
    }
    // Without a counter of its own: what others did not count, if no other comes into question.
    let mut silent = ours.iter().filter(|one| one.counted.is_none());
    if let (Some(dropper), None) = (silent.next(), silent.next()) {
        let open = open(case, namespace, "nft_do_chain");
        let most = open.saturating_sub(counted_by(&others)).min(left);
        conclude(case, namespace, ("nft_do_chain", Some(dropper)), most);
    }
}

/// Where rules of iptables-legacy could not be read, that one of them is meant can only be seen if it
/// dropped as many as were invalid.
fn by_legacy(case: &mut Case<'_>, namespace: &Namespace, invalid: u64) {
    if !namespace.legacy_chains.is_empty() {
        let mut left = invalid;
        for dropper in firewall::legacy_droppers(namespace).iter().filter(|it| it.drops_invalid()) {
            let most = dropper.counted.unwrap_or(0).min(left);
            left -= conclude(case, namespace, ("nf_hook_slow", Some(dropper)), most);
        }
        return;
    }
    let open = open(case, namespace, "nf_hook_slow");
    if !namespace.legacy_tables.is_empty() && open > 0 && open == invalid {
        conclude(case, namespace, ("nf_hook_slow", None), open);
    }
}

fn is_here(namespace: &Namespace, symbol: &'static str) -> impl Fn(&DropTotal) -> bool {
    let signature = drops("NETFILTER_DROP", symbol);
    let inode = namespace.inode;
    move |total| total.netns == Some(inode) && signature.matches(total)
}

fn open(case: &Case<'_>, namespace: &Namespace, symbol: &'static str) -> u64 {
    let here = is_here(namespace, symbol);
    case.open().filter(|claim| here(claim.total)).map(|claim| claim.packets).sum()
}

/// Concludes for at most so many packets, and gives how many they were.
fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    (symbol, dropper): (&'static str, Option<&Dropper<'_>>),
    most: u64,
) -> u64 {
    let claims = case.claim_up_to(most, is_here(namespace, symbol));
    let packets = packets(&claims);
    for group in traced::gather(case, claims) {
        let name = dropper.map_or_else(|| "a rule of iptables-legacy".to_owned(), Dropper::name);
        let mut evidence = group.proof();
        evidence.extend(group.counters(&[COUNTER]));
        let counted = dropper.and_then(|dropper| dropper.counted);
        if let Some(counted) = counted {
            let counter = format!("packets of {name}");
            evidence.push(EvidenceItem::new(EvidenceKind::Counter, counter, counted));
        }
        let list = match dropper {
            Some(_) => "conntrack -S",
            None => "iptables-legacy -L -v -n -x --line-numbers",
        };
        let conclusion = Conclusion {
            variant: None,
            severity: Severity::Notice,
            confidence: match (counted, dropper) {
                (Some(_), _) => Confidence::Confirmed,
                (None, Some(_)) => Confidence::Likely,
                (None, None) => Confidence::Possible,
            },
            loss: Loss { packets, traced: packets, counted: counted.map_or(0, |it| it.min(packets)) },
            site: group.site(case, Some(name.clone())),
            summary: format!(
                "Packets to {} belong to no connection that conntrack knows, so the firewall drops them \
                 as INVALID: {name}",
                group.targets()
            ),
            evidence,
            remedies: vec![Remedy {
                summary: "Let both directions of these connections cross this host (asymmetric route, \
                          bypass, offload). Where the path is one-sided by design, set \
                          net.netfilter.nf_conntrack_tcp_be_liberal=1 here, or exempt it with `notrack`; \
                          net.netfilter.nf_conntrack_log_invalid=6 logs what is wrong with each packet"
                    .into(),
                commands: command::within(namespace, list).into_iter().collect(),
                useless: vec![
                    "net.netfilter.nf_conntrack_max and its timeouts: the table has room".into(),
                ],
            }],
        };
        case.conclude(ID, conclusion);
    }
    packets
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Chain, Evidence, Netfilter, Pair, Rule, RuleVerdict};

    use crate::{Thresholds, diagnose, sample};

    fn dropping(handle: u64, text: &str, counted: Option<u64>) -> Rule {
        Rule {
            handle,
            text: text.into(),
            verdicts: vec![RuleVerdict::Drop],
            packets: counted.map(|after| Pair { before: 0, after }),
            ..Rule::default()
        }
    }

    fn evidence(dropped: u64, invalid: u64, rules: Vec<Rule>) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nft_do_chain", dropped)];
        sample::count(&mut evidence, super::COUNTER, invalid);
        let chain = Chain { rules, ..Chain::default() };
        evidence.namespaces[0].netfilter =
            Some(Netfilter { chains: vec![chain], ..Netfilter::default() });
        evidence
    }

    fn told(evidence: &Evidence) -> Vec<(String, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        report.findings.into_iter().map(|one| (one.cause, one.packets)).collect()
    }

    const INVALID: &str = "ct state invalid counter drop";

    #[test]
    fn what_the_rule_counted_was_invalid_the_rest_is_another_rule() {
        let rules = vec![dropping(4, INVALID, Some(40)), dropping(5, "drop", None)];
        let told = told(&evidence(70, 45, rules));
        assert_eq!(told, [(super::ID.into(), 40), ("netfilter-rule-drop".into(), 30)]);
    }

    #[test]
    fn without_a_counter_what_others_did_not_count_was_invalid() {
        let rules = vec![
            dropping(4, "ct state vmap { invalid : drop, established : accept }", None),
            dropping(5, "udp dport 53 counter drop", Some(30)),
        ];
        let told = told(&evidence(70, 60, rules));
        assert_eq!(told, [(super::ID.into(), 40), ("netfilter-rule-drop".into(), 30)]);
    }

    #[test]
    fn invalid_packets_that_no_rule_asks_for_pass() {
        let told = told(&evidence(70, 45, vec![dropping(5, "udp dport 53 drop", Some(70))]));
        assert_eq!(told, [("netfilter-rule-drop".into(), 70)]);
    }

    #[test]
    fn a_legacy_rule_is_only_suspected_if_it_dropped_what_was_invalid() {
        let mut evidence = evidence(0, 60, Vec::new());
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nf_hook_slow", 60)];
        evidence.namespaces[0].legacy_tables = vec!["ip filter".into()];
        assert_eq!(told(&evidence), [(super::ID.into(), 60)]);
        sample::count(&mut evidence, super::COUNTER, 59);
        assert_eq!(told(&evidence), [("netfilter-rule-drop".into(), 60)]);
    }
}
