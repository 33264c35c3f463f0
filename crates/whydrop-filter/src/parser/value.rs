//! What a value asks, by what was said of it: an address, a network, a port, a protocol.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Parser, Qualifiers, ValueKind};
use crate::Error;
use crate::expression::Expression;
use crate::lexer::Kind;
use crate::names::{self, Of};
use crate::primitive::{self, Ported, Protocol};

impl Parser<'_> {
    /// One value.
    pub(super) fn one_value(&mut self, said: Qualifiers) -> Result<Expression, Error> {
        let place = self.place();
        let Some(kind) = self.peek().cloned() else {
            return Err(self.error(place, "a value is missing").hint(said.wanted()));
        };
        match said.kind {
            ValueKind::Port | ValueKind::PortRange => {
                let text = match kind {
                    Kind::Number(number) => number.to_string(),
                    Kind::Word(name) | Kind::Escaped(name) => name,
                    _ => return Err(self.error(place, "not a port").hint(said.wanted())),
                };
                self.advance();
                self.port(said, &text, place)
            }
            ValueKind::Proto => {
                let expression = self.proto(said, &kind, place)?;
                self.advance();
                Ok(expression)
            }
            ValueKind::Unsaid | ValueKind::Host | ValueKind::Net => {
                self.advance();
                self.address(said, kind, place)
            }
        }
    }

    fn address(
        &mut self,
        said: Qualifiers,
        kind: Kind,
        place: Range<usize>,
    ) -> Result<Expression, Error> {
        match kind {
            Kind::Mac(address) => match said.protocol {
                Some(Protocol::Ether) => Ok(primitive::mac(said.direction, address)),
                _ => Err(self
                    .error(place, "an Ethernet address")
                    .hint("put ether before it: ether host, ether src, ether dst")),
            },
            Kind::Ipv6(address) => {
                let prefix = self.prefix(said, 128)?.unwrap_or(128);
                let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
                if address.to_bits() & host != 0 {
                    return Err(
                        self.host_bits(place, Ipv6Addr::from_bits(address.to_bits() & !host))
                    );
                }
                match said.protocol {
                    None | Some(Protocol::Network(primitive::IPV6)) => {
                        Ok(primitive::ipv6(said.direction, address, prefix))
                    }
                    _ => Err(self.no_host(said, place)),
                }
            }
            Kind::Dotted(parts) => self.ipv4(said, &parts, place),
            Kind::Number(number) if said.kind == ValueKind::Net => match u8::try_from(number) {
                Ok(part) => self.ipv4(said, &[part], place),
                Err(_) => Err(self.error(place, "not a network").hint(said.wanted())),
            },
            Kind::Number(_) => Err(self.error(place, "not an address").hint(said.wanted())),
            Kind::Word(_) | Kind::Escaped(_) => {
                Err(self.error(place, "names are not resolved").hint(said.wanted()))
            }
            _ => Err(self.error(place, "a value is missing before this").hint(said.wanted())),
        }
    }

    /// An IPv4 address or network; what is left out at the end of one is not compared.
    fn ipv4(
        &mut self,
        said: Qualifiers,
        parts: &[u8],
        place: Range<usize>,
    ) -> Result<Expression, Error> {
        let mut octets = [0; 4];
        octets[..parts.len()].copy_from_slice(parts);
        let address = Ipv4Addr::from(octets);
        // libpcap takes `host 10.1` for a network too; here it is more likely a slip.
        if said.kind != ValueKind::Net && parts.len() < 4 {
            return Err(self
                .error(place, "not a whole IPv4 address")
                .hint("a network is written net 10.1 or net 10.1.0.0/16"));
        }
        let mask = match self.mask(said)? {
            Some(mask) => mask,
            // Leading zeros mean something else to libpcap than they seem to.
            None if octets[0] == 0 && parts.len() < 4 => {
                return Err(self.error(place, "a network cannot begin with 0"));
            }
            None => mask_of(8 * parts.len() as u32),
        };
        if address.to_bits() & !mask != 0 {
            return Err(self.host_bits(place, Ipv4Addr::from_bits(address.to_bits() & mask)));
        }
        let network = match said.protocol {
            None => None,
            Some(Protocol::Network(
                value @ (primitive::IPV4 | primitive::ARP | primitive::RARP),
            )) => Some(value),
            _ => return Err(self.no_host(said, place)),
        };
        Ok(primitive::ipv4(network, said.direction, address, mask))
    }

    /// `/LENGTH` or `mask ADDRESS`; `None` if neither comes.
    fn mask(&mut self, said: Qualifiers) -> Result<Option<u32>, Error> {
        if let Some(length) = self.prefix(said, 32)? {
            return Ok(Some(mask_of(length)));
        }
        if self.word() != Some("mask") {
            return Ok(None);
        }
        self.advance();
        let place = self.place();
        let Some(Kind::Dotted(parts)) = self.peek() else {
            return Err(self.error(place, "a netmask is missing").hint("such as 255.255.0.0"));
        };
        let mut octets = [0; 4];
        octets[..parts.len()].copy_from_slice(parts);
        self.only_nets(said, place)?;
        self.advance();
        Ok(Some(u32::from_be_bytes(octets)))
    }

    /// `/LENGTH`; `None` if it does not come.
    fn prefix(&mut self, said: Qualifiers, most: u32) -> Result<Option<u32>, Error> {
        if self.symbol() != Some("/") {
            return Ok(None);
        }
        self.advance();
        let place = self.place();
        match self.peek() {
            Some(Kind::Number(length)) if *length <= most => {
                let length = *length;
                self.only_nets(said, place)?;
                self.advance();
                Ok(Some(length))
            }
            _ => Err(self.error(place, &format!("the length of a prefix is 0 to {most}"))),
        }
    }

    fn only_nets(&self, said: Qualifiers, place: Range<usize>) -> Result<(), Error> {
        match said.kind {
            ValueKind::Net => Ok(()),
            _ => Err(self.error(place, "only a net has a mask").hint("write net instead of host")),
        }
    }

    fn host_bits(&self, place: Range<usize>, network: impl std::fmt::Display) -> Error {
        self.error(place, "bits are set that the mask does not cover")
            .hint(format!("the network is {network}"))
    }

    fn no_host(&self, said: Qualifiers, place: Range<usize>) -> Error {
        let error = self.error(place, "a header of that protocol has no such address");
        error.hint(format!("write {0} and host ADDRESS", said.keyword))
    }

    fn port(&self, said: Qualifiers, text: &str, place: Range<usize>) -> Result<Expression, Error> {
        let of = match said.protocol {
            None => Ported::Any,
            Some(Protocol::Ip(6)) => Ported::Tcp,
            Some(Protocol::Ip(17)) => Ported::Udp,
            Some(Protocol::Ip(132)) => Ported::Sctp,
            Some(_) => {
                return Err(self
                    .error(place, "this protocol has no ports")
                    .hint("tcp, udp and sctp have"));
            }
        };
        let range = (said.kind == ValueKind::PortRange).then(|| text.split_once('-')).flatten();
        let (from, to) = range.unwrap_or((text, text));
        let (from, first) = self.port_number(from, of, &place)?;
        let (to, last) = self.port_number(to, of, &place)?;
        let of = if first == last { first } else { of };
        Ok(primitive::ports(of, said.direction, from.min(to), from.max(to)))
    }

    /// The number of a port, and the protocols for which it has that name.
    fn port_number(
        &self,
        text: &str,
        of: Ported,
        place: &Range<usize>,
    ) -> Result<(u32, Ported), Error> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return match text.parse::<u16>() {
                Ok(number) => Ok((number.into(), of)),
                Err(_) => Err(self.error(place.clone(), "a port is at most 65535")),
            };
        }
        let Some(service) = names::SERVICES.iter().find(|service| service.0 == text) else {
            let error = self.error(place.clone(), "not a service known here");
            let near = names::nearest(text, names::SERVICES.iter().map(|service| service.0));
            return Err(error.hint(match near {
                Some(near) => format!("did you mean {near}? or give its number"),
                None => "give its number".into(),
            }));
        };
        let only = match service.2 {
            Of::Both => return Ok((service.1.into(), of)),
            Of::Tcp => Ported::Tcp,
            Of::Udp => Ported::Udp,
        };
        if of != Ported::Any && of != only {
            return Err(self
                .error(place.clone(), "this service is of another protocol")
                .hint("give its number if that is what you mean"));
        }
        Ok((service.1.into(), only))
    }

    fn proto(
        &self,
        said: Qualifiers,
        kind: &Kind,
        place: Range<usize>,
    ) -> Result<Expression, Error> {
        let ether = said.protocol == Some(Protocol::Ether);
        let known = if ether { names::ETHERTYPES } else { names::PROTOCOLS };
        let number = match kind {
            Kind::Number(number) => *number,
            Kind::Word(name) if primitive::protocol(name).is_some() => {
                let error = self.error(place, "a keyword, not the name of a protocol");
                return Err(error.hint(format!("write \\{name}, or the number")));
            }
            Kind::Word(name) | Kind::Escaped(name) => {
                let Some(protocol) = known.iter().find(|protocol| protocol.0 == *name) else {
                    let near = names::nearest(name, known.iter().map(|protocol| protocol.0));
                    let error = self.error(place, "not a protocol known here");
                    return Err(error.hint(match near {
                        Some(near) => format!("did you mean {near}? or give its number"),
                        None => "give its number".into(),
                    }));
                };
                protocol.1
            }
            _ => return Err(self.error(place, "not a protocol").hint(said.wanted())),
        };
        match said.protocol {
            Some(Protocol::Ether) if number <= 1500 => Err(self
                .error(place, "an EtherType is more than 1500")
                .hint("frames of IEEE 802.3 are not told apart")),
            Some(Protocol::Ether) => Ok(primitive::ethertype(number)),
            None => Ok(primitive::ip_protocol(number)),
            Some(Protocol::Network(primitive::IPV4)) => Ok(primitive::ipv4_protocol(number)),
            Some(Protocol::Network(primitive::IPV6)) => Ok(primitive::ipv6_protocol(number)),
            Some(_) => Err(self
                .error(place, "this protocol carries no others")
                .hint("proto goes with ether, ip and ip6, or alone")),
        }
    }
}

impl Qualifiers {
    /// What must follow.
    fn wanted(self) -> &'static str {
        match (self.kind, self.protocol) {
            (ValueKind::Port, _) => "a port is a number up to 65535 or the name of a service",
            (ValueKind::PortRange, _) => "a range of ports is written 8000-8080",
            (ValueKind::Proto, _) => "a protocol is a number, or a name such as \\tcp or gre",
            (ValueKind::Net, _) => "a network is written 10.0.0.0/8 or 2001:db8::/32",
            (_, Some(Protocol::Ether)) => "an Ethernet address is written 02:00:00:00:00:01",
            _ => "give an IPv4 or IPv6 address",
        }
    }
}

fn mask_of(length: u32) -> u32 {
    u32::MAX.checked_shl(32 - length).unwrap_or(0)
}
