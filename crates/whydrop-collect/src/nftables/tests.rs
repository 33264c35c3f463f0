use proptest::prelude::*;
use whydrop_model::Pair;

use super::*;
use crate::fixture;
use crate::netlink::push_attribute;

fn named() -> Named {
    let messages = fixture::netlink("linux-6.18-nft-sets.bin");
    let mut named = Named {
        sets: messages.iter().filter_map(|it| set(it)).collect(),
        counters: BTreeMap::new(),
    };
    for message in fixture::netlink("linux-6.18-nft-elements.bin") {
        let (family, nest) = open(&message).unwrap();
        let Some(table) = attribute(nest, 1) else { continue };
        let key = (family, text(table), text(attribute(nest, 2).unwrap()));
        named.sets.get_mut(&key).unwrap().elements.extend(elements(&message));
    }
    named
}

fn rules(name: &str, named: &Named) -> Vec<(Key, Rule)> {
    fixture::netlink(name).iter().filter_map(|it| rule(it, named)).collect()
}

fn counted(after: u64) -> Pair {
    Pair { before: 0, after }
}

/// The rules as `nft -a list ruleset` shows them: text, comment, handle and counted packets.
fn listed() -> Vec<(String, Option<String>, u64, Option<u64>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/netlink/linux-6.18-nft-rules.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rules = Vec::new();
    let mut in_chain = false;
    for line in text.lines() {
        in_chain = (in_chain && line != "\t}") || line.starts_with("\tchain ");
        let Some((line, handle)) =
            line.strip_prefix("\t\t").and_then(|it| it.split_once(" # handle "))
        else {
            continue;
        };
        if !in_chain {
            continue;
        }
        let (line, comment) = match line.split_once(" comment ") {
            Some((line, comment)) => (line, Some(comment.trim_matches('"').to_owned())),
            None => (line, None),
        };
        let mut words = line.split(' ').collect::<Vec<_>>();
        let counter = words.windows(2).position(|two| two == ["counter", "packets"]);
        let packets = counter.map(|at| {
            let packets = words[at + 2].parse().unwrap();
            words.drain(at + 1..at + 5);
            packets
        });
        rules.push((words.join(" "), comment, handle.parse().unwrap(), packets));
    }
    rules
}

