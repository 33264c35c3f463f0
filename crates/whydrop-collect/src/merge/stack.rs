//! Puts the two readings of qdiscs, filters, rules and queues together, object by object.
//!
//! In each reading only `after` of a pair is set. An object of which the earlier reading knows
//! nothing counts from zero; one that only the earlier reading knows is gone and left out.

use std::collections::BTreeMap;

use whydrop_model::{
    Chain, Counters, Filter, FilterAction, NeighbourTable, Netfilter, PacketQueue, Pair, Qdisc,
    Rule,
};

use super::counters_of;
use crate::collector::Facts;
use crate::stack::StackFacts;

/// Counters of 32 bits.
pub(crate) fn narrow_counters(before: Option<&Facts>, after: &mut Facts) -> Counters {
    let mut counters =
        named(before, after, |facts| &mut facts.narrow_counters, |facts| &facts.narrow_counters);
    for pair in counters.values_mut() {
        *pair = unwrap32(*pair);
    }
    counters
}

/// Levels at both ends.
pub(crate) fn gauges(before: Option<&Facts>, after: &mut Facts) -> Counters {
    named(before, after, |facts| &mut facts.gauges, |facts| &facts.gauges)
}

type Named = Vec<(String, u64)>;

fn named(
    before: Option<&Facts>,
    after: &mut Facts,
    taken: fn(&mut StackFacts) -> &mut Named,
    known: fn(&StackFacts) -> &Named,
) -> Counters {
    let before = before.into_iter().flat_map(|facts| known(&facts.stack));
    let before = before.map(|(name, value)| (name.as_str(), *value));
    counters_of(before, std::mem::take(taken(&mut after.stack)))
}

/// A counter of 32 bits: one that wrapped is continued beyond, one that was reset is left as it is.
fn unwrap32(pair: Pair) -> Pair {
    let Pair { before, mut after } = pair;
    if before.saturating_sub(after) > 1 << 31 && before < 1 << 32 {
        after += 1 << 32;
    }
    Pair { before, after }
}

/// Takes over what the counters were.
fn begin(before: &Counters, after: &mut Counters, narrow: &[&str]) {
    for (name, pair) in after {
        pair.before = before.get(name).map_or(0, |then| then.after);
        if narrow.contains(&name.as_str()) {
            *pair = unwrap32(*pair);
        }
    }
}

/// `struct gnet_stats_queue` and the kinds' own counters that are not of 64 bits.
const NARROW: [&str; 29] = [
    "drops",
    "overlimits",
    "requeues",
    "direct_pkts",
    "drop_overlimit",
    "drop_overmemory",
    "ecn_mark",
    "ce_mark",
    "early",
    "pdrop",
    "other",
    "marked",
    "new_flow_count",
    "earlydrop",
    "penaltydrop",
    "bucketdrop",
    "queuedrop",
    "childdrop",
    "tin_dropped_packets",
    "tin_ecn_marked_packets",
    "tin_ack_drops",
    "dropped",
    "overlimit",
    "overmemory",
    "matched",
    "hh_overlimit",
    "prob_drop",
    "forced_drop",
    "prob_mark",
];

/// Queueing disciplines and classes, in the later reading's order.
pub(crate) fn qdiscs(before: Option<&Facts>, after: &mut Facts) -> Vec<Qdisc> {
    let key = |it: &Qdisc| (it.ifindex, it.class, it.parent, it.handle, it.kind.clone());
    let before: BTreeMap<_, &Qdisc> =
        before.iter().flat_map(|facts| &facts.stack.qdiscs).map(|it| (key(it), it)).collect();
    let mut qdiscs = std::mem::take(&mut after.stack.qdiscs);
    for now in &mut qdiscs {
        if let Some(then) = before.get(&key(now)) {
            begin(&then.stats, &mut now.stats, &NARROW);
            now.qlen.before = then.qlen.after;
            now.backlog.before = then.backlog.after;
        }
    }
    qdiscs
}

