//! Evidence that can be given away: addresses and the host's name replaced, the same one always by
//! the same.
//!
//! Works on the stored document and not on its types, so that a new kind of fact cannot be
//! forgotten: every text is searched, comments of rules and names of devices included, in the ways in
//! which people write addresses: `203.0.113.7:80`, `ip-203-0-113-7`, `52-54-00-12-34-56`,
//! `enx525400123456`. Loopback, unspecified, multicast and broadcast addresses are nobody's and stay.
//! Names of devices, processes, containers and namespaces stay too, but for what is replaced in them:
//! a diagnosis is worth little without them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use serde_json::Value;
use whydrop_model::Evidence;

/// What the host is called afterwards.
const HOST: &str = "redacted";
/// Groups of two digits from which on they are taken for a hardware address: a tunnel's is its IPv4
/// address; a time has three.
const FEWEST_GROUPS: usize = 4;
/// What may stand between two parts of a word of which one is an address.
type Separator = fn(char) -> bool;
const SEPARATORS: &[Separator] = &[|c| c == '-', |c| c == ':', |c| c.is_ascii_alphabetic()];
/// Bytes of the usual hardware address.
const MAC: usize = 6;

/// The same evidence without addresses.
pub(crate) fn redact(evidence: &Evidence) -> anyhow::Result<Evidence> {
    let mut document = serde_json::to_value(evidence)?;
    let mut stand_ins = StandIns::of_host(&evidence.host.hostname);
    // Digits without anything between them are an address only if it is one elsewhere: the first time
    // through tells.
    stand_ins.replace_in(&mut document.clone());
    stand_ins.replace_in(&mut document);
    let mut redacted: Evidence =
        serde_json::from_value(document).context("the redacted evidence does not read back")?;
    redacted.host.hostname = HOST.into();
    redacted.host.boot_id = None;
    Ok(redacted)
}

/// What has been replaced by what.
#[derive(Debug, Default)]
struct StandIns {
    /// Names of the host in lower case, the longest first.
    host: Vec<String>,
    addresses: HashMap<IpAddr, IpAddr>,
    /// By their digits, in lower case.
    macs: HashMap<String, Vec<u8>>,
}

impl StandIns {
    /// Also replaces this name wherever it is a word of its own, and what is before its first dot.
    fn of_host(name: &str) -> Self {
        let name = name.to_lowercase();
        let mut host = vec![name.clone()];
        host.extend(name.split_once('.').map(|(first, _)| first.to_owned()));
        host.retain(|name| !matches!(name.as_str(), "" | "localhost" | "(none)"));
        Self { host, ..Self::default() }
    }

