//! Messages of nf_tables (`include/uapi/linux/netfilter/nf_tables.h`): tables, chains, sets and
//! rules become types of the model. Numbers are big-endian.
//!
//! What the expressions of a rule mean is in `expressions`, how their values are written in `values`.
//! Sends nothing: that is the collector's business.

use std::collections::BTreeMap;

use whydrop_model::{Chain, Hook, Rule, RuleVerdict};

use crate::netlink::{Attributes, text};
use crate::stack::at_this_moment;

mod comparisons;
mod expressions;
mod headers;
pub(crate) mod legacy;
mod statements;
mod values;
mod xt;

/// Bytes of `struct nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;

/// Families of `include/uapi/linux/netfilter.h`.
const INET: u8 = 1;
const IP: u8 = 2;
const ARP: u8 = 3;
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;
const IP6: u8 = 10;

/// A list's element, whatever is in it.
const NFTA_LIST_ELEM: u16 = 1;

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

fn attribute(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn family_name(family: u8) -> String {
    match family {
        INET => "inet".to_owned(),
        IP => "ip".to_owned(),
        ARP => "arp".to_owned(),
        NETDEV => "netdev".to_owned(),
        BRIDGE => "bridge".to_owned(),
        IP6 => "ip6".to_owned(),
        other => format!("family {other}"),
    }
}

/// The family, and the attributes, of a message.
fn open(payload: &[u8]) -> Option<(u8, &[u8])> {
    Some((*payload.first()?, payload.get(NFGENMSG..)?))
}

/// Names one object: family, table, own name.
pub(crate) type Key = (u8, String, String);

/// The key of a table that is dormant.
pub(crate) fn dormant_table(payload: &[u8]) -> Option<Key> {
    const DORMANT: u32 = 1;
    let (family, nest) = open(payload)?;
    let flags = be32(attribute(nest, 2)?)?;
    (flags & DORMANT != 0).then_some((family, text(attribute(nest, 1)?), String::new()))
}

/// A chain without its rules.
pub(crate) fn chain(payload: &[u8]) -> Option<(Key, Chain)> {
    let (family, nest) = open(payload)?;
    let mut chain = Chain { family: family_name(family), ..Chain::default() };
    let mut hook = None;
    let (mut kind, mut policy_drop, mut packets) = (String::new(), false, None);
    for (attribute_kind, value) in Attributes(nest) {
        match attribute_kind {
            1 => chain.table = text(value),
            2 => chain.handle = be64(value).unwrap_or(0),
            3 => chain.name = text(value),
            4 => hook = Some(self::hook(family, value)),
            // NF_DROP and NF_ACCEPT.
            5 => policy_drop = be32(value) == Some(0),
            7 => kind = text(value),
            8 => packets = attribute(value, 2).and_then(be64),
            _ => {}
        }
    }
    chain.hook = hook.map(|hook| Hook {
        kind,
        policy_drop,
        policy_packets: packets.map(at_this_moment),
        ..hook
    });
    let key = (family, chain.table.clone(), chain.name.clone());
    (!chain.name.is_empty()).then_some((key, chain))
}

fn hook(family: u8, nest: &[u8]) -> Hook {
    let number = attribute(nest, 1).and_then(be32).unwrap_or(u32::MAX);
    let names: &[&str] = match family {
        ARP => &["input", "output", "forward"],
        NETDEV => &["ingress", "egress"],
        _ => &["prerouting", "input", "forward", "output", "postrouting", "ingress"],
    };
    let name =
        names.get(number as usize).map_or_else(|| format!("hook {number}"), |it| (*it).into());
    let mut devices: Vec<String> = attribute(nest, 3).map(text).into_iter().collect();
    if let Some(list) = attribute(nest, 4) {
        devices = Attributes(list).map(|(_, device)| text(device)).collect();
    }
    Hook {
        name,
        priority: attribute(nest, 2).and_then(be32).unwrap_or(0).cast_signed(),
        devices,
        ..Hook::default()
    }
}

/// A set or map, of which rules look something up.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// Has no name of its own: it is written where it is used.
    pub(crate) anonymous: bool,
    /// A map from keys to verdicts.
    pub(crate) to_verdicts: bool,
    /// Bytes of a key.
    key_length: usize,
    pub(crate) elements: Vec<Element>,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    key: Vec<u8>,
    /// Last key of a range that is one element.
    key_end: Option<Vec<u8>>,
    /// First key behind a range that began with the element before.
    interval_end: bool,
    catch_all: bool,
    verdict: Option<RuleVerdict>,
}

