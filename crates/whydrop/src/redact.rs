//! Evidence that can be given away: addresses and the host's name replaced, the same one always by
//! the same.
//!
//! Works on the stored document and not on its types, so that a new kind of fact cannot be
//! forgotten: every text is searched for IP and MAC addresses. Loopback, unspecified, multicast and
//! broadcast addresses are nobody's and stay. Names of devices, processes, containers and
//! namespaces stay too: a diagnosis is worth little without them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use serde_json::Value;
use whydrop_model::Evidence;

/// What the host is called afterwards.
const HOST: &str = "redacted";

/// The same evidence without addresses.
pub(crate) fn redact(evidence: &Evidence) -> anyhow::Result<Evidence> {
    let mut document = serde_json::to_value(evidence)?;
    let mut stand_ins = StandIns::default();
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
    addresses: HashMap<IpAddr, IpAddr>,
    macs: HashMap<String, String>,
}

impl StandIns {
    fn replace_in(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(replaced) = self.text(text) {
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
            if let Some(stand_in) = self.word(word) {
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

    /// A word of hexadecimal digits, dots and colons: an address, an address with its port, or
    /// neither.
    fn word(&mut self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.address(address)?.to_string());
        }
        if is_mac(word) {
            let next = self.macs.len() as u32;
            let [_, a, b, c] = next.to_be_bytes();
            let stand_in = || format!("02:00:00:{a:02x}:{b:02x}:{c:02x}");
            return Some(self.macs.entry(word.to_lowercase()).or_insert_with(stand_in).clone());
        }
        let (address, port) = word.rsplit_once(':')?;
        let address = address.parse::<Ipv4Addr>().ok()?;
        port.parse::<u16>().ok()?;
        Some(format!("{}:{port}", self.address(address.into())?))
    }

    /// What stands in for this address; `None` if it may stay.
    fn address(&mut self, address: IpAddr) -> Option<IpAddr> {
        let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast
        {
            return None;
        }
        let next = self.addresses.len() as u32 + 1;
        Some(*self.addresses.entry(address).or_insert_with(|| match address {
            // The range of benchmarks (RFC 2544) has room; those of documentation have 256.
            IpAddr::V4(_) => Ipv4Addr::from_bits(0xc612_0000 + next % 0x2_0000).into(),
            IpAddr::V6(_) => {
                Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + u128::from(next)).into()
            }
        }))
    }
}

fn part_of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || c == '.' || c == ':'
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && word.split(':').count() == 6
        && word.split(':').all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_address_is_always_the_same_stand_in() {
        let mut document = json!({
            "address": "203.0.113.7",
            "text": "tcp 203.0.113.7:443 from [2001:470::1]:5 via 203.0.113.0/24",
            "mac": "52:54:00:12:34:56",
            "203.0.113.7": ["fe80::1%eth0", 17],
        });
        StandIns::default().replace_in(&mut document);
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
    fn what_is_no_address_stays() {
        let original = json!({
            "version": "6.18.44", "start": "2026-01-01T00:00:00.5Z", "any": "0.0.0.0:80", "v6": "::",
            "loopback": "127.0.0.1", "group": "ff02::1", "symbol": "tcp_v4_rcv+0x1a3", "face": "cafe",
            "counter": "TcpExt.ListenOverflows", "hex": "0xdead:beef",
        });
        let mut document = original.clone();
        StandIns::default().replace_in(&mut document);
        assert_eq!(document, original);
    }
}
