//! Arithmetic on a packet's bytes: `tcp[tcpflags] & (tcp-syn|tcp-ack)`.
//!
//! Operators bind as in libpcap's grammar (`grammar.y`, 1.10). `%` and `^` have no rank there, so
//! that they take all that follows: `a % b + c` is `a % (b + c)`.

use crate::Error;
use crate::classic;
use crate::expression::{Arithmetic, Expression, Operator, Relation, Test};
use crate::lexer::Kind;
use crate::names;
use crate::parser::Parser;
use crate::primitive::{self, Protocol};

/// Binds closer than any operator that has a rank.
const UNARY: u8 = 6;
/// Of operators without a rank: always first, whatever stands before.
const UNRANKED: u8 = 7;

/// Beyond, an offset is a mistake: no frame is as long.
const MOST_OFFSET: u32 = 0xffff;

impl Parser<'_> {
    /// `arithmetic relation arithmetic`, with what must hold before its bytes are looked at.
    pub(crate) fn relation(&mut self) -> Result<Expression, Error> {
        let mut checks = Vec::new();
        let left = self.arithmetic(0, &mut checks)?;
        let place = self.place();
        let (relation, negated) = match self.symbol() {
            Some("=") => (Relation::Equal, false),
            Some("!=") => (Relation::Equal, true),
            Some(">") => (Relation::Greater, false),
            Some("<=") => (Relation::Greater, true),
            Some(">=") => (Relation::GreaterOrEqual, false),
            Some("<") => (Relation::GreaterOrEqual, true),
            _ => {
                let error = self.error(place, "a comparison is missing");
                return Err(error.hint("compare with =, !=, <, <=, > or >="));
            }
        };
        self.advance();
        let right = self.arithmetic(0, &mut checks)?;
        if left.scratch().max(1 + right.scratch()) > classic::MEMORY {
            return Err(self.error(place, "this is too much arithmetic to compare at once"));
        }
        let test = match (&left, &right) {
            (Arithmetic::Number(left), Arithmetic::Number(right)) => {
                Expression::Constant(relation.holds(*left, *right))
            }
            _ => Expression::Test(Test { left, relation, right }),
        };
        let test = if negated { test.not() } else { test };
        Ok(match checks.into_iter().reduce(Expression::and) {
            Some(checks) => checks.and(test),
            None => test,
        })
    }

    /// What operators of at least this rank join.
    fn arithmetic(&mut self, least: u8, checks: &mut Vec<Expression>) -> Result<Arithmetic, Error> {
        let mut left = self.operand(checks)?;
        while let Some((operator, rank, behind)) = self.symbol().and_then(operator) {
            if rank < least {
                break;
            }
            let place = self.place();
            self.advance();
            // libpcap checks the protocol of what stands on the left alone, and so must this.
            let right = self.arithmetic(behind, &mut Vec::new())?;
            left = match (operator, &left, &right) {
                (Operator::Divide | Operator::Modulo, _, Arithmetic::Number(0)) => {
                    return Err(self.error(place, "division by zero"));
                }
                (Operator::ShiftLeft | Operator::ShiftRight, _, Arithmetic::Number(32..)) => {
                    return Err(self.error(place, "shift by more than 31 bits"));
                }
                (_, Arithmetic::Number(left), Arithmetic::Number(right)) => {
                    Arithmetic::Number(operator.apply(*left, *right).unwrap_or(0))
                }
                _ => Arithmetic::Binary(operator, Box::new(left), Box::new(right)),
            };
        }
        Ok(left)
    }

    fn operand(&mut self, checks: &mut Vec<Expression>) -> Result<Arithmetic, Error> {
        let place = self.place();
        let kind = self.peek().cloned();
        match kind {
            Some(Kind::Number(number)) => {
                self.advance();
                Ok(Arithmetic::Number(number))
            }
            Some(Kind::Symbol("-")) => {
                self.advance();
                let operand = self.arithmetic(UNARY, checks)?;
                Ok(match operand {
                    Arithmetic::Number(number) => Arithmetic::Number(number.wrapping_neg()),
                    other => {
                        let zero = Box::new(Arithmetic::Number(0));
                        Arithmetic::Binary(Operator::Subtract, zero, Box::new(other))
                    }
                })
            }
            Some(Kind::Symbol("(")) => {
                self.enter()?;
                let inner = self.arithmetic(0, checks)?;
                self.leave()?;
                Ok(inner)
            }
            Some(Kind::Word(word)) if word == "len" => {
                self.advance();
                Ok(Arithmetic::Length)
            }
            Some(Kind::Word(word)) => {
                if let Some(number) = names::constant(&word) {
                    self.advance();
                    return Ok(Arithmetic::Number(number));
                }
                if let Some(protocol) = primitive::protocol(&word) {
                    self.advance();
                    return self.index(protocol, checks);
                }
                Err(self.error(place, "not a number"))
            }
            _ => Err(self.error(place, "a number is missing")),
        }
    }

    /// `[offset]` or `[offset:size]` behind the name of a protocol.
    fn index(
        &mut self,
        protocol: Protocol,
        checks: &mut Vec<Expression>,
    ) -> Result<Arithmetic, Error> {
        let place = self.place();
        if self.symbol() != Some("[") {
            let error = self.error(place, "[ is missing");
            return Err(error.hint("bytes of a packet are written like tcp[13] or ip[2:2]"));
        }
        self.enter()?;
        let Some((check, base)) = primitive::payload(protocol) else {
            return Err(self.error(place, "bytes of this protocol cannot be looked at"));
        };
        let from = self.place();
        let mut inner = Vec::new();
        let at = self.arithmetic(0, &mut inner)?;
        let mut size = 1;
        if self.symbol() == Some(":") {
            self.advance();
            let place = self.place();
            size = match self.peek() {
                Some(Kind::Number(size @ (1 | 2 | 4))) => *size as u8,
                _ => return Err(self.error(place, "the number of bytes must be 1, 2 or 4")),
            };
            self.advance();
        }
        let place = from.start..self.place().start;
        self.close("]")?;
        match (&at, protocol) {
            (Arithmetic::Number(number), _) if *number > MOST_OFFSET => {
                return Err(self.error(place, "no packet is as long as this offset"));
            }
            (Arithmetic::Number(number), Protocol::Ether) => {
                let end = number + u32::from(size);
                if (*number < 12 && end > 12) || (*number < 14 && end > 14) {
                    return Err(self
                        .error(place, "these bytes cross the end of an address or of the EtherType")
                        .hint("the kernel keeps them apart; ask for each of them"));
                }
            }
            (_, Protocol::Ether) => {
                return Err(self
                    .error(place, "an offset into the Ethernet header must be a number")
                    .hint("dropped packets often have none; use ip[...] or ip6[...]"));
            }
            _ => {}
        }
        // As libpcap has it: first what the index needs, then what the load needs.
        checks.append(&mut inner);
        checks.extend(check);
        Ok(Arithmetic::Load { base, at: Box::new(at), size })
    }
}

/// An operator, its rank, and the least rank of what it takes on its right.
fn operator(symbol: &str) -> Option<(Operator, u8, u8)> {
    let (operator, rank) = match symbol {
        "|" => (Operator::Or, 1),
        "&" => (Operator::And, 2),
        "<<" => (Operator::ShiftLeft, 3),
        ">>" => (Operator::ShiftRight, 3),
        "+" => (Operator::Add, 4),
        "-" => (Operator::Subtract, 4),
        "*" => (Operator::Multiply, 5),
        "/" => (Operator::Divide, 5),
        "%" => return Some((Operator::Modulo, UNRANKED, 0)),
        "^" => return Some((Operator::Xor, UNRANKED, 0)),
        _ => return None,
    };
    Some((operator, rank, rank + 1))
}
