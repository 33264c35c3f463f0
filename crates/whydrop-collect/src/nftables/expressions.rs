//! Reads the expressions of one rule in order: what it compares, counts and decides.
//!
//! The kernel keeps a rule as a little program over registers. This follows the registers and writes
//! each comparison as `nft` would. What it does not know it names in square brackets.

use std::collections::BTreeMap;

use whydrop_model::{Rule, RuleVerdict};

use super::comparisons::{Loaded, comparison, written_set};
use super::headers::{CT, Header, META, ethernet, ipv4, ipv6, transport};
use super::statements::{limit, log, quota, reject, verdict_text};
use super::values::{self, Form};
use super::{IP, IP6, Named, attribute, be32, be64, xt};
use crate::netlink::text;
use crate::stack::at_this_moment;

/// Longest text of a rule.
const LONGEST: usize = 1000;

/// What is being read.
struct Reader<'a> {
    family: u8,
    table: &'a str,
    named: &'a Named,
    registers: BTreeMap<u32, Loaded>,
    /// What was written so far.
    terms: Vec<String>,
    /// The term that says that the device is an Ethernet.
    link: Option<usize>,
    /// The header that the rule already asked for, and which term says so.
    network: Option<(u8, usize)>,
    transport: Option<(u8, usize)>,
    rule: Rule,
}

pub(super) fn read<'a>(
    family: u8,
    table: &str,
    expressions: impl Iterator<Item = (String, &'a [u8])>,
    named: &Named,
) -> Rule {
    let mut reader = Reader {
        family,
        table,
        named,
        registers: BTreeMap::new(),
        terms: Vec::new(),
        link: None,
        network: None,
        transport: None,
        rule: Rule::default(),
    };
    for (name, nest) in expressions {
        reader.take(&name, nest);
    }
    reader.terms.retain(|term| !term.is_empty());
    let mut text = reader.terms.join(" ");
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    reader.rule.text = text;
    reader.rule
}

/// A verdict (`NFTA_DATA_VERDICT`).
pub(super) fn verdict(nest: &[u8]) -> Option<RuleVerdict> {
    let code = attribute(nest, 1).and_then(be32)?.cast_signed();
    let chain = || attribute(nest, 2).map(text).unwrap_or_default();
    Some(match code {
        -3 => RuleVerdict::Jump(chain()),
        -4 => RuleVerdict::Goto(chain()),
        -5 => RuleVerdict::Return,
        _ if code < 0 => return None,
        _ => match code & 0xff {
            0 => RuleVerdict::Drop,
            1 => RuleVerdict::Accept,
            2 => RuleVerdict::Stolen,
            3 => RuleVerdict::Queue {
                number: (code.cast_unsigned() >> 16) as u16,
                bypass: code & 0x8000 != 0,
            },
            _ => return None,
        },
    })
}

/// Registers of 16 bytes (`NFT_REG_1` and on) are four of 4 bytes (`NFT_REG32_00` and on). There are no
/// others for data.
fn register(nest: &[u8], wanted: u16) -> Option<u32> {
    match attribute(nest, wanted).and_then(be32)? {
        number @ 1..=4 => Some(8 + (number - 1) * 4),
        number @ 8..=23 => Some(number),
        _ => None,
    }
}

/// The value of a constant (`NFTA_DATA_VALUE`).
fn constant(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    attribute(attribute(nest, wanted)?, 1)
}

