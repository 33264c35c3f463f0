//! What in a namespace's packet filter may end a packet, and what its counters say.
//!
//! Rules of `iptables-nft` are nftables to the kernel and to this. Those of `iptables-legacy` are told
//! apart: the kernel drops for them at another place.

use whydrop_model::{Chain, Namespace, Pair, Rule, RuleVerdict};

/// Something in a ruleset that ends packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropper<'e> {
    /// The chain.
    pub(crate) chain: &'e Chain,
    /// The rule; `None` for the chain's policy.
    pub(crate) rule: Option<&'e Rule>,
    /// Packets it counted in the window; `None` if nothing counts them.
    pub(crate) counted: Option<u64>,
    /// It is one of iptables-legacy.
    legacy: bool,
}

/// Everything in the namespace's nftables ruleset that may drop or reject a packet.
pub(crate) fn droppers(namespace: &Namespace) -> Vec<Dropper<'_>> {
    dropping(live_chains(namespace), false)
}

/// Likewise in its tables of iptables-legacy.
pub(crate) fn legacy_droppers(namespace: &Namespace) -> Vec<Dropper<'_>> {
    dropping(namespace.legacy_chains.iter(), true)
}

/// Rules of both kinds with such a verdict, in chains that packets may enter.
pub(crate) fn rules(
    namespace: &Namespace,
    wanted: impl Fn(&RuleVerdict) -> bool,
) -> Vec<Dropper<'_>> {
    let mut found = of_chains(live_chains(namespace), false, &wanted);
    found.extend(of_chains(namespace.legacy_chains.iter(), true, &wanted));
    found
}

fn dropping<'e>(chains: impl Iterator<Item = &'e Chain> + Clone, legacy: bool) -> Vec<Dropper<'e>> {
    let drops = |verdict: &RuleVerdict| matches!(verdict, RuleVerdict::Drop | RuleVerdict::Reject);
    let mut found = of_chains(chains.clone(), legacy, &drops);
    found.extend(chains.filter_map(|chain| {
        let hook = chain.hook.as_ref().filter(|hook| hook.policy_drop)?;
        Some(Dropper { chain, rule: None, counted: hook.policy_packets.map(Pair::delta), legacy })
    }));
    found
}

fn of_chains<'e>(
    chains: impl Iterator<Item = &'e Chain>,
    legacy: bool,
    wanted: &impl Fn(&RuleVerdict) -> bool,
) -> Vec<Dropper<'e>> {
    let mut found = Vec::new();
    for chain in chains {
        let fitting = chain.rules.iter().filter(|rule| rule.verdicts.iter().any(wanted));
        found.extend(fitting.map(|rule| Dropper {
            chain,
            rule: Some(rule),
            counted: rule.packets.map(Pair::delta),
            legacy,
        }));
    }
    found
}

fn live_chains(namespace: &Namespace) -> impl Iterator<Item = &Chain> + Clone {
    let chains = namespace.netfilter.iter().flat_map(|netfilter| &netfilter.chains);
    chains.filter(|chain| !chain.dormant)
}

impl Dropper<'_> {
    /// What it is, where, and its text.
    pub(crate) fn name(&self) -> String {
        let Chain { family, table, name, .. } = self.chain;
        let family = if self.legacy { self.program() } else { family };
        match self.rule {
            Some(rule) => {
                format!("rule {} of {family} {table} {name}: {}", rule.handle, rule.text)
            }
            None => format!("policy of chain {family} {table} {name}: drop"),
        }
    }

    /// The command that takes it out of the ruleset in force.
    pub(crate) fn removal(&self) -> String {
        let Chain { family, table, name, .. } = self.chain;
        match self.rule {
            _ if self.legacy => {
                let change = self.rule.map_or_else(
                    || format!("-P {name} ACCEPT"),
                    |rule| format!("-D {name} {}", rule.handle),
                );
                format!("{} -t {table} {change}", self.program())
            }
            Some(rule) => format!("nft delete rule {family} {table} {name} handle {}", rule.handle),
            None => format!("nft chain {family} {table} {name} '{{ policy accept; }}'"),
        }
    }

    /// What changes it, if it is one of iptables-legacy.
    fn program(&self) -> &'static str {
        if self.chain.family == "ip6" { "ip6tables-legacy" } else { "iptables-legacy" }
    }

    /// True if it drops packets for one thing only: that connection tracking calls them INVALID.
    pub(crate) fn drops_invalid(&self) -> bool {
        let Some(rule) = self.rule else { return false };
        let Some((_, state)) = rule.text.split_once("ct state ") else { return false };
        // A list such as `invalid,untracked` lets the comma follow at once.
        state == "invalid" || state.starts_with("invalid ") || {
            let map = state.strip_prefix("vmap {").and_then(|map| map.split_once('}'));
            map.is_some_and(|(map, _)| {
                let drops = |pair: &str| pair.trim().ends_with(": drop");
                let mut dropped = map.split(',').filter(|pair| drops(pair));
                dropped.next().is_some_and(|pair| pair.trim().starts_with("invalid"))
                    && dropped.next().is_none()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_invalid_packets_alone_drops_invalid_ones() {
        let chain = Chain::default();
        let drops_invalid = |text: &str| {
            let rule = Rule { text: text.into(), ..Rule::default() };
            Dropper { chain: &chain, rule: Some(&rule), counted: None, legacy: false }
                .drops_invalid()
        };
        for text in [
            "ct state invalid counter drop",
            "iifname \"eth0\" ct state invalid drop",
            "ct state vmap { established : accept, related : accept, invalid : drop }",
            "ct state vmap { invalid : drop, established : accept }",
        ] {
            assert!(drops_invalid(text), "{text}");
        }
        for text in [
            "ct state invalid,new drop",
            "ct state new drop",
            "ct state vmap { established : accept, invalid : drop, new : drop }",
            "ct state vmap { invalid : accept, new : drop }",
            "udp dport 9000 drop",
        ] {
            assert!(!drops_invalid(text), "{text}");
        }
        assert!(
            !Dropper { chain: &chain, rule: None, counted: None, legacy: false }.drops_invalid()
        );
    }
}
