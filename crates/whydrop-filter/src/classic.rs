//! Classic BPF: the compiled filter, and an interpreter for it.
//!
//! Opcodes and meaning as in `include/uapi/linux/filter.h` and libpcap's `bpf_filter.c`.

use std::fmt;

use crate::expression::Relation;

/// One instruction, as the kernel and libpcap lay it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Opcode.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `A` = packet bytes at `k`; with the size added, see [`size_code`].
pub(crate) const LD_ABS: u16 = 0x20;
/// `A` = packet bytes at `X + k`.
pub(crate) const LD_IND: u16 = 0x40;
/// `A` = length of the packet.
pub(crate) const LD_LEN: u16 = 0x80;
pub(crate) const LD_IMM: u16 = 0x00;
pub(crate) const LD_MEM: u16 = 0x60;
/// `X` = 4 * (packet byte at `k` & 15).
pub(crate) const LDX_MSH: u16 = 0xb1;
pub(crate) const ST: u16 = 0x02;
pub(crate) const TAX: u16 = 0x07;
pub(crate) const RET_K: u16 = 0x06;
pub(crate) const JA: u16 = 0x05;
/// Arithmetic with `k`; with [`SOURCE_X`] with `X`.
pub(crate) const ALU: u16 = 0x04;
pub(crate) const JMP: u16 = 0x05;
pub(crate) const SOURCE_X: u16 = 0x08;

pub(crate) const ADD: u16 = 0x00;
pub(crate) const SUB: u16 = 0x10;
pub(crate) const MUL: u16 = 0x20;
pub(crate) const DIV: u16 = 0x30;
pub(crate) const OR: u16 = 0x40;
pub(crate) const AND: u16 = 0x50;
pub(crate) const LSH: u16 = 0x60;
pub(crate) const RSH: u16 = 0x70;
pub(crate) const NEG: u16 = 0x80;
pub(crate) const MOD: u16 = 0x90;
pub(crate) const XOR: u16 = 0xa0;

/// Words of scratch memory.
pub(crate) const MEMORY: usize = 16;

/// What a program returns for a packet that it accepts.
pub(crate) const ACCEPT: u32 = 0x40000;

/// The bits of a load's opcode that say how many bytes; any number but 1 and 2 is taken for 4.
pub(crate) fn size_code(size: u8) -> u16 {
    match size {
        1 => 0x10,
        2 => 0x08,
        _ => 0x00,
    }
}

/// How many bytes a load takes.
pub(crate) fn size_of(code: u16) -> u32 {
    match code & 0x18 {
        0x10 => 1,
        0x08 => 2,
        _ => 4,
    }
}

/// The relation that a conditional jump asks; `None` for other instructions.
pub(crate) fn relation(code: u16) -> Option<Relation> {
    if code & 0x07 != JMP {
        return None;
    }
    match code & 0xf0 {
        0x10 => Some(Relation::Equal),
        0x20 => Some(Relation::Greater),
        0x30 => Some(Relation::GreaterOrEqual),
        0x40 => Some(Relation::AnyBit),
        _ => None,
    }
}

/// The conditional jump that asks a relation.
pub(crate) fn jump(relation: Relation) -> u16 {
    JMP | match relation {
        Relation::Equal => 0x10,
        Relation::Greater => 0x20,
        Relation::GreaterOrEqual => 0x30,
        Relation::AnyBit => 0x40,
    }
}

/// A compiled filter, over Ethernet frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(crate) instructions: Vec<Instruction>,
}

impl Program {
    /// A program made elsewhere. It is not checked: [`accepts`](Self::accepts) answers no where it
    /// does what no filter may.
    pub fn new(instructions: Vec<Instruction>) -> Self {
        Self { instructions }
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// True if the filter accepts this frame. `length` is that of the frame on the wire, which may
    /// be more than what is at hand.
    pub fn accepts(&self, frame: &[u8], length: u32) -> bool {
        run(&self.instructions, frame, length).unwrap_or(0) != 0
    }
}

impl fmt::Display for Program {
    /// As `tcpdump -ddd` writes it: the number of instructions, then one per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.instructions.len())?;
        for Instruction { code, jt, jf, k } in &self.instructions {
            write!(f, "\n{code} {jt} {jf} {k}")?;
        }
        Ok(())
    }
}

/// The value that a program returns; `None` where it ends without one: a load beyond the packet, a
/// division by zero, a jump beyond its end.
fn run(program: &[Instruction], frame: &[u8], length: u32) -> Option<u32> {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; MEMORY], 0_usize);
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let operand = if code & SOURCE_X == 0 { k } else { x };
        if let Some(relation) = relation(code) {
            at += usize::from(if relation.holds(a, operand) { jt } else { jf });
            continue;
        }
        match code {
            RET_K => return Some(k),
            0x16 => return Some(a),
            JA => at += k as usize,
            LD_IMM => a = k,
            0x01 => x = k,
            LD_LEN => a = length,
            0x81 => x = length,
            LD_MEM => a = *memory.get(k as usize)?,
            0x61 => x = *memory.get(k as usize)?,
            ST => *memory.get_mut(k as usize)? = a,
            0x03 => *memory.get_mut(k as usize)? = x,
            TAX => x = a,
            0x87 => a = x,
            LDX_MSH => x = 4 * (load(frame, k, 1)? & 15),
            _ if code & 0x07 == ALU => a = alu(code & 0xf0, a, operand)?,
            _ if code & 0xe7 == LD_ABS => a = load(frame, k, size_of(code))?,
            _ if code & 0xe7 == LD_IND => a = load(frame, x.wrapping_add(k), size_of(code))?,
            _ => return None,
        }
    }
}

fn load(frame: &[u8], at: u32, size: u32) -> Option<u32> {
    let bytes = frame.get(at as usize..)?.get(..size as usize)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

fn alu(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        MOD => a.checked_rem(operand)?,
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.checked_shl(operand).unwrap_or(0),
        RSH => a.checked_shr(operand).unwrap_or(0),
        NEG => a.wrapping_neg(),
        _ => return None,
    })
}
