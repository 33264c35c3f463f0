//! The fields of headers, of a packet's metadata and of its connection, by the places at which rules
//! load them.

use super::values::Form;

/// Name, form and, for the beginning of an address, the length of the whole; no name if unknown.
pub(super) type Header = (&'static str, Form, Option<usize>);

pub(super) fn ethernet(offset: u32, length: u32) -> Header {
    match (offset, length) {
        (0, 6) => ("ether daddr", Form::Mac, None),
        (6, 6) => ("ether saddr", Form::Mac, None),
        (12, 2) => ("ether type", Form::EtherType, None),
        _ => ("", Form::Number, None),
    }
}

pub(super) fn ipv4(offset: u32, length: u32) -> Header {
    match (offset, length) {
        (1, 1) => ("ip dscp", Form::Dscp, None),
        (2, 2) => ("ip length", Form::Number, None),
        (4, 2) => ("ip id", Form::Number, None),
        (6, 2) => ("ip frag-off", Form::Number, None),
        (8, 1) => ("ip ttl", Form::Number, None),
        (9, 1) => ("ip protocol", Form::Protocol, None),
        (12, 4) => ("ip saddr", Form::Address, None),
        (16, 4) => ("ip daddr", Form::Address, None),
        (12, 1..=3) => ("ip saddr", Form::Address, Some(4)),
        (16, 1..=3) => ("ip daddr", Form::Address, Some(4)),
        _ => ("", Form::Number, None),
    }
}

pub(super) fn ipv6(offset: u32, length: u32) -> Header {
    match (offset, length) {
        (4, 2) => ("ip6 length", Form::Number, None),
        (6, 1) => ("ip6 nexthdr", Form::Protocol, None),
        (7, 1) => ("ip6 hoplimit", Form::Number, None),
        (8, 16) => ("ip6 saddr", Form::Address, None),
        (24, 16) => ("ip6 daddr", Form::Address, None),
        (8, 1..=15) => ("ip6 saddr", Form::Address, Some(16)),
        (24, 1..=15) => ("ip6 daddr", Form::Address, Some(16)),
        _ => ("", Form::Number, None),
    }
}

pub(super) fn transport(protocol: Option<u8>, offset: u32, length: u32) -> Header {
    let (name, form) = match (protocol, offset, length) {
        (Some(6), 0, 2) => ("tcp sport", Form::Number),
        (Some(6), 2, 2) => ("tcp dport", Form::Number),
        (Some(6), 13, 1) => ("tcp flags", Form::TcpFlags),
        (Some(6), 14, 2) => ("tcp window", Form::Number),
        (Some(17), 0, 2) => ("udp sport", Form::Number),
        (Some(17), 2, 2) => ("udp dport", Form::Number),
        (Some(17), 4, 2) => ("udp length", Form::Number),
        (Some(132), 0, 2) => ("sctp sport", Form::Number),
        (Some(132), 2, 2) => ("sctp dport", Form::Number),
        (Some(1), 0, 1) => ("icmp type", Form::Icmp),
        (Some(1), 1, 1) => ("icmp code", Form::Number),
        (Some(58), 0, 1) => ("icmpv6 type", Form::Icmp6),
        (Some(58), 1, 1) => ("icmpv6 code", Form::Number),
        (None, 0, 2) => ("th sport", Form::Number),
        (None, 2, 2) => ("th dport", Form::Number),
        _ => ("", Form::Number),
    };
    (name, form, None)
}

/// `enum nft_meta_keys`, in order.
pub(super) const META: [(&str, Form); 26] = [
    ("meta length", Form::HostNumber),
    ("meta protocol", Form::EtherType),
    ("meta priority", Form::Mark),
    ("meta mark", Form::Mark),
    ("iif", Form::HostNumber),
    ("oif", Form::HostNumber),
    ("iifname", Form::Name),
    ("oifname", Form::Name),
    ("iiftype", Form::HostNumber),
    ("oiftype", Form::HostNumber),
    ("meta skuid", Form::HostNumber),
    ("meta skgid", Form::HostNumber),
    ("meta nftrace", Form::HostNumber),
    ("meta rtclassid", Form::HostNumber),
    ("meta secmark", Form::Mark),
    ("meta nfproto", Form::Family),
    ("meta l4proto", Form::Protocol),
    ("meta ibrname", Form::Name),
    ("meta obrname", Form::Name),
    ("meta pkttype", Form::PacketType),
    ("meta cpu", Form::HostNumber),
    ("iifgroup", Form::HostNumber),
    ("oifgroup", Form::HostNumber),
    ("meta cgroup", Form::HostNumber),
    ("meta random", Form::HostNumber),
    ("meta ipsec", Form::Presence),
];

/// `enum nft_ct_keys`, in order.
pub(super) const CT: [(&str, Form); 18] = [
    ("state", Form::CtState),
    ("direction", Form::HostNumber),
    ("status", Form::CtStatus),
    ("mark", Form::Mark),
    ("secmark", Form::Mark),
    ("expiration", Form::HostNumber),
    ("helper", Form::Name),
    ("l3proto", Form::Family),
    ("saddr", Form::Address),
    ("daddr", Form::Address),
    ("protocol", Form::Protocol),
    ("proto-src", Form::Number),
    ("proto-dst", Form::Number),
    ("label", Form::Number),
    ("packets", Form::HostNumber),
    ("bytes", Form::HostNumber),
    ("avgpkt", Form::HostNumber),
    ("zone", Form::HostNumber),
];
