//! Classic BPF over a frame to eBPF over a dropped packet.
//!
//! The tracer (`crates/whydrop-probe/bpf/filter.h`) calls the code with
//!
//! | register | what |
//! |---|---|
//! | `r1` | the packet's beginning, copied to the stack: 56 bytes from the network header on, then its address |
//! | `r2` | bytes that are there from that address on, in the packet's linear part |
//! | `r3` | length of the packet as an Ethernet frame |
//! | `r4` | EtherType, host order |
//! | `r5` | address of the Ethernet header, 0 if there is none |
//!
//! and expects in `r0` whether the filter accepts; the code ends by falling off its end. What lies
//! behind the linear part counts as not captured: a load there ends the filter with no, as one behind
//! the end of a packet does.
//!
//! `X` is nearly always the length of an IPv4 header without options: that case has its loads from the
//! copy. What lies behind that is read by a helper, a call of which costs as much as a whole filter.

use std::fmt;

use crate::classic::{self, Instruction, Program};
use crate::expression::{NETWORK, Relation};

/// Bytes of the packet that the tracer has copied (`START_BYTES` in `bpf/read.h`).
const COPIED: u32 = 56;
/// Where behind `r1` the address of the network header is.
const NETWORK_AT: i16 = COPIED as i16;
/// Length of an IPv4 header without options.
const PLAIN_HEADER: u32 = 20;

const LINEAR: u8 = 6;
const X: u8 = 7;
const A: u8 = 8;
const START: u8 = 9;
const FRAME_POINTER: u8 = 10;

/// Places on the stack, from the frame pointer.
const LENGTH_AT: i16 = -8;
const ETHERTYPE_AT: i16 = -16;
const MAC_AT: i16 = -24;
const LOADED_AT: i16 = -32;
const MEMORY_AT: i16 = -96;

const PROBE_READ_KERNEL: i32 = 113;

const MOV64: u8 = 0xbf;
const MOV64_K: u8 = 0xb7;
const ADD64: u8 = 0x0f;
const ADD64_K: u8 = 0x07;
const MOV32: u8 = 0xbc;
const MOV32_K: u8 = 0xb4;
const ALU32: u8 = 0x04;
const BIG_ENDIAN: u8 = 0xdc;
const LOAD: u8 = 0x61;
const LOAD64: u8 = 0x79;
const STORE: u8 = 0x63;
const STORE64: u8 = 0x7b;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
const CALL: u8 = 0x85;
const REGISTER: u8 = 0x08;
const EQUAL: u8 = 0x10;
const GREATER: u8 = 0x20;
const NOT_EQUAL: u8 = 0x50;
const LESS: u8 = 0xa0;
const LESS_OR_EQUAL: u8 = 0xb0;

/// A program that the tracer cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untranslatable {
    why: &'static str,
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for Untranslatable {}

impl Program {
    /// The filter as eBPF, one number per instruction as the kernel of a little-endian machine lays
    /// them out. See the module for what it expects and returns.
    ///
    /// # Errors
    ///
    /// If it looks across the parts of the Ethernet header, which are not in one place, or does what
    /// no compiled filter does. A program from [`compile`](crate::compile) does neither.
    pub fn to_ebpf(&self) -> Result<Vec<u64>, Untranslatable> {
        let mut code = Code::default();
        code.begin(self.instructions());
        for (at, instruction) in self.instructions().iter().enumerate() {
            code.starts.push(code.words.len());
            code.translate(at, *instruction)?;
        }
        code.finish()
    }
}

/// Where a jump leads.
#[derive(Debug, Clone, Copy)]
enum Label {
    /// The code of an instruction of the classic program.
    Classic(usize),
    Reject,
    End,
}

#[derive(Default)]
struct Code {
    words: Vec<u64>,
    /// Where the code of each classic instruction begins.
    starts: Vec<usize>,
    jumps: Vec<(usize, Label)>,
}

impl Code {
    fn emit(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.words.push(
            u64::from(code)
                | u64::from(to) << 8
                | u64::from(from) << 12
                | u64::from(offset.cast_unsigned()) << 16
                | u64::from(immediate.cast_unsigned()) << 32,
        );
    }

    fn jump(&mut self, code: u8, left: u8, right: u8, immediate: u32, to: Label) {
        self.jumps.push((self.words.len(), to));
        self.emit(code, left, right, 0, immediate.cast_signed());
    }

    fn goto(&mut self, to: Label) {
        self.jump(JUMP, 0, 0, 0, to);
    }

    /// Saves what calls would lose.
    fn begin(&mut self, program: &[Instruction]) {
        self.emit(MOV64, LINEAR, 2, 0, 0);
        self.emit(MOV64, START, 1, 0, 0);
        let uses = |wanted: fn(&Instruction) -> bool| program.iter().any(wanted);
        if uses(|one| one.code == classic::LD_LEN) {
            self.emit(STORE64, FRAME_POINTER, 3, LENGTH_AT, 0);
        }
        if uses(|one| is_absolute(one.code) && (12..NETWORK).contains(&one.k)) {
            self.emit(STORE64, FRAME_POINTER, 4, ETHERTYPE_AT, 0);
        }
        if uses(|one| is_absolute(one.code) && one.k < 12) {
            self.emit(STORE64, FRAME_POINTER, 5, MAC_AT, 0);
        }
    }

