//! Tables of iptables-legacy, taken apart: chains, rules and counters in the blob that the kernel hands
//! out (`include/uapi/linux/netfilter/x_tables.h`, `.../netfilter_ipv4/ip_tables.h`,
//! `.../netfilter_ipv6/ip6_tables.h`).
//!
//! The layout is that of 64 bits and has not changed since 2.6. Rules are written as near to the language
//! of `nft` as those of nftables are, so that what reads them need not know where they are from.

use std::collections::BTreeMap;

use whydrop_model::{Chain, Hook, Rule, RuleVerdict};

use super::statements::verdict_text;
use super::values::{self, Form, mask_length};
use super::xt;
use crate::netlink::{text, u16_at, u32_at, u64_at};
use crate::stack::at_this_moment;

/// Whose table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ip,
    Ip6,
}

/// `NF_INET_*`, and what the chain is called that is entered there.
const HOOKS: [(&str, &str); 5] = [
    ("prerouting", "PREROUTING"),
    ("input", "INPUT"),
    ("forward", "FORWARD"),
    ("output", "OUTPUT"),
    ("postrouting", "POSTROUTING"),
];
/// Fields of `struct ipt_getinfo`.
const VALID_HOOKS: usize = 32;
const HOOK_ENTRY: usize = 36;
const UNDERFLOW: usize = 56;

/// Where a family's `struct ipt_entry` has its fields.
#[derive(Debug)]
struct Layout {
    family: &'static str,
    /// Bytes of an address; source, destination and their masks are at the start.
    address: usize,
    /// Names of the devices and their masks, 16 bytes each.
    devices: usize,
    protocol: usize,
    flags: usize,
    /// What is to be the other way round (`IPT_INV_*`, `IP6T_INV_*`).
    inverted: usize,
    /// Where it tells where its target is, and then where the next entry is.
    target: usize,
    counters: usize,
    matches: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        family: "ip",
        address: 4,
        devices: 16,
        protocol: 80,
        flags: 82,
        inverted: 83,
        target: 88,
        counters: 96,
        matches: 112,
    },
    Layout {
        family: "ip6",
        address: 16,
        devices: 64,
        protocol: 128,
        flags: 131,
        inverted: 132,
        target: 140,
        counters: 152,
        matches: 168,
    },
];

/// `IPT_F_GOTO`, `IP6T_F_GOTO`.
const GOTO: [u8; 2] = [2, 4];
/// Bytes before the data of a match or a target; its size, name and revision.
const HEADER: usize = 32;
/// Room of a name in that header, with its zero.
const NAME: usize = 29;
/// `XT_RETURN`.
const RETURN: i32 = -5;
/// Bytes of a device's name (`IFNAMSIZ`).
const DEVICE: usize = 16;
/// Longest text of a rule.
const LONGEST: usize = 1000;

/// One entry: matches, target and counters of a rule, or the mark with which a chain begins.
#[derive(Debug)]
struct Entry<'a> {
    /// Where it is among the others.
    at: usize,
    bytes: &'a [u8],
    matches: Vec<Extension<'a>>,
    target: Extension<'a>,
}

/// A match or a target.
#[derive(Debug)]
struct Extension<'a> {
    name: String,
    data: &'a [u8],
}

impl Entry<'_> {
    /// The name of the chain that begins behind this entry, if it is such a mark.
    fn begins(&self) -> Option<String> {
        (self.target.name == "ERROR").then(|| text(self.target.data))
    }
}

