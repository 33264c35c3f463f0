//! A rule or the policy of a chain drops or rejects packets, as it was told to.
//!
//! nftables frees what it drops in `nft_do_chain` (`net/netfilter/nf_tables_core.c`, 6.18), whoever
//! wrote the rules: `nft`, `iptables-nft`, a firewall manager. Which rule it was shows in the rules'
//! counters; a rule without one can only be named if no other comes into question. What legacy
//! iptables, conntrack and NAT drop is freed elsewhere (`nf_hook_slow`) and left to others.

use whydrop_model::{
    Chain, Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Rule as NftRule, RuleVerdict,
    Severity,
};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::{command, traced};

/// See the module.
pub(super) struct NetfilterRuleDrop;

const ID: &str = "netfilter-rule-drop";
const SIGNATURES: &[Signature] = &[drops("NETFILTER_DROP", "nft_do_chain")];

/// Something in a ruleset that ends packets.
#[derive(Debug, Clone, Copy)]
struct Dropper<'e> {
    chain: &'e Chain,
    /// The rule; `None` for the chain's policy.
    rule: Option<&'e NftRule>,
    /// Packets it counted in the window; `None` if nothing counts them.
    counted: Option<u64>,
}

impl Rule for NetfilterRuleDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, SIGNATURES) {
            let droppers = group.namespace.map(droppers).unwrap_or_default();
            let mut left = group.packets;
            for dropper in &droppers {
                // A counter before a `limit` counts more than was dropped.
                let packets = dropper.counted.unwrap_or(0).min(left);
                left -= packets;
                if packets > 0 {
                    conclude(case, &group, Some(dropper), packets, Confidence::Confirmed);
                }
            }
            if left > 0 {
                let uncounted: Vec<_> =
                    droppers.iter().filter(|dropper| dropper.counted.is_none()).collect();
                // The only one that comes into question must have been it.
                let only = uncounted.first().copied().filter(|_| uncounted.len() == 1);
                conclude(case, &group, only, left, Confidence::Likely);
            }
        }
    }
}

/// Everything in the namespace's ruleset that may end a packet.
fn droppers(namespace: &Namespace) -> Vec<Dropper<'_>> {
    let Some(netfilter) = &namespace.netfilter else { return Vec::new() };
    let live = netfilter.chains.iter().filter(|chain| !chain.dormant);
    live.flat_map(|chain| {
        let ends = |rule: &&NftRule| {
            rule.verdicts.iter().any(|one| matches!(one, RuleVerdict::Drop | RuleVerdict::Reject))
        };
        let rules = chain.rules.iter().filter(ends).map(|rule| Dropper {
            chain,
            rule: Some(rule),
            counted: rule.packets.map(whydrop_model::Pair::delta),
        });
        let policy = chain.hook.as_ref().filter(|hook| hook.policy_drop).map(|hook| Dropper {
            chain,
            rule: None,
            counted: hook.policy_packets.map(whydrop_model::Pair::delta),
        });
        rules.chain(policy)
    })
    .collect()
}

impl Dropper<'_> {
    fn variant(&self) -> &'static str {
        match self.rule {
            _ if self.chain.family == "bridge" => "bridge",
            None => "chain-policy",
            Some(rule) if rule.limited => "rate-limit",
            Some(rule) if rule.verdicts.contains(&RuleVerdict::Reject) => "reject",
            Some(_) => "rule",
        }
    }

    fn name(&self) -> String {
        let Chain { family, table, name, .. } = self.chain;
        match self.rule {
            Some(rule) => {
                format!("rule {} of {family} {table} {name}: {}", rule.handle, rule.text)
            }
            None => format!("policy of chain {family} {table} {name}: drop"),
        }
    }

    fn change(&self) -> String {
        let Chain { family, table, name, .. } = self.chain;
        match self.rule {
            Some(rule) => format!("nft delete rule {family} {table} {name} handle {}", rule.handle),
            None => format!("nft chain {family} {table} {name} '{{ policy accept; }}'"),
        }
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
        Some(dropper) => within(&dropper.change()),
        None => within("nft -a list ruleset"),
    };
    let conclusion = Conclusion {
        variant: dropper.map(Dropper::variant),
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