    fn translate(&mut self, at: usize, instruction: Instruction) -> Result<(), Untranslatable> {
        let Instruction { code, jt, jf, k } = instruction;
        let behind = |distance: u32| Label::Classic(at + 1 + distance as usize);
        if let Some(relation) = classic::relation(code) {
            let (source, register) =
                if code & classic::SOURCE_X == 0 { (0, 0) } else { (REGISTER, X) };
            let k = if source == 0 { k } else { 0 };
            self.jump(JUMP32 | relation_code(relation) | source, A, register, k, behind(jt.into()));
            if jf > 0 {
                self.goto(behind(jf.into()));
            }
            return Ok(());
        }
        match code {
            classic::RET_K => {
                if k == 0 {
                    self.goto(Label::Reject);
                } else {
                    self.emit(MOV32_K, 0, 0, 0, 1);
                    self.goto(Label::End);
                }
            }
            classic::JA => self.goto(behind(k)),
            classic::LD_IMM => self.emit(MOV32_K, A, 0, 0, k.cast_signed()),
            classic::LD_LEN => self.emit(LOAD, A, FRAME_POINTER, LENGTH_AT, 0),
            classic::LD_MEM => self.emit(LOAD, A, FRAME_POINTER, memory_at(k)?, 0),
            classic::ST => self.emit(STORE, FRAME_POINTER, A, memory_at(k)?, 0),
            classic::TAX => self.emit(MOV32, X, A, 0, 0),
            classic::LDX_MSH => self.header_length(k)?,
            _ if code & 0x07 == classic::ALU => self.arithmetic(code, k),
            _ if is_absolute(code) => self.load(k, classic::size_of(code))?,
            _ if code & 0xe7 == classic::LD_IND => self.load_indexed(k, classic::size_of(code)),
            _ => return Err(Untranslatable { why: "no filter has this instruction" }),
        }
        Ok(())
    }

    fn arithmetic(&mut self, code: u16, k: u32) {
        let operation = (code & 0xf0) as u8;
        if code & classic::SOURCE_X == 0 {
            self.emit(ALU32 | operation, A, 0, 0, k.cast_signed());
            return;
        }
        match code & 0xf0 {
            classic::DIV | classic::MOD => self.jump(JUMP32 | EQUAL, X, 0, 0, Label::Reject),
            classic::LSH | classic::RSH => {
                self.emit(JUMP32 | LESS_OR_EQUAL, X, 0, 2, 31);
                self.emit(MOV32_K, A, 0, 0, 0);
                self.emit(JUMP, 0, 0, 1, 0);
            }
            _ => {}
        }
        self.emit(ALU32 | operation | REGISTER, A, X, 0, 0);
    }

    /// `X` = length of the IPv4 header; `A` stays as it is.
    fn header_length(&mut self, k: u32) -> Result<(), Untranslatable> {
        let offset = k.checked_sub(NETWORK);
        let Some(offset) = offset.filter(|offset| *offset < COPIED) else {
            return Err(Untranslatable { why: "it takes a header's length from elsewhere" });
        };
        self.load_network(offset, 1, X);
        self.emit(ALU32 | classic::AND as u8, X, 0, 0, 0x0f);
        self.emit(ALU32 | classic::LSH as u8, X, 0, 0, 2);
        Ok(())
    }

    /// `A` = bytes at a fixed place of the frame.
    fn load(&mut self, k: u32, size: u32) -> Result<(), Untranslatable> {
        match k {
            12 if size == 2 => self.emit(LOAD, A, FRAME_POINTER, ETHERTYPE_AT, 0),
            12 | 13 if size == 1 => {
                self.emit(LOAD, A, FRAME_POINTER, ETHERTYPE_AT, 0);
                if k == 12 {
                    self.emit(ALU32 | classic::RSH as u8, A, 0, 0, 8);
                }
                self.emit(ALU32 | classic::AND as u8, A, 0, 0, 0xff);
            }
            NETWORK.. => self.load_network(k - NETWORK, size, A),
            _ if k + size <= 12 => {
                self.emit(LOAD64, 3, FRAME_POINTER, MAC_AT, 0);
                self.jump(JUMP | EQUAL, 3, 0, 0, Label::Reject);
                self.emit(ADD64_K, 3, 0, 0, k.cast_signed());
                self.read(size, A);
            }
            _ => {
                return Err(Untranslatable {
                    why: "it looks across the parts of the Ethernet header",
                });
            }
        }
        Ok(())
    }

    /// Bytes at a fixed place behind the network header.
    fn load_network(&mut self, offset: u32, size: u32, to: u8) {
        let end = offset.saturating_add(size);
        self.jump(JUMP | LESS, LINEAR, 0, end.min(i32::MAX as u32), Label::Reject);
        if end <= COPIED {
            self.take_copied(offset, size, to);
        } else {
            self.emit(LOAD64, 3, START, NETWORK_AT, 0);
            self.emit(ADD64_K, 3, 0, 0, offset.min(i32::MAX as u32).cast_signed());
            self.read(size, to);
        }
    }

