//! What `tcp`, `host`, `net`, `port` and their like ask of a frame.
//!
//! The order of the questions is libpcap's (`gencode.c`, 1.10): a packet that is too short for one of
//! them is not accepted, so the order shows where packets are cut off.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::expression::{Base, Expression, NETWORK, Relation};

pub(crate) const IPV4: u32 = 0x0800;
pub(crate) const ARP: u32 = 0x0806;
pub(crate) const RARP: u32 = 0x8035;
pub(crate) const IPV6: u32 = 0x86dd;

const FRAGMENT: u32 = 44;
const ICMPV6: u32 = 58;
const TCP: u32 = 6;
const UDP: u32 = 17;
const SCTP: u32 = 132;

/// A protocol with a keyword of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The Ethernet header itself.
    Ether,
    /// What an EtherType names.
    Network(u32),
    /// What the IPv4 header names.
    Ipv4(u32),
    /// What the IPv6 header names.
    Ipv6(u32),
    /// What either header names.
    Ip(u32),
}

/// The protocol of a keyword.
pub(crate) fn protocol(keyword: &str) -> Option<Protocol> {
    Some(match keyword {
        "ether" | "link" => Protocol::Ether,
        "ip" => Protocol::Network(IPV4),
        "ip6" => Protocol::Network(IPV6),
        "arp" => Protocol::Network(ARP),
        "rarp" => Protocol::Network(RARP),
        "icmp" => Protocol::Ipv4(1),
        "igmp" => Protocol::Ipv4(2),
        "igrp" => Protocol::Ipv4(9),
        "vrrp" | "carp" => Protocol::Ipv4(112),
        "icmp6" => Protocol::Ipv6(ICMPV6),
        "tcp" => Protocol::Ip(TCP),
        "udp" => Protocol::Ip(UDP),
        "sctp" => Protocol::Ip(SCTP),
        "esp" => Protocol::Ip(50),
        "ah" => Protocol::Ip(51),
        "pim" => Protocol::Ip(103),
        _ => return None,
    })
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Direction {
    Source,
    Destination,
    #[default]
    Either,
    Both,
}

impl Direction {
    /// The question for one end or both, from those for each.
    fn of(
        self,
        source: impl FnOnce() -> Expression,
        destination: impl FnOnce() -> Expression,
    ) -> Expression {
        match self {
            Self::Source => source(),
            Self::Destination => destination(),
            Self::Either => source().or(destination()),
            Self::Both => source().and(destination()),
        }
    }
}

/// The EtherType is this.
pub(crate) fn ethertype(value: u32) -> Expression {
    Expression::equal(12, 2, value)
}

/// The packet is of this protocol; `None` for the Ethernet header, which every packet has.
pub(crate) fn is(protocol: Protocol) -> Option<Expression> {
    Some(match protocol {
        Protocol::Ether => return None,
        Protocol::Network(value) => ethertype(value),
        Protocol::Ipv4(number) => ipv4_protocol(number),
        Protocol::Ipv6(number) => ipv6_protocol(number),
        Protocol::Ip(number) => ip_protocol(number),
    })
}

/// The IPv4 header names this protocol.
pub(crate) fn ipv4_protocol(number: u32) -> Expression {
    ethertype(IPV4).and(Expression::equal(NETWORK + 9, 1, number))
}

/// The IPv6 header names this protocol, or a fragment header right behind it does.
pub(crate) fn ipv6_protocol(number: u32) -> Expression {
    let next = |value| Expression::equal(NETWORK + 6, 1, value);
    let behind = next(FRAGMENT).and(Expression::equal(NETWORK + 40, 1, number));
    ethertype(IPV6).and(next(number).or(behind))
}

/// Either header names this protocol.
pub(crate) fn ip_protocol(number: u32) -> Expression {
    ipv4_protocol(number).or(ipv6_protocol(number))
}

/// What must hold before bytes behind a header of this protocol are looked at, and where those are;
/// `None` if they cannot be.
pub(crate) fn payload(protocol: Protocol) -> Option<(Option<Expression>, Base)> {
    let network = Base::Frame(NETWORK);
    Some(match protocol {
        Protocol::Ether => (None, Base::Frame(0)),
        Protocol::Network(value) => (Some(ethertype(value)), network),
        Protocol::Ipv6(number) => {
            let next = Expression::equal(NETWORK + 6, 1, number);
            (Some(ethertype(IPV6).and(next)), Base::Frame(NETWORK + 40))
        }
        Protocol::Ip(50 | 51) => return None,
        Protocol::Ipv4(number) | Protocol::Ip(number) => {
            (Some(ipv4_protocol(number).and(first_fragment())), Base::Transport)
        }
    })
}

/// An IPv4 packet that is no later fragment.
fn first_fragment() -> Expression {
    let later = Expression::bytes(Base::Frame(NETWORK), 6, 2, Relation::AnyBit, 0x1fff);
    later.not()
}

/// An IPv4 address under a mask, in the headers of one protocol; of IPv4, ARP and RARP by default.
pub(crate) fn ipv4(
    network: Option<u32>,
    direction: Direction,
    address: Ipv4Addr,
    mask: u32,
) -> Expression {
    let within = |source, destination| {
        let at = move |offset| Expression::masked(NETWORK + offset, mask, address.to_bits());
        direction.of(move || at(source), move || at(destination))
    };
    match network {
        Some(value @ (ARP | RARP)) => ethertype(value).and(within(14, 24)),
        Some(value) => ethertype(value).and(within(12, 16)),
        None => {
            let resolution = ethertype(ARP).or(ethertype(RARP)).and(within(14, 24));
            ethertype(IPV4).and(within(12, 16)).or(resolution)
        }
    }
}

/// An IPv6 network.
pub(crate) fn ipv6(direction: Direction, address: Ipv6Addr, prefix: u32) -> Expression {
    let bits = address.to_bits();
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    let at = |offset: u32| {
        let words = (0..4).filter_map(|word| {
            let shift = 96 - word * 32;
            let (mask, value) = ((mask >> shift) as u32, (bits >> shift) as u32);
            (mask != 0).then(|| Expression::masked(NETWORK + offset + word * 4, mask, value))
        });
        words.reduce(Expression::and).unwrap_or(Expression::Constant(true))
    };
    ethertype(IPV6).and(direction.of(|| at(8), || at(24)))
}

/// The protocols that have ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ported {
    Tcp,
    Udp,
    Sctp,
    Any,
}

