//! A rule or the policy of a chain drops or rejects packets, as it was told to.
//!
//! nftables frees what it drops in `nft_do_chain` (`net/netfilter/nf_tables_core.c`, 6.18), whoever
//! wrote the rules: `nft`, `iptables-nft`, a firewall manager. Which rule it was shows in the rules'
//! counters; a rule without one can only be named if no other comes into question. What
//! iptables-legacy drops, on old kernels all of them, is freed in `nf_hook_slow`
//! (`net/netfilter/core.c`); so is what conntrack and NAT drop, which other rules take first.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, RuleVerdict, Severity,
};

use crate::case::{Case, Conclusion, Loss};
use crate::firewall::{self, Dropper};
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::Group;
use crate::{command, share, traced};

/// See the module.
pub(super) struct NetfilterRuleDrop;

const ID: &str = "netfilter-rule-drop";

impl Rule for NetfilterRuleDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, &[drops("NETFILTER_DROP", "nft_do_chain")]) {
            by_rules(case, &group, group.namespace.map(firewall::droppers).unwrap_or_default());
        }
        for group in traced::take(case, &[drops("NETFILTER_DROP", "*")]) {
            match group.namespace {
                Some(namespace) if !namespace.legacy_tables.is_empty() => {
                    let droppers = firewall::legacy_droppers(namespace);
                    if droppers.iter().any(|one| one.counted.is_some_and(|count| count > 0)) {
                        by_rules(case, &group, droppers);
                    } else {
                        by_legacy(case, &group, namespace);
                    }
                }
                here => by_rules(case, &group, here.map(firewall::droppers).unwrap_or_default()),
            }
        }
    }
}

fn by_rules(case: &mut Case<'_>, group: &Group<'_>, mut droppers: Vec<Dropper<'_>>) {
    // What packets lost to INVALID were counted by is told by a cause of its own.
    let invalid = group.namespace.and_then(|here| here.delta("nf_conntrack.invalid")).unwrap_or(0);
    droppers.retain(|one| invalid == 0 || !one.drops_invalid() || one.counted.is_none());
    let counted = |one: &Dropper<'_>| one.counted.unwrap_or(0);
    let all_count = droppers.iter().all(|one| one.counted.is_some());
    let sum: u64 = droppers.iter().map(counted).sum();
    // Counters are read a moment before and after the tracer, so they need not add up exactly. Where
    // something drops without counting, the difference is its; else it is that moment's.
    let exact = all_count && sum > 0;
    let share = if exact || sum > group.packets { group.packets } else { sum };
    let parts = share::split(share, droppers.iter().map(|one| (one, counted(one))));
    for (dropper, packets) in &parts {
        conclude(case, group, Some(dropper), *packets, Confidence::Confirmed);
    }
    let left = group.packets - parts.iter().map(|(_, packets)| packets).sum::<u64>();
    if left > 0 {
        let mut uncounted = droppers.iter().filter(|one| one.counted.is_none());
        // The only one that comes into question must have been it.
        let only = uncounted.next().filter(|_| uncounted.next().is_none());
        conclude(case, group, only, left, Confidence::Likely);
    }
}