    /// `A` = bytes at `X + k`.
    fn load_indexed(&mut self, k: u32, size: u32) {
        let plain = k.checked_sub(NETWORK).map(|offset| offset.saturating_add(PLAIN_HEADER));
        let plain = plain.filter(|offset| offset.saturating_add(size) <= COPIED);
        let mut done = None;
        if let Some(offset) = plain {
            let branch = self.words.len();
            self.emit(JUMP32 | NOT_EQUAL, X, 0, 0, PLAIN_HEADER.cast_signed());
            self.load_network(offset, size, A);
            done = Some(self.words.len());
            self.emit(JUMP, 0, 0, 0, 0);
            self.lead_here(branch);
        }
        // The sum wraps at 32 bits, as in classic BPF; a place in the Ethernet header is refused.
        self.emit(MOV32, 1, X, 0, 0);
        self.emit(ALU32, 1, 0, 0, k.cast_signed());
        self.jump(JUMP32 | LESS, 1, 0, NETWORK, Label::Reject);
        self.emit(ADD64_K, 1, 0, 0, -NETWORK.cast_signed());
        self.emit(MOV64, 2, 1, 0, 0);
        self.emit(ADD64_K, 2, 0, 0, size.cast_signed());
        self.jump(JUMP | GREATER | REGISTER, 2, LINEAR, 0, Label::Reject);
        self.emit(LOAD64, 3, START, NETWORK_AT, 0);
        self.emit(ADD64, 3, 1, 0, 0);
        self.read(size, A);
        if let Some(done) = done {
            self.lead_here(done);
        }
    }

    /// Makes a jump that was emitted lead to what comes next.
    fn lead_here(&mut self, jump: usize) {
        let distance = (self.words.len() - jump - 1) as u16;
        self.words[jump] |= u64::from(distance) << 16;
    }

    /// Bytes of the copy, in pieces that are aligned: the verifier takes no others from the stack.
    fn take_copied(&mut self, offset: u32, size: u32, to: u8) {
        let piece = match (size, offset % 4) {
            (4, 0) => 4,
            (4, 2) | (2, 0 | 2) => 2,
            _ => 1,
        };
        self.load_piece(offset, piece, to);
        for at in (offset + piece..offset + size).step_by(piece as usize) {
            self.emit(ALU32 | classic::LSH as u8, to, 0, 0, piece.cast_signed() * 8);
            self.load_piece(at, piece, 1);
            self.emit(ALU32 | classic::OR as u8 | REGISTER, to, 1, 0, 0);
        }
    }

    fn load_piece(&mut self, offset: u32, size: u32, to: u8) {
        self.load_stack(START, offset as i16, size, to);
    }

    fn load_stack(&mut self, base: u8, at: i16, size: u32, to: u8) {
        self.emit(LOAD | classic::size_code(size as u8) as u8, to, base, at, 0);
        if size > 1 {
            self.emit(BIG_ENDIAN, to, 0, 0, size.cast_signed() * 8);
        }
    }

    /// Bytes at the address in `r3`.
    fn read(&mut self, size: u32, to: u8) {
        self.emit(MOV64, 1, FRAME_POINTER, 0, 0);
        self.emit(ADD64_K, 1, 0, 0, LOADED_AT.into());
        self.emit(MOV64_K, 2, 0, 0, size.cast_signed());
        self.emit(CALL, 0, 0, 0, PROBE_READ_KERNEL);
        self.jump(JUMP | NOT_EQUAL, 0, 0, 0, Label::Reject);
        self.load_stack(FRAME_POINTER, LOADED_AT, size, to);
    }

    /// Puts the end behind all and the distances into the jumps.
    fn finish(mut self) -> Result<Vec<u64>, Untranslatable> {
        let reject = self.words.len();
        self.emit(MOV32_K, 0, 0, 0, 0);
        let end = self.words.len();
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = match label {
                Label::Classic(number) => self.starts.get(number).copied(),
                Label::Reject => Some(reject),
                Label::End => Some(end),
            };
            let distance = target.and_then(|target| i16::try_from(target - at - 1).ok());
            let Some(distance) = distance else {
                return Err(Untranslatable { why: "it is too long" });
            };
            self.words[at] |= u64::from(distance.cast_unsigned()) << 16;
        }
        Ok(self.words)
    }
}

fn is_absolute(code: u16) -> bool {
    code & 0xe7 == classic::LD_ABS
}

fn relation_code(relation: Relation) -> u8 {
    (classic::jump(relation) & 0xf0) as u8
}

fn memory_at(word: u32) -> Result<i16, Untranslatable> {
    if word as usize >= classic::MEMORY {
        return Err(Untranslatable { why: "it uses more scratch memory than there is" });
    }
    Ok(MEMORY_AT + 4 * word as i16)
}