/// A range of ports, over IPv6 and IPv4. IPv6 extension headers are not followed, as libpcap does
/// not.
pub(crate) fn ports(of: Ported, direction: Direction, from: u32, to: u32) -> Expression {
    let named = |at| {
        let is = |number| Expression::equal(at, 1, number);
        match of {
            Ported::Tcp => is(TCP),
            Ported::Udp => is(UDP),
            Ported::Sctp => is(SCTP),
            Ported::Any => is(SCTP).or(is(TCP)).or(is(UDP)),
        }
    };
    let range = |base, at| {
        let compare = |relation, value| Expression::bytes(base, at, 2, relation, value);
        if from == to {
            return compare(Relation::Equal, from);
        }
        compare(Relation::GreaterOrEqual, from).and(compare(Relation::Greater, to).not())
    };
    let within = |base: Base| direction.of(|| range(base, 0), || range(base, 2));
    let six = ethertype(IPV6).and(named(NETWORK + 6)).and(within(Base::Frame(NETWORK + 40)));
    let four =
        ethertype(IPV4).and(named(NETWORK + 9)).and(first_fragment()).and(within(Base::Transport));
    six.or(four)
}

/// An Ethernet address.
pub(crate) fn mac(direction: Direction, address: [u8; 6]) -> Expression {
    let [high @ .., c, d, e, f] = address;
    let at = |offset| {
        let low = Expression::equal(offset + 2, 4, u32::from_be_bytes([c, d, e, f]));
        low.and(Expression::equal(offset, 2, u16::from_be_bytes(high).into()))
    };
    direction.of(|| at(6), || at(0))
}

/// To an Ethernet group address.
pub(crate) fn ether_multicast() -> Expression {
    Expression::bytes(Base::Frame(0), 0, 1, Relation::AnyBit, 1)
}

/// To an IPv4 multicast address, or above.
pub(crate) fn ipv4_multicast() -> Expression {
    let group = Expression::bytes(Base::Frame(NETWORK), 16, 1, Relation::GreaterOrEqual, 0xe0);
    ethertype(IPV4).and(group)
}

/// To an IPv6 multicast address.
pub(crate) fn ipv6_multicast() -> Expression {
    ethertype(IPV6).and(Expression::equal(NETWORK + 24, 1, 0xff))
}