#[test]
fn recorded_rules_read_as_nft_lists_them() {
    let named = named();
    let ours: Vec<(String, Option<String>, u64, Option<u64>)> =
        rules("linux-6.18-nft-rules.bin", &named)
            .into_iter()
            .map(|(_, it)| (it.text, it.comment, it.handle, it.packets.map(|pair| pair.after)))
            .collect();
    let theirs = listed();
    assert_eq!(theirs.len(), 34);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn recorded_verdicts() {
    let named = named();
    let rules = rules("linux-6.18-nft-rules.bin", &named);
    let of = |text: &str| {
        let found = rules.iter().find(|(_, rule)| rule.text.starts_with(text));
        &found.unwrap_or_else(|| panic!("no rule {text}")).1
    };
    assert_eq!(of("ct state invalid").verdicts, [RuleVerdict::Drop]);
    assert_eq!(of("ct state vmap").verdicts, [RuleVerdict::Drop]);
    let both = &of("tcp dport vmap @actions").verdicts;
    assert!(both.contains(&RuleVerdict::Drop) && both.contains(&RuleVerdict::Accept));
    assert_eq!(of("tcp dport 8080").verdicts, [RuleVerdict::Reject]);
    assert_eq!(of("tcp dport 4000").verdicts, [RuleVerdict::Jump("sub".into())]);
    assert!(of("tcp flags").limited && of("ip daddr 192.0.2.9").limited);
    assert!(!of("tcp dport 9000").limited);
    let counted_rule = of("udp dport { 9000-9010 }");
    assert_eq!((counted_rule.packets, counted_rule.bytes), (Some(counted(5)), Some(counted(190))));
}

#[test]
fn recorded_chains() {
    let messages = fixture::netlink("linux-6.18-nft-chains.bin");
    let told: Vec<String> = messages
        .iter()
        .filter_map(|it| chain(it))
        .map(|(_, it)| {
            let hook = it.hook.map_or("-".to_owned(), |hook| {
                let Hook { name, priority, kind, policy_drop, devices, .. } = hook;
                format!("{name} {priority} {kind} {policy_drop} {devices:?}")
            });
            format!("{} {} {}: {hook}", it.family, it.table, it.name)
        })
        .collect();
    let expected = [
        "inet filter input: input 0 filter true []",
        "inet filter sub: -",
        "inet filter forward: forward 10 filter false []",
        "ip raw pre: prerouting -300 filter false []",
        "ip raw nat: postrouting 100 nat false []",
        "netdev early ingress: ingress -500 filter false [\"v0\"]",
        "bridge br over: forward 0 filter false []",
    ];
    assert_eq!(told, expected);
    let tables = fixture::netlink("linux-6.18-nft-tables.bin");
    assert_eq!(tables.iter().filter_map(|it| dormant_table(it)).count(), 0);
    let mut dormant = tables[0].clone();
    let flags = dormant.windows(4).position(|it| it == [8, 0, 2, 0]).unwrap();
    dormant[flags + 7] = 1;
    assert_eq!(dormant_table(&dormant).unwrap().1, "filter");
}

#[test]
fn rules_of_iptables() {
    let messages = fixture::netlink("linux-6.18-iptables-nft-chains.bin");
    let chains: Vec<Chain> = messages.iter().filter_map(|it| chain(it)).map(|it| it.1).collect();
    let forward = chains.iter().find(|chain| chain.name == "FORWARD").unwrap();
    let hook = forward.hook.as_ref().unwrap();
    assert!(hook.policy_drop);
    assert_eq!(hook.policy_packets, Some(counted(0)), "iptables counts what its policy meets");
    let rules = rules("linux-6.18-iptables-nft-rules.bin", &Named::default());
    let texts: Vec<&str> = rules.iter().map(|(_, rule)| rule.text.as_str()).collect();
    let expected = [
        "[xt match string] counter drop",
        "tcp dport 9000 counter drop",
        "meta l4proto udp [xt match multiport] counter reject",
        "udp dport 99 counter queue num 3 bypass",
        "ct state invalid counter drop",
        "ip saddr 10.0.0.0/8 limit rate 5/second counter [xt target LOG]",
        "counter jump WD",
    ];
    assert_eq!(texts, expected);
    assert_eq!(rules[1].1.comment.as_deref(), Some("closed"));
    assert_eq!(rules[2].1.verdicts, [RuleVerdict::Reject]);
    assert_eq!(rules[3].1.verdicts, [RuleVerdict::Queue { number: 3, bypass: true }]);
    assert!(rules[5].1.limited);
}

#[test]
fn verdicts_of_queues_carry_their_number() {
    let of = |code: u32| {
        let mut nest = Vec::new();
        push_attribute(&mut nest, 1, &code.to_be_bytes());
        expressions::verdict(&nest)
    };
    assert_eq!(of(0x0005_0003), Some(RuleVerdict::Queue { number: 5, bypass: false }));
    assert_eq!(of(0x0005_8003), Some(RuleVerdict::Queue { number: 5, bypass: true }));
    assert_eq!(of(0xffff_ffff), None, "goes on with the next rule");
    assert_eq!(of(0xffff_fffb), Some(RuleVerdict::Return));
}

#[test]
fn a_named_counter_tells_of_the_rule_that_alone_uses_it() {
    let object = |users: u32| {
        let mut data = Vec::new();
        push_attribute(&mut data, 1, &700_u64.to_be_bytes());
        push_attribute(&mut data, 2, &7_u64.to_be_bytes());
        let mut message = vec![INET, 0, 0, 0];
        push_attribute(&mut message, 1, b"filter\0");
        push_attribute(&mut message, 2, b"named_drops\0");
        push_attribute(&mut message, 3, &1_u32.to_be_bytes());
        push_attribute(&mut message, 4, &data);
        push_attribute(&mut message, 5, &users.to_be_bytes());
        message
    };
    assert_eq!(counter(&object(2)), None);
    let named = Named { counters: counter(&object(1)).into_iter().collect(), ..named() };
    let rules = rules("linux-6.18-nft-rules.bin", &named);
    let text = "counter name \"named_drops\"";
    let user = &rules.iter().find(|(_, rule)| rule.text == text).unwrap().1;
    assert_eq!((user.packets, user.bytes), (Some(counted(7)), Some(counted(700))));
}

#[test]
fn a_cut_message_never_panics() {
    let named = named();
    for name in [
        "linux-6.18-nft-rules.bin",
        "linux-6.18-nft-chains.bin",
        "linux-6.18-nft-sets.bin",
        "linux-6.18-nft-elements.bin",
        "linux-6.18-nft-tables.bin",
        "linux-6.18-iptables-nft-rules.bin",
    ] {
        fixture::cut(name, |cut| {
            rule(cut, &named);
            chain(cut);
            set(cut);
            elements(cut);
            dormant_table(cut);
            counter(cut);
        });
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let named = Named::default();
        rule(&bytes, &named);
        chain(&bytes);
        elements(&bytes);
        set(&bytes);
        counter(&bytes);
    }

    /// A recorded rule with some bytes exchanged reaches further inside.
    #[test]
    fn broken_rules_never_panic(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let messages = fixture::netlink("linux-6.18-nft-rules.bin");
        let mut message = messages[which.index(messages.len())].clone();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        rule(&message, &named());
    }
}