/// What rules refer to by name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) sets: BTreeMap<Key, Set>,
    /// Counters that one rule alone uses. Of others nobody knows which rule counted.
    pub(crate) counters: BTreeMap<Key, NamedCounter>,
}

/// A counter that has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedCounter {
    packets: u64,
    bytes: u64,
}

/// A counter that one rule alone uses, from the message of an object.
pub(crate) fn counter(payload: &[u8]) -> Option<(Key, NamedCounter)> {
    /// `NFT_OBJECT_COUNTER`.
    const COUNTER: u32 = 1;
    let (family, nest) = open(payload)?;
    let number = |wanted| attribute(nest, wanted).and_then(be32);
    if number(3) != Some(COUNTER) || number(5) != Some(1) {
        return None;
    }
    let data = attribute(nest, 4)?;
    let counter = NamedCounter {
        bytes: attribute(data, 1).and_then(be64)?,
        packets: attribute(data, 2).and_then(be64)?,
    };
    Some(((family, text(attribute(nest, 1)?), text(attribute(nest, 2)?)), counter))
}

/// A set without its elements.
pub(crate) fn set(payload: &[u8]) -> Option<(Key, Set)> {
    const ANONYMOUS: u32 = 1;
    /// `NFT_DATA_VERDICT`.
    const VERDICT: u32 = 0xffff_ff00;
    let (family, nest) = open(payload)?;
    let number = |wanted| attribute(nest, wanted).and_then(be32);
    let set = Set {
        anonymous: number(3).unwrap_or(0) & ANONYMOUS != 0,
        to_verdicts: number(6) == Some(VERDICT),
        key_length: number(5).unwrap_or(0) as usize,
        elements: Vec::new(),
    };
    Some(((family, text(attribute(nest, 1)?), text(attribute(nest, 2)?)), set))
}

/// The elements in one message of a set.
pub(crate) fn elements(payload: &[u8]) -> Vec<Element> {
    let list = open(payload).and_then(|(_, nest)| attribute(nest, 3)).unwrap_or_default();
    Attributes(list).filter_map(|(_, nest)| element(nest)).collect()
}

fn element(nest: &[u8]) -> Option<Element> {
    let flags = attribute(nest, 3).and_then(be32).unwrap_or(0);
    let catch_all = flags & 2 != 0;
    let value = |wanted| attribute(nest, wanted).and_then(|data| attribute(data, 1));
    let key = value(1).map(<[u8]>::to_vec);
    if key.is_none() && !catch_all {
        return None;
    }
    Some(Element {
        key: key.unwrap_or_default(),
        key_end: value(10).map(<[u8]>::to_vec),
        interval_end: flags & 1 != 0,
        catch_all,
        verdict: attribute(nest, 2)
            .and_then(|data| attribute(data, 2))
            .and_then(expressions::verdict),
    })
}

/// A rule with the key of its chain.
pub(crate) fn rule(payload: &[u8], named: &Named) -> Option<(Key, Rule)> {
    let (family, nest) = open(payload)?;
    let table = text(attribute(nest, 1)?);
    let chain = text(attribute(nest, 2)?);
    let list = attribute(nest, 4).unwrap_or_default();
    let expressions =
        Attributes(list).filter(|(kind, _)| *kind == NFTA_LIST_ELEM).filter_map(|(_, nest)| {
            Some((text(attribute(nest, 1)?), attribute(nest, 2).unwrap_or_default()))
        });
    let mut rule = expressions::read(family, &table, expressions, named);
    rule.handle = attribute(nest, 3).and_then(be64)?;
    rule.comment = attribute(nest, 7).and_then(comment).or(rule.comment);
    Some(((family, table, chain), rule))
}

/// The comment in what user space keeps with a rule: one byte of type, one of length, the value.
fn comment(mut bytes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        bytes = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests;
