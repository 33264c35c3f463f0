//! Words to a tree of questions, by libpcap's grammar (`grammar.y`, 1.10).
//!
//! `and` and `or` have the same rank and group from the left; `not` binds closer. A value alone
//! repeats what was said of the one before it: `port 80 or 443`, `not host a and b`.

use std::ops::Range;

use crate::Error;
use crate::expression::{Arithmetic, Expression, Relation, Test};
use crate::lexer::{Kind, Token};
use crate::names;
use crate::primitive::{self, Direction, Protocol};

mod value;

/// Brackets within brackets, at most.
const DEPTH: usize = 64;

/// Words of an expression, at most.
const WORDS: usize = 2048;

/// What is said of a value: `tcp src port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Qualifiers {
    protocol: Option<Protocol>,
    /// Its keyword, to speak of it.
    keyword: &'static str,
    direction: Direction,
    kind: ValueKind,
}

/// What kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    /// Nothing was said: a host.
    Unsaid,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// Keywords of tcpdump that are refused, and what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("vlan", "the kernel takes the tag off before most drops; use --dev with the VLAN's device"),
    ("mpls", "labels are not looked at; filter by the outer header"),
    ("pppoed", "PPPoE is not looked into; filter by `ether proto 0x8863`"),
    ("pppoes", "PPPoE is not looked into; filter by `ether proto 0x8864`"),
    ("geneve", "tunnels are not looked into; filter by `udp port 6081`"),
    ("vxlan", "tunnels are not looked into; filter by `udp port 4789`"),
    ("gateway", "names are not resolved; use `ether host ADDRESS`"),
    ("inbound", "a drop has no such direction; use --site or --dev"),
    ("outbound", "a drop has no such direction; use --site or --dev"),
    ("ifindex", "use --dev with the device's name"),
    ("ifname", "use --dev"),
    ("on", "use --dev"),
    ("protochain", "chains of IPv6 headers are not followed; use `ip6 proto NUMBER`"),
    ("gre", "write `proto gre`"),
];

/// All other words that mean something at the start of a condition, to guess what was meant.
const KEYWORDS: &[&str] = &[
    "host",
    "net",
    "port",
    "portrange",
    "proto",
    "src",
    "dst",
    "less",
    "greater",
    "broadcast",
    "multicast",
    "len",
    "ether",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "esp",
    "ah",
    "pim",
    "vrrp",
];

/// The words, and how far they have been read.
pub(crate) struct Parser<'t> {
    text: &'t str,
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

/// The tree of a whole expression.
pub(crate) fn parse(text: &str, tokens: &[Token]) -> Result<Expression, Error> {
    if tokens.is_empty() {
        return Ok(Expression::Constant(true));
    }
    if let Some(token) = tokens.get(WORDS) {
        return Err(Error::new(text, token.place.clone(), "the filter is too long"));
    }
    let mut parser = Parser { text, tokens, at: 0, depth: 0 };
    let (tree, _) = parser.expression(None)?;
    match parser.peek() {
        None => Ok(tree),
        Some(Kind::Symbol(")")) => Err(parser.error(parser.place(), "there is no ( before this")),
        Some(_) => Err(parser
            .error(parser.place(), "a filter does not go on like this")
            .hint("join conditions with `and` or `or`")),
    }
}