/// Filters, in the later reading's order.
pub(crate) fn filters(before: Option<&Facts>, after: &mut Facts) -> Vec<Filter> {
    let key = |it: &Filter| {
        (it.ifindex, it.parent, it.priority, it.protocol, it.chain, it.handle, it.kind.clone())
    };
    let before: BTreeMap<_, &Filter> =
        before.iter().flat_map(|facts| &facts.stack.filters).map(|it| (key(it), it)).collect();
    let mut filters = std::mem::take(&mut after.stack.filters);
    for now in &mut filters {
        let Some(then) = before.get(&key(now)) else { continue };
        for action in &mut now.actions {
            let same =
                |then: &&FilterAction| (&then.kind, then.index) == (&action.kind, action.index);
            if let Some(then) = then.actions.iter().find(same) {
                begin(&then.stats, &mut action.stats, &NARROW);
            }
        }
    }
    filters
}

/// Chains and rules, in the later reading's order.
pub(crate) fn netfilter(before: Option<&Facts>, after: &mut Facts) -> Option<Netfilter> {
    let mut netfilter = after.stack.netfilter.take()?;
    let before = before.and_then(|facts| facts.stack.netfilter.as_ref());
    let handles = |rules: &[Rule]| rules.iter().map(|rule| rule.handle).collect();
    begin_chains(before.iter().flat_map(|it| &it.chains), &mut netfilter.chains, handles);
    Some(netfilter)
}

/// Those of iptables-legacy, likewise. A rule has no name, and its number changes with the rules before
/// it, so it is known by its text; of several that say the same, by which of them it is.
pub(crate) fn legacy_chains(before: Option<&Facts>, after: &mut Facts) -> Vec<Chain> {
    let mut chains = std::mem::take(&mut after.stack.legacy_chains);
    let before = before.iter().flat_map(|facts| &facts.stack.legacy_chains);
    let texts = |rules: &[Rule]| {
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        let keys = rules.iter().map(|rule| {
            let time = times.entry(&rule.text).or_default();
            *time += 1;
            (rule.text.clone(), *time)
        });
        keys.collect()
    };
    begin_chains(before, &mut chains, texts);
    chains
}

/// `names` gives each of a chain's rules something to know it by.
fn begin_chains<'f, K: Ord>(
    before: impl Iterator<Item = &'f Chain>,
    after: &mut [Chain],
    names: impl Fn(&[Rule]) -> Vec<K>,
) {
    let key = |it: &Chain| (it.family.clone(), it.table.clone(), it.name.clone(), it.handle);
    let before: BTreeMap<_, &Chain> = before.map(|chain| (key(chain), chain)).collect();
    for now in after {
        let Some(then) = before.get(&key(now)) else { continue };
        if let (Some(now), Some(then)) = (&mut now.hook, &then.hook) {
            begin_pair(then.policy_packets, &mut now.policy_packets);
        }
        let rules: BTreeMap<K, &Rule> = names(&then.rules).into_iter().zip(&then.rules).collect();
        let named = names(&now.rules);
        for (rule, name) in now.rules.iter_mut().zip(named) {
            if let Some(then) = rules.get(&name) {
                begin_pair(then.packets, &mut rule.packets);
                begin_pair(then.bytes, &mut rule.bytes);
            }
        }
    }
}

fn begin_pair(then: Option<Pair>, now: &mut Option<Pair>) {
    if let (Some(then), Some(now)) = (then, now) {
        now.before = then.after;
    }
}

/// Queues to programs.
pub(crate) fn packet_queues(before: Option<&Facts>, after: &mut Facts) -> Vec<PacketQueue> {
    let mut queues = std::mem::take(&mut after.stack.packet_queues);
    for now in &mut queues {
        let same = |then: &&PacketQueue| (then.number, then.port) == (now.number, now.port);
        let mut known = before.iter().flat_map(|facts| &facts.stack.packet_queues);
        if let Some(then) = known.find(same) {
            begin(&then.stats, &mut now.stats, &["dropped", "user_dropped"]);
            now.waiting.before = then.waiting.after;
        }
    }
    queues
}

