//! What a filter asks of a packet, as a tree: comparisons, joined by and, or and not.
//!
//! Offsets are those of an Ethernet frame: EtherType at 12, the network header from 14 on.

/// Bytes of an Ethernet header: where the network header begins.
pub(crate) const NETWORK: u32 = 14;

/// A question with the answer yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// The same answer for every packet.
    Constant(bool),
    Test(Test),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

/// A comparison of two numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) left: Arithmetic,
    pub(crate) relation: Relation,
    pub(crate) right: Arithmetic,
}

/// What a comparison asks; the other relations are these, negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Both have a bit in common.
    AnyBit,
}

impl Relation {
    /// The answer for two known numbers.
    pub(crate) fn holds(self, left: u32, right: u32) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::AnyBit => left & right != 0,
        }
    }
}

/// A number computed from a packet: 32 bits without sign, as in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arithmetic {
    Number(u32),
    /// Length of the frame.
    Length,
    /// `size` bytes (1, 2 or 4) in network order, `at` bytes behind `base`.
    Load {
        base: Base,
        at: Box<Arithmetic>,
        size: u8,
    },
    Binary(Operator, Box<Arithmetic>, Box<Arithmetic>),
}

/// What an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    /// This many bytes behind the start of the frame.
    Frame(u32),
    /// The end of the IPv4 header, options included.
    Transport,
}

/// An operator of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

impl Arithmetic {
    /// Words of scratch memory that computing it takes.
    pub(crate) fn scratch(&self) -> usize {
        match self {
            Self::Number(_) | Self::Length => 0,
            Self::Load { at, .. } => at.scratch(),
            Self::Binary(_, left, right) => match **right {
                Self::Number(_) => left.scratch(),
                _ => left.scratch().max(1 + right.scratch()),
            },
        }
    }
}

impl Operator {
    /// The result for two known numbers; `None` for a division by zero.
    pub(crate) fn apply(self, left: u32, right: u32) -> Option<u32> {
        Some(match self {
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide => left.checked_div(right)?,
            Self::Modulo => left.checked_rem(right)?,
            Self::And => left & right,
            Self::Or => left | right,
            Self::Xor => left ^ right,
            Self::ShiftLeft => left.checked_shl(right).unwrap_or(0),
            Self::ShiftRight => left.checked_shr(right).unwrap_or(0),
        })
    }
}

impl Expression {
    pub(crate) fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    pub(crate) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// A comparison of `size` bytes at a fixed place with a number.
    pub(crate) fn bytes(base: Base, at: u32, size: u8, relation: Relation, value: u32) -> Self {
        let left = Arithmetic::Load { base, at: Box::new(Arithmetic::Number(at)), size };
        Self::Test(Test { left, relation, right: Arithmetic::Number(value) })
    }

    /// `size` bytes at a fixed place of the frame equal this.
    pub(crate) fn equal(at: u32, size: u8, value: u32) -> Self {
        Self::bytes(Base::Frame(0), at, size, Relation::Equal, value)
    }

    /// Four bytes at a fixed place of the frame equal this under a mask.
    pub(crate) fn masked(at: u32, mask: u32, value: u32) -> Self {
        if mask == u32::MAX {
            return Self::equal(at, 4, value);
        }
        let at = Box::new(Arithmetic::Number(at));
        let load = Arithmetic::Load { base: Base::Frame(0), at, size: 4 };
        let mask = Arithmetic::Number(mask);
        let left = Arithmetic::Binary(Operator::And, Box::new(load), Box::new(mask));
        Self::Test(Test { left, relation: Relation::Equal, right: Arithmetic::Number(value) })
    }
}