/// The chains of a table. They end where something does not look like an entry.
pub(crate) fn chains(family: Family, table: &str, info: &[u8], blob: &[u8]) -> Vec<Chain> {
    let layout = &LAYOUTS[family as usize];
    let entries = entries(layout, blob);
    let valid = u32_at(info, VALID_HOOKS).unwrap_or(0);
    let hook_at = |field: usize, at: usize| {
        let is_there = |hook: &usize| {
            valid >> hook & 1 == 1 && u32_at(info, field + hook * 4) == Some(at as u32)
        };
        (0..HOOKS.len()).find(is_there)
    };
    // A jump leads to the first rule of a chain.
    let names: BTreeMap<usize, String> = entries
        .iter()
        .filter_map(|entry| Some((entry.at + entry.bytes.len(), entry.begins()?)))
        .collect();
    let chain = |name: &str, hook| Chain {
        family: layout.family.into(),
        table: table.into(),
        name: name.into(),
        hook,
        ..Chain::default()
    };
    let mut chains: Vec<Chain> = Vec::new();
    for entry in &entries {
        if let Some(name) = entry.begins() {
            chains.push(chain(&name, None));
            continue;
        }
        if let Some(hook) = hook_at(HOOK_ENTRY, entry.at) {
            let (name, shown) = HOOKS[hook];
            let kind = if table == "nat" { "nat" } else { "filter" };
            let priority = priority(table, name);
            let hook = Hook { name: name.into(), priority, kind: kind.into(), ..Hook::default() };
            chains.push(chain(shown, Some(hook)));
        }
        let Some(chain) = chains.last_mut() else { continue };
        let rule = rule(layout, family, entry, &names);
        match &mut chain.hook {
            Some(hook) if hook_at(UNDERFLOW, entry.at).is_some() => {
                hook.policy_drop = rule.verdicts == [RuleVerdict::Drop];
                hook.policy_packets = rule.packets;
            }
            _ => {
                let handle = chain.rules.len() as u64 + 1;
                chain.rules.push(Rule { handle, ..rule });
            }
        }
    }
    // What closes the table looks like a chain; and each chain of the user's own ends with going back.
    chains.retain_mut(|chain| chain.hook.is_some() || chain.rules.pop().is_some());
    chains
}

/// `enum nf_ip_hook_priorities`: when a table has its turn at a hook.
fn priority(table: &str, hook: &str) -> i32 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", "prerouting" | "output") => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

fn entries<'a>(layout: &Layout, blob: &'a [u8]) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(entry) = entry(layout, blob, at) {
        at += entry.bytes.len();
        entries.push(entry);
    }
    entries
}

fn entry<'a>(layout: &Layout, blob: &'a [u8], at: usize) -> Option<Entry<'a>> {
    let rest = blob.get(at..)?;
    let target = usize::from(u16_at(rest, layout.target)?);
    let bytes = rest.get(..usize::from(u16_at(rest, layout.target + 2)?))?;
    let mut matches = Vec::new();
    let mut from = layout.matches;
    while from < target {
        let (extension, length) = extension(bytes, from)?;
        matches.push(extension);
        from += length;
    }
    let (target, _) = extension(bytes, target.max(layout.matches))?;
    Some(Entry { at, bytes, matches, target })
}

/// `struct xt_entry_match` or `xt_entry_target`, and its length.
fn extension(bytes: &[u8], at: usize) -> Option<(Extension<'_>, usize)> {
    let length = usize::from(u16_at(bytes, at)?);
    let whole = bytes.get(at..at + length)?;
    let name = text(whole.get(2..2 + NAME)?);
    Some((Extension { name, data: whole.get(HEADER..)? }, length))
}

fn rule(
    layout: &Layout,
    family: Family,
    entry: &Entry<'_>,
    names: &BTreeMap<usize, String>,
) -> Rule {
    let number = |at| u64_at(entry.bytes, layout.counters + at).map(at_this_moment);
    let mut rule = Rule { packets: number(0), bytes: number(8), ..Rule::default() };
    let mut terms = head(layout, entry.bytes);
    for one in &entry.matches {
        if one.name == "comment" {
            rule.comment = Some(text(one.data));
            continue;
        }
        rule.limited |= xt::limits(&one.name);
        let known = xt::match_text(&one.name, one.data).or_else(|| ports(one));
        terms.push(known.unwrap_or_else(|| format!("[xt match {}]", one.name)));
    }
    // As in the language of nft, where a port says the protocol.
    let said = |name: &str| terms.iter().any(|term| term.starts_with(&format!("{name} ")));
    if let Some(at) = terms.iter().position(|term| {
        let protocol = term.strip_prefix("meta l4proto ");
        protocol.is_some_and(said)
    }) {
        terms.remove(at);
    }
    terms.push("counter".to_owned());
    let verdict = match entry.target.name.as_str() {
        "" => standard(layout, family, entry, names),
        name => {
            let verdict = xt::verdict(name, entry.target.data);
            if verdict.is_none() {
                terms.push(format!("[xt target {name}]"));
            }
            verdict
        }
    };
    terms.extend(verdict.as_ref().map(|verdict| verdict_text(Some(verdict))));
    rule.verdicts.extend(verdict);
    rule.text = terms.join(" ");
    if rule.text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| rule.text.is_char_boundary(*at)).unwrap_or(0);
        rule.text.truncate(end);
        rule.text.push_str(" ...");
    }
    rule
}