/// Neighbour tables of the host. One that was not read at the beginning tells nothing.
pub(crate) fn neighbour_tables(before: &Facts, after: &mut Facts) -> Vec<NeighbourTable> {
    let mut tables = std::mem::take(&mut after.stack.neighbour_tables);
    tables.retain_mut(|now| {
        let then = before.stack.neighbour_tables.iter().find(|then| then.name == now.name);
        if let Some(then) = then {
            begin(&then.stats, &mut now.stats, &["unresolved_discards"]);
        }
        then.is_some()
    });
    tables
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Hook, TcHandle};

    use super::*;
    use crate::stack::at_this_moment;

    fn counted(name: &str, after: u64) -> Counters {
        Counters::from([(name.to_owned(), at_this_moment(after))])
    }

    fn facts(stack: StackFacts) -> Facts {
        Facts { stack, ..Facts::default() }
    }

    #[test]
    fn thirty_two_bits_wrap_and_resets_stay() {
        let wrapped = unwrap32(Pair { before: u64::from(u32::MAX) - 1, after: 3 });
        assert_eq!(wrapped.delta(), 5);
        let reset = Pair { before: 1000, after: 3 };
        assert_eq!(unwrap32(reset), reset);
        let wide = Pair { before: 1 << 40, after: 3 };
        assert_eq!(unwrap32(wide), wide, "never was of 32 bits");
        let of = |value| {
            let narrow_counters = vec![("nf_conntrack.drop".to_owned(), value)];
            facts(StackFacts { narrow_counters, ..StackFacts::default() })
        };
        let merged = narrow_counters(Some(&of(u64::from(u32::MAX))), &mut of(9));
        assert_eq!(merged["nf_conntrack.drop"].delta(), 10);
    }

    #[test]
    fn levels_of_both_ends() {
        let of = |value| {
            let gauges = vec![("sockstat.TCP.mem".to_owned(), value)];
            facts(StackFacts { gauges, ..StackFacts::default() })
        };
        let merged = gauges(Some(&of(9)), &mut of(4));
        assert_eq!(merged["sockstat.TCP.mem"], Pair { before: 9, after: 4 });
    }

    #[test]
    fn qdiscs_are_matched_by_all_that_names_them() {
        let qdisc = |handle, drops, qlen| Qdisc {
            ifindex: 2,
            kind: "tbf".into(),
            handle: TcHandle(handle),
            stats: counted("drops", drops),
            qlen: at_this_moment(qlen),
            ..Qdisc::default()
        };
        let of = |qdiscs| facts(StackFacts { qdiscs, ..StackFacts::default() });
        let before = of(vec![qdisc(1, 5, 9), qdisc(3, 1, 1)]);
        let mut after = of(vec![qdisc(2, 4, 0), qdisc(1, 7, 2)]);
        let merged = qdiscs(Some(&before), &mut after);
        assert_eq!(merged[0].stats["drops"], Pair { before: 0, after: 4 });
        assert_eq!(merged[1].stats["drops"], Pair { before: 5, after: 7 });
        assert_eq!(merged[1].qlen, Pair { before: 9, after: 2 });
        assert_eq!(merged.len(), 2);
        assert_eq!(qdiscs(None, &mut of(vec![qdisc(1, 7, 2)]))[0].stats["drops"].before, 0);
    }

    #[test]
    fn actions_are_matched_inside_their_filter() {
        let filter = |handle, packets| Filter {
            handle,
            actions: vec![FilterAction {
                kind: "gact".into(),
                index: 1,
                stats: counted("packets", packets),
                ..FilterAction::default()
            }],
            ..Filter::default()
        };
        let of = |filters| facts(StackFacts { filters, ..StackFacts::default() });
        let mut after = of(vec![filter(1, 30), filter(2, 8)]);
        let merged = filters(Some(&of(vec![filter(1, 10)])), &mut after);
        assert_eq!(merged[0].actions[0].stats["packets"], Pair { before: 10, after: 30 });
        assert_eq!(merged[1].actions[0].stats["packets"].before, 0);
    }

    #[test]
    fn legacy_rules_are_known_by_what_they_say() {
        let of = |rules: &[(&str, u64)]| {
            let rule = |(at, &(text, packets)): (usize, &(&str, u64))| Rule {
                handle: at as u64 + 1,
                text: text.into(),
                packets: Some(at_this_moment(packets)),
                ..Rule::default()
            };
            let rules = rules.iter().enumerate().map(rule).collect();
            let legacy_chains = vec![Chain { rules, ..Chain::default() }];
            facts(StackFacts { legacy_chains, ..StackFacts::default() })
        };
        let before = of(&[("drop", 100), ("accept", 7), ("drop", 5)]);
        // One was put before them.
        let now = of(&[("new", 3), ("drop", 110), ("accept", 8), ("drop", 5)]);
        let merged = legacy_chains(Some(&before), &mut { now });
        let deltas: Vec<_> =
            merged[0].rules.iter().map(|rule| rule.packets.unwrap().delta()).collect();
        assert_eq!(deltas, [3, 10, 1, 0]);
    }

    #[test]
    fn rules_are_matched_inside_their_chain() {
        let rule = |handle, packets| Rule {
            handle,
            packets: Some(at_this_moment(packets)),
            ..Rule::default()
        };
        let chain = |name: &str, policy, rules| Chain {
            name: name.into(),
            hook: Some(Hook { policy_packets: Some(at_this_moment(policy)), ..Hook::default() }),
            rules,
            ..Chain::default()
        };
        let of = |chains| {
            let netfilter = Some(Netfilter { chains, ..Netfilter::default() });
            facts(StackFacts { netfilter, ..StackFacts::default() })
        };
        let before = of(vec![chain("in", 3, vec![rule(4, 10)])]);
        let now = vec![chain("in", 5, vec![rule(4, 11), rule(6, 2)]), chain("out", 9, vec![])];
        let merged = netfilter(Some(&before), &mut of(now)).unwrap().chains;
        assert_eq!(merged[0].rules[0].packets, Some(Pair { before: 10, after: 11 }));
        assert_eq!(merged[0].rules[1].packets, Some(Pair { before: 0, after: 2 }));
        let policy = |at: usize| merged[at].hook.as_ref().unwrap().policy_packets.unwrap();
        assert_eq!((policy(0).delta(), policy(1).delta()), (2, 9));
        assert_eq!(netfilter(Some(&before), &mut Facts::default()), None);
    }

    #[test]
    fn queues_by_number_and_reader() {
        let queue = |port, waiting| PacketQueue {
            number: 5,
            port,
            waiting: at_this_moment(waiting),
            stats: counted("dropped", waiting * 10),
        };
        let of = |packet_queues| facts(StackFacts { packet_queues, ..StackFacts::default() });
        let merged = packet_queues(Some(&of(vec![queue(1, 1)])), &mut of(vec![queue(1, 2)]));
        assert_eq!(merged[0].waiting, Pair { before: 1, after: 2 });
        assert_eq!(merged[0].stats["dropped"].delta(), 10);
        let merged = packet_queues(Some(&of(vec![queue(1, 1)])), &mut of(vec![queue(7, 2)]));
        assert_eq!(merged[0].stats["dropped"].before, 0, "another program reads it");
    }

    #[test]
    fn tables_of_the_host_need_both_ends() {
        let table = |name: &str, fulls| NeighbourTable {
            name: name.into(),
            stats: counted("table_fulls", fulls),
            ..NeighbourTable::default()
        };
        let of = |neighbour_tables| facts(StackFacts { neighbour_tables, ..StackFacts::default() });
        let mut after = of(vec![table("arp_cache", 8), table("ndisc_cache", 2)]);
        let merged = neighbour_tables(&of(vec![table("arp_cache", 3)]), &mut after);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].stats["table_fulls"].delta(), 5);
    }
}