impl Reader<'_> {
    fn take(&mut self, name: &str, nest: &[u8]) {
        match name {
            "payload" => self.payload(nest),
            "meta" => self.meta(nest),
            "ct" => self.ct(nest),
            "fib" => self.fib(nest),
            "cmp" => self.compare(nest),
            "range" => self.range(nest),
            "bitwise" => self.bitwise(nest),
            "lookup" => self.lookup(nest),
            "immediate" => self.immediate(nest),
            "match" => self.xt_match(nest),
            "target" => self.xt_target(nest),
            _ => self.statement(name, nest),
        }
    }

    fn say(&mut self, term: impl Into<String>) {
        self.terms.push(term.into());
    }

    fn load(&mut self, register: Option<u32>, name: impl Into<String>, form: Form, length: usize) {
        if let Some(register) = register {
            let loaded = Loaded { name: name.into(), form, length, mask: None, whole: None };
            self.registers.insert(register, loaded);
        }
    }

    fn payload(&mut self, nest: &[u8]) {
        let number = |wanted| attribute(nest, wanted).and_then(be32).unwrap_or(u32::MAX);
        let (base, offset, length) = (number(2), number(3), number(4));
        if attribute(nest, 5).is_some() {
            self.say("[payload set]");
            return;
        }
        let (name, form, whole) = match base {
            0 => {
                // Naming the header says what the comparison before it said.
                if let Some(term) = self.link.take() {
                    self.terms[term].clear();
                }
                ethernet(offset, length)
            }
            1 => self.network_header(offset, length),
            2 => self.transport_header(offset, length),
            _ => ("", Form::Number, None),
        };
        let name = if name.is_empty() {
            let base = ["ll", "nh", "th", "ih"].get(base as usize).unwrap_or(&"?");
            format!("@{base},{},{}", u64::from(offset) * 8, u64::from(length) * 8)
        } else {
            name.to_owned()
        };
        let register = register(nest, 1);
        self.load(register, name, form, length as usize);
        if let Some(loaded) = register.and_then(|register| self.registers.get_mut(&register)) {
            loaded.whole = whole;
        }
    }

    fn network_header(&mut self, offset: u32, length: u32) -> Header {
        let family = match self.family {
            IP | IP6 => Some(self.family),
            _ => self.network.map(|(family, _)| family),
        };
        // Naming the header says what the comparison before it said.
        if let Some((_, term)) = self.network.take() {
            self.terms[term].clear();
            self.network = family.map(|family| (family, term));
        }
        match family {
            Some(IP) => ipv4(offset, length),
            Some(IP6) => ipv6(offset, length),
            _ => ("", Form::Number, None),
        }
    }

    fn transport_header(&mut self, offset: u32, length: u32) -> Header {
        let protocol = self.transport.map(|(protocol, _)| protocol);
        let header = transport(protocol, offset, length);
        if header.0.is_empty() {
            return header;
        }
        if let Some((_, term)) = self.transport {
            self.terms[term].clear();
        }
        if let (Some(1 | 58), Some((_, term))) = (protocol, self.network) {
            self.terms[term].clear();
        }
        header
    }

    fn meta(&mut self, nest: &[u8]) {
        let key = attribute(nest, 2).and_then(be32).unwrap_or(u32::MAX);
        let (name, form) = META.get(key as usize).copied().unwrap_or(("meta ?", Form::Number));
        if attribute(nest, 3).is_some() {
            self.say(format!("[{name} set]"));
            return;
        }
        self.load(register(nest, 1), name, form, 4);
    }

    fn ct(&mut self, nest: &[u8]) {
        let key = attribute(nest, 2).and_then(be32).unwrap_or(u32::MAX);
        let (name, form) = CT.get(key as usize).copied().unwrap_or(("?", Form::Number));
        if attribute(nest, 4).is_some() {
            self.say(format!("[ct {name} set]"));
            return;
        }
        let direction = match attribute(nest, 3).and_then(|it| it.first()) {
            Some(0) => "original ",
            Some(_) => "reply ",
            None => "",
        };
        self.load(register(nest, 1), format!("ct {direction}{name}"), form, 4);
    }

    fn fib(&mut self, nest: &[u8]) {
        const PRESENT: u32 = 1 << 5;
        let flags = attribute(nest, 3).and_then(be32).unwrap_or(0);
        let names = ["saddr", "daddr", "mark", "iif", "oif"];
        let by: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| flags & (1 << bit) != 0)
            .map(|(_, name)| *name)
            .collect();
        let (result, form) = match attribute(nest, 2).and_then(be32) {
            Some(1) => ("oif", Form::HostNumber),
            Some(2) => ("oifname", Form::Name),
            Some(3) => ("type", Form::AddressType),
            _ => ("?", Form::Number),
        };
        let form = if flags & PRESENT == 0 { form } else { Form::Presence };
        self.load(register(nest, 1), format!("fib {} {result}", by.join(" . ")), form, 4);
    }

    fn bitwise(&mut self, nest: &[u8]) {
        let source = register(nest, 1).and_then(|register| self.registers.get(&register));
        let (Some(mut loaded), Some(target)) = (source.cloned(), register(nest, 2)) else { return };
        let plain = attribute(nest, 6).and_then(be32).unwrap_or(0) == 0
            && constant(nest, 5).is_none_or(|xor| xor.iter().all(|byte| *byte == 0));
        match constant(nest, 4) {
            Some(mask) if plain => loaded.mask = Some(mask.to_vec()),
            _ => loaded.name = format!("[bitwise of {}]", loaded.name),
        }
        self.registers.insert(target, loaded);
    }

    fn compare(&mut self, nest: &[u8]) {
        let loaded = register(nest, 1).and_then(|register| self.registers.get(&register)).cloned();
        let (Some(loaded), Some(value)) = (loaded, constant(nest, 3)) else {
            self.say("[cmp]");
            return;
        };
        let operator = attribute(nest, 2).and_then(be32).unwrap_or(0) as usize;
        let sign = ["", "!= ", "< ", "<= ", "> ", ">= "].get(operator).copied().unwrap_or("? ");
        let term = comparison(&loaded, sign, value);
        // A range is two comparisons.
        let written = values::write(loaded.form, value);
        let lower = format!("{} >= ", loaded.name);
        let before =
            self.terms.last().and_then(|last| last.strip_prefix(&lower)).map(str::to_owned);
        if let (3, Some(before), None) = (operator, before, &loaded.mask) {
            self.terms.pop();
            self.say(format!("{} {before}-{written}", loaded.name));
            return;
        }
        self.say(term);
        if operator == 0 && loaded.mask.is_none() {
            self.remember(&loaded, value);
        }
    }

    /// What a comparison tells of the headers that follow.
    fn remember(&mut self, loaded: &Loaded, value: &[u8]) {
        const ETHERNET: u16 = 1;
        let term = self.terms.len() - 1;
        if loaded.name == "iiftype" && value == ETHERNET.to_ne_bytes() {
            self.link = Some(term);
        }
        match (loaded.form, value) {
            (Form::Protocol, [protocol, ..]) => self.transport = Some((*protocol, term)),
            (Form::Family, [family, ..]) => self.network = Some((*family, term)),
            (Form::EtherType, [8, 0, ..]) => self.network = Some((IP, term)),
            (Form::EtherType, [0x86, 0xdd, ..]) => self.network = Some((IP6, term)),
            _ => {}
        }
    }

    fn range(&mut self, nest: &[u8]) {
        let loaded = register(nest, 1).and_then(|register| self.registers.get(&register)).cloned();
        let (Some(loaded), Some(from), Some(to)) = (loaded, constant(nest, 3), constant(nest, 4))
        else {
            self.say("[range]");
            return;
        };
        let sign = if attribute(nest, 2).and_then(be32) == Some(1) { "!= " } else { "" };
        let write = |value| values::write(loaded.form, value);
        self.say(format!("{} {sign}{}-{}", loaded.name, write(from), write(to)));
    }

    fn lookup(&mut self, nest: &[u8]) {
        let name = attribute(nest, 1).map(text).unwrap_or_default();
        let inverted = attribute(nest, 5).and_then(be32).unwrap_or(0) & 1 != 0;
        let named = self.named;
        let set = named.sets.get(&(self.family, self.table.to_owned(), name.clone()));
        let keys = self.keys(register(nest, 2), set.map_or(0, |set| set.key_length));
        let subject = keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(" . ");
        let sign = if inverted { "!= " } else { "" };
        let to_verdicts = set.is_some_and(|set| set.to_verdicts);
        let map = if to_verdicts { "vmap " } else { "" };
        let content = match set {
            Some(set) if set.anonymous => written_set(set, &keys),
            _ => format!("@{name}"),
        };
        self.say(format!("{subject} {sign}{map}{content}"));
        if to_verdicts {
            let verdicts =
                set.iter().flat_map(|set| &set.elements).filter_map(|it| it.verdict.clone());
            for verdict in verdicts {
                if !self.rule.verdicts.contains(&verdict) {
                    self.rule.verdicts.push(verdict);
                }
            }
        }
    }

    /// What is in the registers of a key, which may be several values one after another.
    fn keys(&self, first: Option<u32>, length: usize) -> Vec<Loaded> {
        let mut keys = Vec::new();
        let Some(first) = first else { return keys };
        let mut at = first;
        let end = first + (length.max(1).div_ceil(4) as u32).min(16);
        while let (true, Some(loaded)) = (at < end, self.registers.get(&at)) {
            at += (loaded.length.max(1).div_ceil(4) as u32).min(16);
            keys.push(loaded.clone());
        }
        keys
    }

    fn immediate(&mut self, nest: &[u8]) {
        let Some(data) = attribute(nest, 2) else { return };
        let Some(nest) = attribute(data, 2) else {
            // A constant for the statement that follows.
            return;
        };
        let verdict = verdict(nest);
        self.say(verdict_text(verdict.as_ref()));
        self.rule.verdicts.extend(verdict);
    }

    fn xt_match(&mut self, nest: &[u8]) {
        let name = attribute(nest, 1).map(text).unwrap_or_default();
        if name == "comment" {
            self.rule.comment = attribute(nest, 3).map(text);
            return;
        }
        self.rule.limited |= xt::limits(&name);
        let known = xt::match_text(&name, attribute(nest, 3).unwrap_or_default());
        self.say(known.unwrap_or_else(|| format!("[xt match {name}]")));
    }

    fn xt_target(&mut self, nest: &[u8]) {
        let name = attribute(nest, 1).map(text).unwrap_or_default();
        let verdict = xt::verdict(&name, attribute(nest, 3).unwrap_or_default());
        self.say(match &verdict {
            Some(known) if *known != RuleVerdict::Stolen => verdict_text(Some(known)),
            _ => format!("[xt target {name}]"),
        });
        self.rule.verdicts.extend(verdict);
    }

    /// What compares nothing.
    fn statement(&mut self, name: &str, nest: &[u8]) {
        match name {
            "counter" => {
                let number = |wanted| attribute(nest, wanted).and_then(be64).map(at_this_moment);
                (self.rule.bytes, self.rule.packets) = (number(1), number(2));
                self.say("counter");
            }
            "limit" => {
                self.rule.limited = true;
                self.say(limit(nest));
            }
            "quota" => {
                self.rule.limited = true;
                self.say(quota(nest));
            }
            "connlimit" => {
                self.rule.limited = true;
                let over = attribute(nest, 2).and_then(be32).unwrap_or(0) & 1 != 0;
                let count = attribute(nest, 1).and_then(be32).unwrap_or(0);
                self.say(format!("ct count {}{count}", if over { "over " } else { "" }));
            }
            "log" => self.say(log(nest)),
            "reject" => {
                self.say(reject(self.family, nest));
                self.rule.verdicts.push(RuleVerdict::Reject);
            }
            "queue" => {
                let half = |wanted| {
                    let bytes = attribute(nest, wanted)?.get(..2)?;
                    Some(u16::from_be_bytes(bytes.try_into().ok()?))
                };
                let bypass = half(3).unwrap_or(0) & 1 != 0;
                let verdict = RuleVerdict::Queue { number: half(1).unwrap_or(0), bypass };
                self.say(verdict_text(Some(&verdict)));
                self.rule.verdicts.push(verdict);
            }
            "fwd" | "synproxy" => {
                self.say(format!("[{name}]"));
                self.rule.verdicts.push(RuleVerdict::Stolen);
            }
            "objref" if attribute(nest, 1).and_then(be32) == Some(1) => {
                let name = attribute(nest, 2).map(text).unwrap_or_default();
                self.say(format!("counter name \"{name}\""));
                let key = (self.family, self.table.to_owned(), name);
                if let Some(counter) = self.named.counters.get(&key) {
                    self.rule.packets = Some(at_this_moment(counter.packets));
                    self.rule.bytes = Some(at_this_moment(counter.bytes));
                }
            }
            "notrack" => self.say("notrack"),
            "masq" => self.say("masquerade"),
            "redir" => self.say("redirect"),
            "nat" => {
                let source = attribute(nest, 1).and_then(be32) == Some(0);
                self.say(if source { "[snat]" } else { "[dnat]" });
            }
            other => self.say(format!("[{other}]")),
        }
    }
}