/// The standard target: below zero a verdict, else where to go on.
fn standard(
    layout: &Layout,
    family: Family,
    entry: &Entry<'_>,
    names: &BTreeMap<usize, String>,
) -> Option<RuleVerdict> {
    match u32_at(entry.target.data, 0)?.cast_signed() {
        RETURN => Some(RuleVerdict::Return),
        -1 => Some(RuleVerdict::Drop),
        -2 => Some(RuleVerdict::Accept),
        -4 => Some(RuleVerdict::Queue { number: 0, bypass: false }),
        // The next entry is where a rule without a target goes on, and no chain.
        to => {
            let name = names.get(&usize::try_from(to).ok()?)?.clone();
            let flags = entry.bytes.get(layout.flags)?;
            let for_good = flags & GOTO[family as usize] != 0;
            Some(if for_good { RuleVerdict::Goto(name) } else { RuleVerdict::Jump(name) })
        }
    }
}

/// What the rule itself compares with: addresses, devices, protocol.
fn head(layout: &Layout, bytes: &[u8]) -> Vec<String> {
    let inverted = bytes.get(layout.inverted).copied().unwrap_or(0);
    let sign = |bit: u8| if inverted & bit == 0 { "" } else { "!= " };
    let field = |at: usize, length: usize| bytes.get(at..at + length).unwrap_or_default();
    let mut terms = Vec::new();
    for (at, name, bit) in [(0, "saddr", 8), (1, "daddr", 16)] {
        let address = field(at * layout.address, layout.address);
        let mask = field((at + 2) * layout.address, layout.address);
        if mask.iter().all(|byte| *byte == 0) {
            continue;
        }
        let written = match mask_length(mask) {
            Some(length) if length as usize == layout.address * 8 => {
                values::write(Form::Address, address)
            }
            Some(length) => values::prefix(address, layout.address, length),
            None => format!(
                "& {} == {}",
                values::write(Form::Address, mask),
                values::write(Form::Address, address)
            ),
        };
        terms.push(format!("{} {name} {}{written}", layout.family, sign(bit)));
    }
    for (at, name, bit) in [(0, "iifname", 1), (1, "oifname", 2)] {
        let device = field(layout.devices + at * DEVICE, DEVICE);
        let mask = field(layout.devices + (at + 2) * DEVICE, DEVICE);
        let compared = mask.iter().take_while(|byte| **byte != 0).count();
        if compared > 0 {
            // Without the zero at its end it stands for all that begin so.
            let device = device.get(..compared).unwrap_or_default();
            terms.push(format!("{name} {}{}", sign(bit), values::write(Form::Name, device)));
        }
    }
    let protocol = u16_at(bytes, layout.protocol).unwrap_or(0) as u8;
    if protocol != 0 {
        let protocol = values::write(Form::Protocol, &[protocol]);
        terms.push(format!("meta l4proto {}{protocol}", sign(64)));
    }
    terms
}

