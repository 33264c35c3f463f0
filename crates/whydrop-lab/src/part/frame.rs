//! How a scenario describes an Ethernet frame, layer by layer. Whatever is not said is as a healthy
//! sender would have it; whatever is said is sent, however wrong.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Frames that leave through a packet socket, round after round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Frames {
    /// Device they leave through.
    #[serde(default = "first_device")]
    pub(crate) device: String,
    /// How many rounds.
    pub(crate) rounds: u16,
    /// The frames of a round, in order.
    pub(crate) frame: Vec<Frame>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Frame {
    #[serde(default)]
    pub(crate) ether: Ether,
    pub(crate) ipv4: Option<Ipv4>,
    pub(crate) ipv6: Option<Ipv6>,
    pub(crate) udp: Option<Udp>,
    pub(crate) tcp: Option<Tcp>,
    pub(crate) icmp: Option<Icmp>,
    /// A VXLAN packet: comes before the payload, and behind UDP.
    pub(crate) vxlan: Option<Vxlan>,
    /// Bytes behind the headers.
    #[serde(default)]
    pub(crate) payload: u16,
    /// What the payload starts with; filler follows.
    #[serde(default)]
    pub(crate) data: Hex,
    /// Length of the frame to cut it down to, headers included.
    pub(crate) cut: Option<u16>,
}

/// The link layer: from the `veth0` of role `a` to that of role `b`, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ether {
    /// Absent for the `veth0` of role `b`.
    pub(crate) to: Option<Mac>,
    /// Absent for the `veth0` of role `a`.
    pub(crate) from: Option<Mac>,
    /// VLAN id of an 802.1Q tag.
    pub(crate) vlan: Option<u16>,
    /// EtherType; absent for that of the layer above.
    pub(crate) r#type: Option<u16>,
}

/// An IPv4 header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ipv4 {
    /// Source.
    pub(crate) from: Ipv4Addr,
    /// Destination.
    pub(crate) to: Ipv4Addr,
    /// DSCP and ECN, the byte.
    #[serde(default)]
    pub(crate) tos: u8,
    /// Absent for 64.
    pub(crate) ttl: Option<u8>,
    /// Absent for that of the layer above.
    pub(crate) protocol: Option<u8>,
    /// Identification in the first round, one more in each further one.
    #[serde(default)]
    pub(crate) id: u16,
    /// The flag DF.
    #[serde(default)]
    pub(crate) dont_fragment: bool,
    /// The flag MF.
    #[serde(default)]
    pub(crate) more_fragments: bool,
    /// Where the fragment starts, in bytes.
    #[serde(default)]
    pub(crate) offset: u16,
    /// Options, whole; their length is a multiple of four.
    #[serde(default)]
    pub(crate) options: Hex,
    /// Version that is claimed.
    pub(crate) version: Option<u8>,
    /// Header length that is claimed, in words.
    pub(crate) header_words: Option<u8>,
    /// Total length that is claimed, in bytes.
    pub(crate) length: Option<u16>,
    #[serde(default)]
    pub(crate) checksum: Checksum,
}

impl Ipv4 {
    /// A header in which nothing is particular.
    pub(crate) fn plain(from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self {
            from,
            to,
            tos: 0,
            ttl: None,
            protocol: None,
            id: 0,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            options: Hex::default(),
            version: None,
            header_words: None,
            length: None,
            checksum: Checksum::Good,
        }
    }
}

/// An IPv6 header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ipv6 {
    /// Source.
    pub(crate) from: Ipv6Addr,
    /// Destination.
    pub(crate) to: Ipv6Addr,
    /// Absent for 64.
    pub(crate) hop_limit: Option<u8>,
    /// Absent for that of the layer above.
    pub(crate) next_header: Option<u8>,
    /// Extension headers, whole.
    #[serde(default)]
    pub(crate) extension: Hex,
    /// Identification in the first round of a fragment header that is put in front of the payload;
    /// one more in each further round.
    pub(crate) fragment_id: Option<u32>,
    /// True if more fragments of the packet follow.
    #[serde(default)]
    pub(crate) more_fragments: bool,
    /// Where the fragment starts, in bytes.
    #[serde(default)]
    pub(crate) offset: u16,
    /// Version that is claimed.
    pub(crate) version: Option<u8>,
    /// Payload length that is claimed, in bytes.
    pub(crate) length: Option<u16>,
}

/// A UDP header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Udp {
    /// Source port.
    pub(crate) from: u16,
    /// Destination port.
    pub(crate) to: u16,
    /// Length that is claimed, in bytes.
    pub(crate) length: Option<u16>,
    #[serde(default)]
    pub(crate) checksum: Checksum,
}

/// A TCP header without options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Tcp {
    /// Source port.
    pub(crate) from: u16,
    /// Destination port.
    pub(crate) to: u16,
    /// The byte of flags; absent for SYN alone.
    pub(crate) flags: Option<u8>,
    /// Sequence number; 0 if not said.
    #[serde(default)]
    pub(crate) sequence: u32,
    /// Header length that is claimed, in words.
    pub(crate) header_words: Option<u8>,
    #[serde(default)]
    pub(crate) checksum: Checksum,
}

/// An ICMP or ICMPv6 header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Icmp {
    /// Type of the message.
    pub(crate) r#type: u8,
    /// Code of the message; 0 if not said.
    #[serde(default)]
    pub(crate) code: u8,
    /// The four bytes behind the checksum.
    #[serde(default)]
    pub(crate) rest: u32,
    #[serde(default)]
    pub(crate) checksum: Checksum,
}

/// A VXLAN header with the frame that it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Vxlan {
    /// Number of the network (VNI).
    pub(crate) vni: u32,
    /// The byte of flags; absent for "the VNI is valid" alone.
    pub(crate) flags: Option<u8>,
    /// The frame inside.
    pub(crate) frame: Box<Frame>,
}

/// What a checksum field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Checksum {
    /// The right sum.
    #[default]
    Good,
    /// A wrong one.
    Bad,
    /// Zero: "none" to UDP over IPv4.
    Zero,
}

/// A MAC address, written `02:00:00:00:00:0a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes = bytes.collect::<Result<Vec<_>, _>>().ok();
        let mac = bytes.and_then(|bytes| bytes.try_into().ok());
        mac.map(Self).ok_or_else(|| format!("`{text}` is not a MAC address"))
    }
}

impl From<Mac> for String {
    fn from(Mac(bytes): Mac) -> Self {
        bytes.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// Bytes, written as hexadecimal digits; blanks between bytes are free.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not hexadecimal bytes");
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| {
            // A sign is no digit, though a number may have one.
            let digits = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(pair).ok().filter(|_| digits);
            text.and_then(|text| u8::from_str_radix(text, 16).ok()).ok_or_else(wrong)
        };
        digits.chunks(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Hex> for String {
    fn from(Hex(bytes): Hex) -> Self {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

fn first_device() -> String {
    "veth0".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_written() {
        let mac = Mac::try_from("02:00:00:00:00:0a".to_owned()).unwrap();
        assert_eq!(mac.0, [2, 0, 0, 0, 0, 10]);
        assert_eq!(String::from(mac), "02:00:00:00:00:0a");
        let hex = Hex::try_from("07c8 ff".to_owned()).unwrap();
        assert_eq!(hex.0, [7, 0xc8, 0xff]);
        assert_eq!(String::from(hex), "07c8ff");
        for wrong in ["02:00", "02:00:00:00:00:zz", "020000000000"] {
            assert!(Mac::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        for wrong in ["123", "zz", "+1"] {
            assert!(Hex::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