    fn replace_in(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let named = self.without_host(text);
                if let Some(replaced) = self.text(named.as_ref().unwrap_or(text)).or(named) {
                    *text = replaced;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_in(item)),
            Value::Object(fields) => {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.replace_in(&mut value);
                        (self.text(&key).unwrap_or(key), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The text with the host's name replaced; `None` if it does not have it.
    fn without_host(&self, text: &str) -> Option<String> {
        let mut replaced: Option<String> = None;
        for name in &self.host {
            let text = replaced.as_deref().unwrap_or(text);
            if let Some(without) = without_word(text, name) {
                replaced = Some(without);
            }
        }
        replaced
    }

    /// The text with its addresses replaced; `None` if it has none.
    fn text(&mut self, text: &str) -> Option<String> {
        let mut replaced = String::with_capacity(text.len());
        let mut changed = false;
        let mut rest = text;
        while let Some(start) = rest.find(part_of_address) {
            let end =
                rest[start..].find(|c| !part_of_address(c)).map_or(rest.len(), |at| start + at);
            replaced.push_str(&rest[..start]);
            let word = &rest[start..end];
            if let Some(stand_in) = self.word(word, SEPARATORS) {
                replaced.push_str(&stand_in);
                changed = true;
            } else {
                replaced.push_str(word);
            }
            rest = &rest[end..];
        }
        replaced.push_str(rest);
        changed.then_some(replaced)
    }

    /// A word of hexadecimal digits, dots, colons and dashes: an address, one with what a sentence or a
    /// name has beside it, or none. `separators` are those at which it has not been parted yet.
    fn word(&mut self, word: &str, separators: &[Separator]) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.address(address)?.to_string());
        }
        if let Some(mac) = self.mac(word) {
            return Some(mac);
        }
        // What a sentence adds, one sign after the other: `::` may be the end of an address.
        let sign = |c: char| !is_hex(c);
        if let Some(inner) = word.strip_suffix(sign).filter(|it| !it.is_empty()) {
            return Some(format!("{}{}", self.word(inner, separators)?, &word[inner.len()..]));
        }
        if let Some(inner) = word.strip_prefix(sign).filter(|it| !it.is_empty()) {
            let stand_in = self.word(inner, separators)?;
            return Some(format!("{}{stand_in}", &word[..word.len() - inner.len()]));
        }
        if let Some(dashed) = self.dashed(word) {
            return Some(dashed);
        }
        // A range, a port, or letters that happen to be digits.
        for (at, separator) in separators.iter().enumerate() {
            let mut changed = false;
            let mut all = String::with_capacity(word.len());
            for piece in word.split_inclusive(*separator) {
                let inner = piece.strip_suffix(*separator).unwrap_or(piece);
                let stand_in = self.word(inner, &separators[at + 1..]);
                changed |= stand_in.is_some();
                all.push_str(stand_in.as_deref().unwrap_or(inner));
                all.push_str(&piece[inner.len()..]);
            }
            if changed {
                return Some(all);
            }
        }
        None
    }

    /// `203-0-113-7`, as clouds name their machines, and among what else is joined by dashes.
    fn dashed(&mut self, word: &str) -> Option<String> {
        let parts: Vec<&str> = word.split('-').collect();
        for at in 0..parts.len().saturating_sub(3) {
            let four = parts[at..at + 4].join("-");
            // Letters beside it may be digits of the word.
            let inner = four.trim_matches(|c: char| c.is_ascii_alphabetic());
            let address = inner.replace('-', ".").parse::<Ipv4Addr>().ok();
            let Some(address) = address.filter(|_| !inner.contains('.')) else { continue };
            let Some(stand_in) = self.address(address.into()) else { continue };
            let stand_in = stand_in.to_string().replace('.', "-");
            let mut all: Vec<String> = parts[..at].iter().map(|&part| part.to_owned()).collect();
            all.push(four.replacen(inner, &stand_in, 1));
            all.extend(parts[at + 4..].iter().map(|&part| part.to_owned()));
            return Some(all.join("-"));
        }
        None
    }

    /// A hardware address of any length, with colons or dashes; without them if it is known.
    fn mac(&mut self, word: &str) -> Option<String> {
        let separator = [':', '-'].into_iter().find(|&it| word.contains(it));
        let digits: String = word.chars().filter(char::is_ascii_hexdigit).collect();
        let digits = digits.to_lowercase();
        let Some(separator) = separator else {
            let known = self.macs.get(&digits).filter(|_| word.len() == 2 * MAC)?;
            return Some(joined(known, ""));
        };
        let groups = word.split(separator).count();
        let whole = word.split(separator).all(|it| it.len() == 2 && it.chars().all(is_hex));
        let fewest = if separator == '-' { MAC } else { FEWEST_GROUPS };
        if groups < fewest || !whole || is_everybodys(&digits) {
            return None;
        }
        let next = self.macs.len() as u32;
        // A frame's first byte says whether it was for a group, which decides what becomes of it.
        let group =
            groups == MAC && u8::from_str_radix(&digits[..2], 16).is_ok_and(|first| first & 1 != 0);
        let stand_in = self.macs.entry(digits).or_insert_with(|| {
            let mut bytes = vec![0; groups];
            bytes[0] = if group { 3 } else { 2 };
            bytes[groups - 3..].copy_from_slice(&next.to_be_bytes()[1..]);
            bytes
        });
        Some(joined(stand_in, &separator.to_string()))
    }