impl Parser<'_> {
    pub(crate) fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn peek_at(&self, ahead: usize) -> Option<&Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    /// The symbol that comes next, if it is one.
    pub(crate) fn symbol(&self) -> Option<&'static str> {
        match self.peek() {
            Some(Kind::Symbol(symbol)) => Some(symbol),
            _ => None,
        }
    }

    /// The word that comes next, if it is one.
    fn word(&self) -> Option<&str> {
        match self.peek() {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn advance(&mut self) {
        self.at += 1;
    }

    /// The bytes of what comes next.
    pub(crate) fn place(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        self.tokens.get(self.at).map_or(end..end, |token| token.place.clone())
    }

    pub(crate) fn error(&self, place: Range<usize>, message: &str) -> Error {
        Error::new(self.text, place, message)
    }

    /// Steps over an opening bracket.
    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(self.place(), "too many brackets within brackets"));
        }
        self.advance();
        Ok(())
    }

    /// Steps over the bracket that closes the last one opened.
    pub(crate) fn close(&mut self, bracket: &'static str) -> Result<(), Error> {
        if self.symbol() != Some(bracket) {
            return Err(self.error(self.place(), &format!("{bracket} is missing")));
        }
        self.depth -= 1;
        self.advance();
        Ok(())
    }

    /// Steps over `)`.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        self.close(")")
    }

    /// Conditions joined by `and` and `or`; also what was said last of a value.
    fn expression(
        &mut self,
        said: Option<Qualifiers>,
    ) -> Result<(Expression, Option<Qualifiers>), Error> {
        let (mut left, mut said) = self.term(said)?;
        while let Some(join) = self.join() {
            self.advance();
            let (right, last) =
                if self.begins_value() { self.repeated(said)? } else { self.term(said)? };
            left = join(left, right);
            said = last;
        }
        Ok((left, said))
    }

    fn join(&self) -> Option<fn(Expression, Expression) -> Expression> {
        match self.peek() {
            Some(Kind::And) => Some(Expression::and),
            Some(Kind::Or) => Some(Expression::or),
            _ => None,
        }
    }

    /// True if what comes is a value without a word that says of what, behind any `not` and `(`.
    fn begins_value(&self) -> bool {
        let mut ahead = 0;
        while let Some(Kind::Not | Kind::Symbol("(")) = self.peek_at(ahead) {
            ahead += 1;
        }
        match self.peek_at(ahead) {
            Some(Kind::Dotted(_) | Kind::Ipv6(_) | Kind::Mac(_) | Kind::Escaped(_)) => true,
            // A number may also begin a comparison.
            Some(Kind::Number(_)) => {
                matches!(
                    self.peek_at(ahead + 1),
                    None | Some(Kind::And | Kind::Or | Kind::Symbol(")"))
                ) && !self.is_comparison()
            }
            Some(Kind::Word(word)) => !is_keyword(word),
            _ => false,
        }
    }

    /// True if a comparison begins here.
    fn is_comparison(&self) -> bool {
        let mut ahead =
            Self { text: self.text, tokens: self.tokens, at: self.at, depth: self.depth };
        ahead.relation().is_ok()
    }

    /// A value that repeats what was said of the one before.
    fn repeated(
        &mut self,
        said: Option<Qualifiers>,
    ) -> Result<(Expression, Option<Qualifiers>), Error> {
        let Some(qualifiers) = said else {
            let place = self.place();
            if let Some(word) = self.word() {
                return Err(self.unknown(place.clone(), word));
            }
            return Err(self.error(place, "nothing says what this value is").hint(
                "put host, net or port before it; only after one of these may a value stand alone",
            ));
        };
        Ok((self.value(qualifiers)?, said))
    }

    /// A value, or several in brackets.
    fn value(&mut self, said: Qualifiers) -> Result<Expression, Error> {
        match self.peek() {
            Some(Kind::Not) => {
                let negated = self.negated();
                let value = self.value(said)?;
                Ok(if negated { value.not() } else { value })
            }
            Some(Kind::Symbol("(")) => {
                self.enter()?;
                let mut left = self.value(said)?;
                while let Some(join) = self.join() {
                    self.advance();
                    left = join(left, self.value(said)?);
                }
                self.leave()?;
                Ok(left)
            }
            _ => self.one_value(said),
        }
    }

    /// Steps over every `not`; true if they are an odd number.
    fn negated(&mut self) -> bool {
        let mut negated = false;
        while self.peek() == Some(&Kind::Not) {
            self.advance();
            negated = !negated;
        }
        negated
    }

    /// One condition.
    fn term(
        &mut self,
        said: Option<Qualifiers>,
    ) -> Result<(Expression, Option<Qualifiers>), Error> {
        if self.negated() {
            let (inner, said) =
                if self.begins_value() { self.repeated(said)? } else { self.term(said)? };
            return Ok((inner.not(), said));
        }
        if self.symbol() == Some("(") && !self.is_comparison() {
            self.enter()?;
            let (inner, _) = self.expression(said)?;
            self.leave()?;
            return Ok((inner, said));
        }
        let place = self.place();
        match self.peek() {
            None => Err(self.error(place, "a condition is missing")),
            Some(Kind::Word(word)) => {
                let word = word.clone();
                self.condition(&word, place)
            }
            Some(Kind::Number(_) | Kind::Symbol("(" | "-")) if self.begins_value() => {
                self.repeated(None)
            }
            Some(Kind::Number(_) | Kind::Symbol("(" | "-")) => Ok((self.relation()?, None)),
            Some(Kind::Dotted(_) | Kind::Ipv6(_) | Kind::Mac(_) | Kind::Escaped(_)) => {
                self.repeated(None)
            }
            Some(_) => Err(self.error(place, "a condition is missing before this")),
        }
    }

    /// A condition that begins with a word.
    fn condition(
        &mut self,
        word: &str,
        place: Range<usize>,
    ) -> Result<(Expression, Option<Qualifiers>), Error> {
        if let Some((_, instead)) = UNSUPPORTED.iter().find(|(keyword, _)| *keyword == word) {
            return Err(self.error(place, "not supported").hint(*instead));
        }
        match word {
            "less" | "greater" => return Ok((self.length(word == "less")?, None)),
            "len" => return Ok((self.relation()?, None)),
            _ if names::constant(word).is_some() => return Ok((self.relation()?, None)),
            _ => {}
        }
        let protocol = primitive::protocol(word);
        if protocol.is_some() {
            if self.peek_at(1) == Some(&Kind::Symbol("[")) {
                return Ok((self.relation()?, None));
            }
            self.advance();
        }
        let keyword = KEYWORDS.iter().find(|known| **known == word).copied().unwrap_or("link");
        if let Some(qualifiers) = self.qualifiers(protocol, keyword)? {
            return Ok((self.value(qualifiers)?, Some(qualifiers)));
        }
        match (self.word(), protocol) {
            (Some(cast @ ("broadcast" | "multicast")), _) => {
                let broadcast = cast == "broadcast";
                let place = self.place();
                self.advance();
                Ok((self.cast(protocol, broadcast, place)?, None))
            }
            (_, Some(protocol)) => match primitive::is(protocol) {
                Some(is) => Ok((is, None)),
                None => Err(self
                    .error(self.place(), "`ether` alone says nothing")
                    .hint("ether host, ether proto, ether broadcast, ether multicast")),
            },
            (_, None) => Err(self.unknown(place, word)),
        }
    }

    /// A word that is none of the language.
    fn unknown(&self, place: Range<usize>, word: &str) -> Error {
        let error = self.error(place, "not a word of the filter language");
        match names::nearest(word, KEYWORDS.iter().copied()) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => {
                error.hint("names of hosts are not resolved: give the address, as in host 10.0.0.7")
            }
        }
    }

    /// `src`, `dst or src`, then `host`, `net`, `port`, `portrange` or `proto`; `None` if none of
    /// them comes.
    fn qualifiers(
        &mut self,
        protocol: Option<Protocol>,
        keyword: &'static str,
    ) -> Result<Option<Qualifiers>, Error> {
        let direction = self.direction();
        let kind = match self.word() {
            Some("host") => ValueKind::Host,
            Some("net") => ValueKind::Net,
            Some("port") => ValueKind::Port,
            Some("portrange") => ValueKind::PortRange,
            Some("proto") if direction.is_none() => ValueKind::Proto,
            Some("protochain" | "gateway") => {
                let word = self.word().unwrap_or_default().to_owned();
                self.condition(&word, self.place())?;
                ValueKind::Unsaid
            }
            _ if direction.is_none() => return Ok(None),
            _ => ValueKind::Unsaid,
        };
        if kind != ValueKind::Unsaid {
            self.advance();
        }
        let direction = direction.unwrap_or_default();
        Ok(Some(Qualifiers { protocol, keyword, direction, kind }))
    }

    fn direction(&mut self) -> Option<Direction> {
        let one = |kind: Option<&Kind>| match kind {
            Some(Kind::Word(word)) if word == "src" => Some(Direction::Source),
            Some(Kind::Word(word)) if word == "dst" => Some(Direction::Destination),
            _ => None,
        };
        let first = one(self.peek())?;
        let second = one(self.peek_at(2)).filter(|second| *second != first);
        let both = match self.peek_at(1) {
            Some(Kind::Or) => Direction::Either,
            Some(Kind::And) => Direction::Both,
            _ => {
                self.advance();
                return Some(first);
            }
        };
        if second.is_none() {
            self.advance();
            return Some(first);
        }
        self.at += 3;
        Some(both)
    }

    /// `less N` is `len <= N`, `greater N` is `len >= N`.
    fn length(&mut self, less: bool) -> Result<Expression, Error> {
        self.advance();
        let place = self.place();
        let Some(Kind::Number(number)) = self.peek() else {
            return Err(self.error(place, "a length is missing"));
        };
        let relation = if less { Relation::Greater } else { Relation::GreaterOrEqual };
        let right = Arithmetic::Number(*number);
        let test = Expression::Test(Test { left: Arithmetic::Length, relation, right });
        self.advance();
        Ok(if less { test.not() } else { test })
    }

    /// `broadcast` or `multicast`, of a protocol.
    fn cast(
        &self,
        protocol: Option<Protocol>,
        broadcast: bool,
        place: Range<usize>,
    ) -> Result<Expression, Error> {
        match (protocol, broadcast) {
            (None | Some(Protocol::Ether), true) => {
                Ok(primitive::mac(Direction::Destination, [0xff; 6]))
            }
            (None | Some(Protocol::Ether), false) => Ok(primitive::ether_multicast()),
            (Some(Protocol::Network(primitive::IPV4)), false) => Ok(primitive::ipv4_multicast()),
            (Some(Protocol::Network(primitive::IPV6)), false) => Ok(primitive::ipv6_multicast()),
            (Some(Protocol::Network(primitive::IPV4)), true) => Err(self
                .error(place, "the netmask that this needs is not known")
                .hint("use `dst host` with the broadcast address, or `ether broadcast`")),
            _ => Err(self.error(place, "this protocol has no such addresses")),
        }
    }
}

/// True for words that begin a condition of their own.
fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
        || primitive::protocol(word).is_some()
        || names::constant(word).is_some()
        || UNSUPPORTED.iter().any(|(keyword, _)| *keyword == word && *keyword != "gre")
}

#[cfg(test)]
mod tests;