/// Ports of `struct xt_tcp` and `struct xt_udp`; `None` if the match compares anything else.
fn ports(one: &Extension<'_>) -> Option<String> {
    let inverted = match one.name.as_str() {
        // An option, then the flags' mask.
        "tcp" if one.data.get(8..10)? == [0, 0] => *one.data.get(11)?,
        "udp" => *one.data.get(8)?,
        _ => return None,
    };
    let mut terms = Vec::new();
    for (at, name, bit) in [(0, "sport", 1), (4, "dport", 2)] {
        let range = match (u16_at(one.data, at)?, u16_at(one.data, at + 2)?) {
            (0, u16::MAX) => continue,
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let sign = if inverted & bit == 0 { "" } else { "!= " };
        terms.push(format!("{} {name} {sign}{range}", one.name));
    }
    (!terms.is_empty()).then(|| terms.join(" "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const KERNELS: [&str; 2] = ["5.10", "7.2"];
    /// `struct ipt_getinfo`.
    const INFO: usize = 84;

    fn recorded(kernel: &str, family: Family) -> (Vec<u8>, Vec<u8>) {
        let name = LAYOUTS[family as usize].family;
        let mut info = fixture::bytes(&format!("xtables/linux-{kernel}-{name}-filter.bin"));
        let entries = info.split_off(INFO);
        (info, entries)
    }

    fn texts(chain: &Chain) -> Vec<&str> {
        chain.rules.iter().map(|rule| rule.text.as_str()).collect()
    }

    #[test]
    fn recorded_tables_are_what_iptables_legacy_shows() {
        for kernel in KERNELS {
            let (info, entries) = recorded(kernel, Family::Ip);
            let found = chains(Family::Ip, "filter", &info, &entries);
            let [input, forward, output, sub] = &found[..] else { panic!("{kernel}: {found:?}") };
            let names = [input, forward, output, sub].map(|chain| chain.name.as_str());
            assert_eq!(names, ["INPUT", "FORWARD", "OUTPUT", "sub"]);
            assert_eq!(
                texts(input),
                [
                    "udp dport 9009 counter drop",
                    "ip saddr 203.0.113.0/24 [xt match limit] counter [xt target LOG]",
                    "meta l4proto tcp counter jump sub",
                ],
                "{kernel}"
            );
            assert_eq!(
                texts(sub),
                [
                    "ct state invalid counter drop",
                    "meta l4proto tcp [xt match multiport] counter reject",
                ],
                "{kernel}"
            );
            let [dropped, limited, jump] = &input.rules[..] else { panic!("{input:?}") };
            assert_eq!((dropped.handle, dropped.comment.as_deref()), (1, Some("old rule")));
            assert_eq!(dropped.packets.map(|it| it.after), Some(3), "{kernel}");
            assert_eq!(dropped.bytes.map(|it| it.after), Some(87), "{kernel}");
            assert_eq!((limited.limited, jump.handle), (true, 3));
            let policies = [input, forward, output].map(|it| it.hook.as_ref().unwrap().policy_drop);
            assert_eq!((policies, &sub.hook), ([false, true, false], &None));
            assert!(output.hook.as_ref().unwrap().policy_packets.unwrap().after > 0, "{kernel}");

            let (info, entries) = recorded(kernel, Family::Ip6);
            let found = chains(Family::Ip6, "filter", &info, &entries);
            assert_eq!(texts(&found[0]), ["tcp dport 9010 counter drop"], "{kernel}");
            assert_eq!(found.len(), 3);
        }
    }

    #[test]
    fn a_table_that_is_cut_off_ends_there() {
        let (info, entries) = recorded(KERNELS[0], Family::Ip);
        for length in 0..entries.len() {
            assert!(chains(Family::Ip, "filter", &info, &entries[..length]).len() <= 4);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            start in any::<prop::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>(), 1..40),
            family in prop_oneof![Just(Family::Ip), Just(Family::Ip6)],
        ) {
            let (mut info, mut entries) = recorded(KERNELS[0], family);
            let whole = info.len() + entries.len();
            for (at, byte) in (start.index(whole)..whole).zip(noise) {
                let blob = if at < info.len() { &mut info } else { &mut entries };
                let length = blob.len();
                blob[at % length] = byte;
            }
            chains(family, "filter", &info, &entries);
        }
    }
}