    /// What stands in for this address; `None` if it may stay.
    fn address(&mut self, address: IpAddr) -> Option<IpAddr> {
        // Of these the last three bytes are somebody's.
        let solicited = |it: Ipv6Addr| it.to_bits() >> 24 == SOLICITED_NODE >> 24;
        let one_nodes = matches!(address, IpAddr::V6(address) if solicited(address));
        let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
        if address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast() && !one_nodes
            || broadcast
        {
            return None;
        }
        let next = self.addresses.len() as u32 + 1;
        Some(*self.addresses.entry(address).or_insert_with(|| match address {
            // The range of benchmarks (RFC 2544) has room; those of documentation have 256.
            IpAddr::V4(_) => Ipv4Addr::from_bits(0xc612_0000 + next % 0x2_0000).into(),
            IpAddr::V6(_) if one_nodes => {
                Ipv6Addr::from_bits(SOLICITED_NODE + u128::from(next % 0x100_0000)).into()
            }
            IpAddr::V6(_) => {
                Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + u128::from(next)).into()
            }
        }))
    }
}

/// `ff02::1:ff00:0`, of which 24 bits are those of an address (RFC 4291).
const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

fn part_of_address(c: char) -> bool {
    is_hex(c) || matches!(c, '.' | ':' | '-')
}

fn is_hex(c: char) -> bool {
    c.is_ascii_hexdigit()
}

fn joined(bytes: &[u8], separator: &str) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(separator)
}

/// No address, or that of all: nobody's.
fn is_everybodys(digits: &str) -> bool {
    digits.bytes().all(|digit| digit == b'0') || digits.bytes().all(|digit| digit == b'f')
}

