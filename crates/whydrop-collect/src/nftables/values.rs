//! How the values that rules compare with are written: addresses, ports, names of states.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A big-endian number.
    Number,
    /// A number in this machine's byte order.
    HostNumber,
    /// Likewise, written as eight hexadecimal digits.
    Mark,
    /// An IPv4 or IPv6 address or the beginning of one.
    Address,
    /// An Ethernet address.
    Mac,
    /// A name, ended by a zero byte; without one it stands for all that begin so.
    Name,
    /// An EtherType.
    EtherType,
    /// The protocol of the IP header.
    Protocol,
    /// `ipv4` or `ipv6`.
    Family,
    /// Bits of the state of a connection.
    CtState,
    /// Bits of the status of a connection.
    CtStatus,
    /// Bits of the TCP header.
    TcpFlags,
    /// ICMP types.
    Icmp,
    /// ICMPv6 types.
    Icmp6,
    /// To whom a frame was sent.
    PacketType,
    /// Whether a route exists.
    Presence,
    /// The type of an address.
    AddressType,
    /// The upper six bits of a byte.
    Dscp,
}

const PROTOCOLS: [(u32, &str); 12] = [
    (1, "icmp"),
    (2, "igmp"),
    (4, "ipencap"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
];
const CT_STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: [(u32, &str); 6] = [
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
];
const TCP_FLAGS: [(u32, &str); 8] = [
    (1, "fin"),
    (2, "syn"),
    (4, "rst"),
    (8, "psh"),
    (16, "ack"),
    (32, "urg"),
    (64, "ecn"),
    (128, "cwr"),
];
const ICMP: [(u32, &str); 8] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
];
const ICMP6: [(u32, &str); 11] = [
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
];
const ETHER_TYPES: [(u32, &str); 4] =
    [(0x0800, "ip"), (0x0806, "arp"), (0x8100, "8021q"), (0x86dd, "ip6")];
const PACKET_TYPES: [(u32, &str); 4] =
    [(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];
const ADDRESS_TYPES: [(u32, &str); 9] = [
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const DSCP: [(u32, &str); 22] = [
    (0x00, "cs0"),
    (0x08, "cs1"),
    (0x10, "cs2"),
    (0x18, "cs3"),
    (0x20, "cs4"),
    (0x28, "cs5"),
    (0x30, "cs6"),
    (0x38, "cs7"),
    (0x0a, "af11"),
    (0x0c, "af12"),
    (0x0e, "af13"),
    (0x12, "af21"),
    (0x14, "af22"),
    (0x16, "af23"),
    (0x1a, "af31"),
    (0x1c, "af32"),
    (0x1e, "af33"),
    (0x22, "af41"),
    (0x24, "af42"),
    (0x26, "af43"),
    (0x2e, "ef"),
    (0x01, "lephb"),
];

fn name_of(names: &[(u32, &str)], number: u64) -> Option<String> {
    names.iter().find(|(code, _)| u64::from(*code) == number).map(|(_, name)| (*name).to_owned())
}

/// A number in at most eight bytes.
fn big_endian(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn host_endian(bytes: &[u8]) -> Option<u64> {
    let mut bytes = bytes.to_vec();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    big_endian(&bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Names of the bits that are set, joined by commas.
fn bits(names: &[(u32, &str)], number: u64) -> Option<String> {
    let known = names.iter().fold(0, |all, (bit, _)| all | u64::from(*bit));
    let set: Vec<&str> =
        names.iter().filter(|(bit, _)| number & u64::from(*bit) != 0).map(|it| it.1).collect();
    (number & !known == 0 && !set.is_empty()).then(|| set.join(","))
}

/// Writes a value.
pub(super) fn write(form: Form, bytes: &[u8]) -> String {
    let number = big_endian(bytes);
    let host = host_endian(bytes);
    let named = |names, number: Option<u64>| number.and_then(|number| name_of(names, number));
    let text = match form {
        Form::Number => None,
        Form::HostNumber => host.map(|it| it.to_string()),
        Form::Mark => host.map(|it| format!("0x{it:08x}")),
        Form::Address => address(bytes),
        Form::Mac => Some(mac(bytes)),
        Form::Name => Some(quoted_name(bytes)),
        Form::EtherType => named(&ETHER_TYPES, number).or(number.map(|it| format!("0x{it:04x}"))),
        Form::Protocol => named(&PROTOCOLS, number),
        Form::Family => named(&[(2, "ipv4"), (10, "ipv6")], number),
        Form::CtState => host.and_then(|it| bits(&CT_STATES, it)),
        Form::CtStatus => host.and_then(|it| bits(&CT_STATUS, it)),
        Form::TcpFlags => number.and_then(|it| bits(&TCP_FLAGS, it)),
        Form::Icmp => named(&ICMP, number),
        Form::Icmp6 => named(&ICMP6, number),
        Form::PacketType => named(&PACKET_TYPES, number),
        Form::Presence => named(&[(0, "missing"), (1, "exists")], number),
        Form::AddressType => named(&ADDRESS_TYPES, host),
        Form::Dscp => named(&DSCP, number.map(|it| it >> 2)),
    };
    text.or(number.map(|it| it.to_string())).unwrap_or_else(|| hexadecimal(bytes))
}

/// A whole address, or the network that begins so.
fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// The network that begins with these bytes; `whole` is the length of an address.
pub(super) fn prefix(bytes: &[u8], whole: usize, length: u32) -> String {
    let mut padded = bytes.to_vec();
    padded.resize(whole, 0);
    format!("{}/{length}", write(Form::Address, &padded))
}

/// The length of the prefix that a mask stands for.
pub(super) fn mask_length(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().take_while(|byte| **byte == 0xff).count() as u32 * 8;
    let mut rest = mask.iter().skip_while(|byte| **byte == 0xff);
    let partial = rest.next().copied().unwrap_or(0);
    let fits = partial.leading_ones() + partial.trailing_zeros() >= 8 && rest.all(|it| *it == 0);
    fits.then_some(ones + partial.leading_ones())
}

fn mac(bytes: &[u8]) -> String {
    let octets: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    octets.join(":")
}

fn quoted_name(bytes: &[u8]) -> String {
    let name = crate::netlink::text(bytes);
    let all_that_begin_so = if bytes.contains(&0) { "" } else { "*" };
    format!("\"{name}{all_that_begin_so}\"")
}