/// Rules of iptables-legacy that could not be read, or that did not count these packets.
fn by_legacy(case: &mut Case<'_>, group: &Group<'_>, namespace: &Namespace) {
    let tables = namespace.legacy_tables.join(", ");
    let is_port = |device: &&str| {
        let link = namespace.links.iter().find(|link| link.name == **device);
        link.is_some_and(|link| link.bridge_port.is_some())
    };
    let devices = group.devices();
    let bridged = !devices.is_empty() && devices.iter().all(is_port);
    // A policy drops whatever comes, a rule what it names.
    let one_port = group.ports().is_some_and(|ports| ports.parse::<u16>().is_ok());
    let conclusion = Conclusion {
        variant: if bridged { Some("bridge") } else { one_port.then_some("rule") },
        severity: Severity::Notice,
        confidence: Confidence::Likely,
        loss: Loss::traced(group.packets),
        site: group.site(case, Some(format!("iptables-legacy, tables {tables}"))),
        summary: format!(
            "iptables-legacy drops packets{}, as configured; which rule or policy it is could not be seen",
            if bridged { " on their way through a bridge" } else { "" }
        ),
        evidence: group.proof(),
        remedies: vec![Remedy {
            summary:
                "Look twice for the rule or policy whose counter grows. If the traffic is wanted, \
                      change it where the ruleset is kept"
                    .into(),
            commands: command::within(namespace, "iptables-legacy-save -c").into_iter().collect(),
            useless: vec!["flushing the ruleset: it opens the host and ends every NAT".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

fn variant(dropper: &Dropper<'_>) -> &'static str {
    match dropper.rule {
        _ if dropper.chain.family == "bridge" => "bridge",
        None => "chain-policy",
        Some(rule) if rule.limited => "rate-limit",
        Some(rule) if rule.verdicts.contains(&RuleVerdict::Reject) => "reject",
        Some(_) => "rule",
    }
}

fn conclude(
    case: &mut Case<'_>,
    group: &traced::Group<'_>,
    dropper: Option<&Dropper<'_>>,
    packets: u64,
    confidence: Confidence,
) {
    let name = dropper.map_or("a rule or policy without a counter".into(), Dropper::name);
    let mut evidence = group.proof();
    if let Some(counted) = dropper.and_then(|dropper| dropper.counted) {
        let counter = format!("packets of {name}");
        evidence.push(EvidenceItem::new(EvidenceKind::Counter, counter, counted));
    }
    let to = group.destinations().map(|to| format!(" to {to}")).unwrap_or_default();
    let within = |line: &str| group.namespace.and_then(|here| command::within(here, line));
    let commands = match dropper {
        Some(dropper) => within(&dropper.removal()),
        None => within("nft -a list ruleset"),
    };
    let conclusion = Conclusion {
        variant: dropper.map(variant),
        severity: Severity::Notice,
        confidence,
        loss: Loss {
            packets,
            traced: packets,
            counted: dropper.and_then(|dropper| dropper.counted).map_or(0, |count| count.min(packets)),
        },
        site: group.site(case, Some(name.clone())),
        summary: format!("The packet filter drops packets{to}, as configured: {name}"),
        evidence,
        remedies: vec![Remedy {
            summary: match dropper {
                Some(_) => "If this traffic is wanted, change it where the ruleset is kept (its own \
                            file, a firewall manager, a container runtime); the command only lasts until \
                            that is loaded again"
                    .into(),
                None => "Give the rules in question a `counter`, or trace one flow (`meta nftrace set 1`, \
                         `nft monitor trace`), to see which it is"
                    .into(),
            },
            commands: commands.into_iter().collect(),
            useless: vec!["flushing the ruleset: it opens the host and ends every NAT".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Chain, Evidence, Hook, Netfilter, Pair, Rule, RuleVerdict};

    use crate::{Thresholds, diagnose, sample};

    fn dropping(handle: u64, counted: Option<u64>) -> Rule {
        Rule {
            handle,
            text: format!("udp dport {handle} drop"),
            verdicts: vec![RuleVerdict::Drop],
            packets: counted.map(|after| Pair { before: 0, after }),
            ..Rule::default()
        }
    }

    fn dropped(packets: u64, rules: Vec<Rule>, policy_drop: bool) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nft_do_chain", packets)];
        let hook = Hook { name: "input".into(), policy_drop, ..Hook::default() };
        let chain = Chain {
            family: "inet".into(),
            table: "filter".into(),
            name: "input".into(),
            hook: Some(hook),
            rules,
            ..Chain::default()
        };
        evidence.namespaces[0].netfilter =
            Some(Netfilter { chains: vec![chain], ..Netfilter::default() });
        evidence
    }

    /// Packets and variant of each finding.
    fn told(evidence: &Evidence) -> Vec<(u64, Option<String>)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        assert!(report.findings.iter().all(|finding| finding.cause == super::ID));
        report.findings.into_iter().map(|one| (one.packets, one.variant)).collect()
    }

    #[test]
    fn each_rule_has_what_its_counter_says() {
        let evidence = dropped(70, vec![dropping(5, Some(40)), dropping(6, Some(30))], false);
        assert_eq!(told(&evidence), [(40, Some("rule".into())), (30, Some("rule".into()))]);
    }

    #[test]
    fn the_only_candidate_without_a_counter_is_it() {
        let evidence = dropped(70, vec![dropping(5, Some(40))], true);
        assert_eq!(told(&evidence), [(40, Some("rule".into())), (30, Some("chain-policy".into()))]);
    }

    #[test]
    fn a_rule_of_iptables_legacy_is_named_by_its_number() {
        let mut evidence = dropped(30, Vec::new(), false);
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nf_hook_slow", 30)];
        evidence.namespaces[0].legacy_tables = vec!["ip filter".into()];
        let unread = diagnose(&evidence, &Thresholds::default());
        assert_eq!(unread.findings[0].confidence, whydrop_model::Confidence::Likely);
        evidence.namespaces[0].legacy_chains = vec![Chain {
            family: "ip".into(),
            table: "filter".into(),
            name: "INPUT".into(),
            hook: Some(Hook { name: "input".into(), ..Hook::default() }),
            rules: vec![dropping(1, Some(0)), dropping(2, Some(30))],
            ..Chain::default()
        }];
        let report = diagnose(&evidence, &Thresholds::default());
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert_eq!(finding.confidence, whydrop_model::Confidence::Confirmed);
        let object = finding.site.object.as_deref();
        assert_eq!(object, Some("rule 2 of iptables-legacy filter INPUT: udp dport 2 drop"));
        assert_eq!(
            finding.remedies[0].commands,
            ["ip netns exec b iptables-legacy -t filter -D INPUT 2"]
        );
    }

    #[test]
    fn of_several_candidates_none_is_named() {
        let evidence = dropped(70, vec![dropping(5, None), dropping(6, None)], false);
        assert_eq!(told(&evidence), [(70, None)]);
    }

    #[test]
    fn a_rule_never_gets_more_than_was_dropped() {
        let evidence = dropped(10, vec![dropping(5, Some(40))], false);
        assert_eq!(told(&evidence), [(10, Some("rule".into()))]);
    }
}