/// The text with this word replaced; `None` if it does not have it. `word` is in lower case.
fn without_word(text: &str, word: &str) -> Option<String> {
    let low = text.to_ascii_lowercase();
    let is_part = |c: char| c.is_alphanumeric();
    let mut replaced = String::new();
    let mut done = 0;
    for (at, _) in low.match_indices(word) {
        let end = at + word.len();
        if low[..at].ends_with(is_part) || low[end..].starts_with(is_part) {
            continue;
        }
        replaced.push_str(&text[done..at]);
        replaced.push_str(HOST);
        done = end;
    }
    replaced.push_str(&text[done..]);
    (done > 0).then_some(replaced)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The document as it is given away.
    fn redacted(host: &str, document: &Value) -> Value {
        let (mut stand_ins, mut document) = (StandIns::of_host(host), document.clone());
        stand_ins.replace_in(&mut document.clone());
        stand_ins.replace_in(&mut document);
        document
    }

    #[test]
    fn the_same_address_is_always_the_same_stand_in() {
        let document = json!({
            "address": "203.0.113.7",
            "text": "tcp 203.0.113.7:443 from [2001:470::1]:5 via 203.0.113.0/24",
            "mac": "52:54:00:12:34:56",
            "203.0.113.7": ["fe80::1%eth0", 17],
        });
        let document = redacted("", &document);
        let stand_in = document["address"].as_str().expect("a text");
        assert!(stand_in.starts_with("198.1"), "{document}");
        let text = document["text"].as_str().expect("a text");
        assert!(text.starts_with(&format!("tcp {stand_in}:443 from [2001:db8::")), "{text}");
        assert!(text.ends_with("/24"), "{text}");
        assert!(document.get(stand_in).is_some(), "{document}");
        let all = document.to_string();
        for secret in ["203.0.113", "2001:470", "fe80::1", "52:54"] {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        let of = |text: &str| {
            let document = redacted("", &json!(["203.0.113.7", "52:54:00:12:34:56", text]));
            document[2].as_str().expect("a text").to_owned()
        };
        for (text, expected) in [
            ("see 203.0.113.7.", "see 198.18.0.1."),
            ("from 203.0.113.7: bad", "from 198.18.0.1: bad"),
            ("tcp:203.0.113.7:80", "tcp:198.18.0.1:80"),
            ("be:203.0.113.7:80", "be:198.18.0.1:80"),
            ("203.0.113.7-203.0.113.9", "198.18.0.1-198.18.0.2"),
            ("2001:470::1-2001:470::9", "2001:db8::2-2001:db8::3"),
            ("node203.0.113.7eth", "node198.18.0.1eth"),
            ("ip-203-0-113-7.internal", "ip-198-18-0-1.internal"),
            ("ip-203-0-113-7-data", "ip-198-18-0-1-data"),
            ("2001:470:1::.", "2001:db8::2."),
            ("::ffff:203.0.113.7", "2001:db8::2"),
            ("ff02::1:ff12:3456", "ff02::1:ff00:2"),
            ("52-54-00-12-34-56", "02-00-00-00-00-00"),
            (
                "52:54:00:12:34:56:02:00:00:00:00:01:08:00",
                "02:00:00:00:00:00:00:00:00:00:00:00:00:01",
            ),
            ("enx525400123456", "enx020000000000"),
            ("cb:00:71:07", "02:00:00:01"),
            ("33:33:ff:12:34:56", "03:00:00:00:00:01"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_hosts_name_is_replaced_where_it_is_a_word() {
        let document =
            json!(["getty@Web1.service", "web1.example.com:80", "web12", "ip netns web1-a"]);
        let expected =
            json!(["getty@redacted.service", "redacted:80", "web12", "ip netns redacted-a"]);
        assert_eq!(redacted("web1.example.com", &document), expected);
        let document = json!({ "localhost": "localhost" });
        assert_eq!(redacted("localhost", &document), document);
    }

    #[test]
    fn what_is_no_address_stays() {
        let original = json!({
            "version": "6.18.44-1", "start": "2026-01-01T00:00:00.5Z", "any": "0.0.0.0:80", "v6": "::",
            "loopback": "127.0.0.1", "group": "ff02::1", "symbol": "tcp_v4_rcv+0x1a3", "face": "cafe",
            "counter": "TcpExt.ListenOverflows", "hex": "0xdead:beef", "pci": "0000:00:03.0",
            "all": "ff:ff:ff:ff:ff:ff", "none": "00:00:00:00:00:00", "id": "525400123456",
            "uid": "0f5e2d64-7a1c-4b7e-9a53-3c2b1a0f9e8d", "cpus": "0-1,4-7",
        });
        assert_eq!(redacted("", &original), original);
    }

    proptest! {
        #[test]
        fn no_address_is_left_whatever_stands_beside_it(
            octets in (1..127_u8, any::<u8>(), any::<u8>(), any::<u8>()),
            groups in proptest::collection::vec(1..=u16::MAX, 7),
            mac in proptest::collection::vec(1..=254_u8, 6),
            before in "[a-zA-Z:/@ =(-]{0,5}",
            after in "[a-zA-Z:/@ ,.)-]{0,5}",
        ) {
            let v4 = Ipv4Addr::new(octets.0, octets.1, octets.2, octets.3).to_string();
            let groups: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
            let v6 = format!("2001:{}", groups.join(":"));
            let mac = joined(&mac, ":");
            for (secret, before) in [
                (v4.clone(), before.as_str()),
                (v4.replace('.', "-"), "ip-"),
                // Digits and colons before them would make them others.
                (v6, "from ["),
                (mac.clone(), "lladdr "),
                (mac.replace(':', "-"), "lladdr "),
            ] {
                let after = if before == "from [" { "]:80" } else { after.as_str() };
                // Hexadecimal digits behind a hardware address make it none.
                let after = if before == "lladdr " { " up" } else { after };
                // With colons behind it its last part may begin another address.
                let after = if before == "ip-" { after.trim_start_matches(':') } else { after };
                let told = redacted("", &json!(format!("{before}{secret}{after}")));
                prop_assert!(!told.as_str().is_some_and(|told| told.contains(&secret)), "{}", told);
            }
        }
    }
}
