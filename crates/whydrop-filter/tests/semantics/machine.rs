//! An interpreter of eBPF, as far as translated filters use it, strict about what the verifier is
//! strict about: what is read was written, the stack is aligned, jumps go forward.

const STACK: u64 = 0x7000_0000_0000;
const STACK_BYTES: usize = 512;
/// Where in it the caller has the packet's beginning, and what comes of it: bytes, then their address.
const START: usize = STACK_BYTES - 64;
const COPIED: usize = 56;
const NETWORK: u64 = 0x1_0000_0000;
const MAC: u64 = 0x2_0000_0000;
/// What lies behind the linear part.
const FOREIGN: u8 = 0xa5;

/// A dropped packet as the tracer has it.
pub(crate) struct Packet {
    /// What can be read from the network header on, and more.
    network: Vec<u8>,
    linear: u64,
    length: u64,
    ethertype: u64,
    mac: Option<Vec<u8>>,
}

impl Packet {
    /// The packet of a frame of which `there` bytes are in the linear part.
    pub(crate) fn new(frame: &[u8], there: usize, has_mac: bool) -> Self {
        let mut network = frame[14..there].to_vec();
        network.resize(network.len() + 320, FOREIGN);
        Self {
            linear: (there - 14) as u64,
            network,
            length: frame.len() as u64,
            ethertype: u64::from(frame[12]) << 8 | u64::from(frame[13]),
            mac: has_mac.then(|| frame[..14].to_vec()),
        }
    }

    fn read(&self, address: u64, size: usize) -> Option<&[u8]> {
        let (bytes, at) = match address {
            MAC.. => (self.mac.as_ref()?, address - MAC),
            NETWORK.. => (&self.network, address - NETWORK),
            _ => return None,
        };
        bytes.get(at as usize..)?.get(..size)
    }
}

struct Machine<'p> {
    registers: [Option<u64>; 11],
    stack: [Option<u8>; STACK_BYTES],
    packet: &'p Packet,
}

/// Runs the code; true if it accepts the packet.
pub(crate) fn run(code: &[u64], packet: &Packet) -> Result<bool, String> {
    let mac = if packet.mac.is_some() { MAC } else { 0 };
    let start = STACK + START as u64;
    let arguments = [start, packet.linear, packet.length, packet.ethertype, mac];
    let mut machine = Machine { registers: [None; 11], stack: [None; STACK_BYTES], packet };
    for (register, value) in arguments.into_iter().enumerate() {
        machine.registers[register + 1] = Some(value);
    }
    let copied = packet.network[..COPIED].iter().copied().chain(NETWORK.to_le_bytes());
    for (there, byte) in machine.stack[START..].iter_mut().zip(copied) {
        *there = Some(byte);
    }
    machine.registers[10] = Some(start);
    let mut at = 0;
    while at < code.len() {
        let skip = machine.step(code[at]).map_err(|why| format!("instruction {at}: {why}"))?;
        at += 1 + usize::from(skip);
    }
    if at > code.len() {
        return Err("a jump beyond the end".into());
    }
    machine.get(0).map(|value| value != 0)
}

impl Machine<'_> {
    fn get(&self, register: usize) -> Result<u64, String> {
        self.registers[register].ok_or_else(|| format!("r{register} was never written"))
    }

    /// One instruction; how many to skip after it.
    fn step(&mut self, word: u64) -> Result<u16, String> {
        let (code, to, from) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
        let (offset, immediate) = ((word >> 16) as u16, (word >> 32) as u32);
        match code & 7 {
            1 => self.load(code, to, from, offset)?,
            3 => self.store(code, to, from, offset)?,
            4 | 7 => self.arithmetic(code, to, from, immediate)?,
            5 if code == 0x85 => self.call(immediate)?,
            5 | 6 => return self.jump(code, to, from, offset, immediate),
            _ => return Err(format!("opcode {code:#x}")),
        }
        Ok(0)
    }

    fn place(&self, register: usize, offset: u16, size: usize) -> Result<usize, String> {
        let address = self.get(register)?.wrapping_add_signed(offset.cast_signed().into());
        let at = address.wrapping_sub(STACK) as usize;
        if at + size > STACK_BYTES || !at.is_multiple_of(size) {
            return Err(format!("{size} bytes at {at} of the stack"));
        }
        Ok(at)
    }

    fn load(&mut self, code: u8, to: usize, from: usize, offset: u16) -> Result<(), String> {
        let size = [4, 2, 1, 8][usize::from(code >> 3 & 3)];
        let at = self.place(from, offset, size)?;
        let mut bytes = [0; 8];
        for (byte, there) in bytes.iter_mut().zip(&self.stack[at..at + size]) {
            *byte = there.ok_or_else(|| format!("byte {at} of the stack was never written"))?;
        }
        self.registers[to] = Some(u64::from_le_bytes(bytes));
        Ok(())
    }

    fn store(&mut self, code: u8, to: usize, from: usize, offset: u16) -> Result<(), String> {
        let size = [4, 2, 1, 8][usize::from(code >> 3 & 3)];
        let at = self.place(to, offset, size)?;
        let bytes = self.get(from)?.to_le_bytes();
        for (there, byte) in self.stack[at..at + size].iter_mut().zip(bytes) {
            *there = Some(byte);
        }
        Ok(())
    }

    /// `bpf_probe_read_kernel`.
    fn call(&mut self, helper: u32) -> Result<(), String> {
        let (to, size, from) = (self.get(1)?, self.get(2)? as usize, self.get(3)?);
        let at = to.wrapping_sub(STACK) as usize;
        if helper != 113 || at + size > STACK_BYTES {
            return Err(format!("helper {helper} with {size} bytes at {at}"));
        }
        let found = self.packet.read(from, size);
        for (index, there) in self.stack[at..at + size].iter_mut().enumerate() {
            *there = Some(found.map_or(0, |bytes| bytes[index]));
        }
        self.registers[0] = Some(if found.is_some() { 0 } else { u64::MAX });
        self.registers[1..=5].fill(None);
        Ok(())
    }

    fn arithmetic(
        &mut self,
        code: u8,
        to: usize,
        from: usize,
        immediate: u32,
    ) -> Result<(), String> {
        if code == 0xdc {
            let value = self.get(to)?;
            let swapped = if immediate == 16 {
                u64::from((value as u16).swap_bytes())
            } else {
                u64::from((value as u32).swap_bytes())
            };
            self.registers[to] = Some(swapped);
            return Ok(());
        }
        let wide = code & 7 == 7;
        let right = if code & 8 == 0 {
            i64::from(immediate.cast_signed()).cast_unsigned()
        } else {
            self.get(from)?
        };
        let left = if code & 0xf0 == 0xb0 { 0 } else { self.get(to)? };
        let value = match (code & 0xf0, wide) {
            (0xb0, _) => right,
            (0x00, _) => left.wrapping_add(right),
            (_, true) => return Err(format!("opcode {code:#x}")),
            (operation, false) => {
                let (left, right) = (left as u32, right as u32);
                u64::from(match operation {
                    0x10 => left.wrapping_sub(right),
                    0x20 => left.wrapping_mul(right),
                    0x30 => left.checked_div(right).ok_or("a division by zero")?,
                    0x40 => left | right,
                    0x50 => left & right,
                    0x60 => left.checked_shl(right).ok_or("a shift too far")?,
                    0x70 => left.checked_shr(right).ok_or("a shift too far")?,
                    0x90 => left.checked_rem(right).ok_or("a division by zero")?,
                    0xa0 => left ^ right,
                    _ => return Err(format!("opcode {code:#x}")),
                })
            }
        };
        self.registers[to] = Some(if wide { value } else { u64::from(value as u32) });
        Ok(())
    }

    fn jump(
        &self,
        code: u8,
        to: usize,
        from: usize,
        offset: u16,
        immediate: u32,
    ) -> Result<u16, String> {
        if offset.cast_signed() < 0 {
            return Err("a jump backwards".into());
        }
        if code == 0x05 {
            return Ok(offset);
        }
        let mut left = self.get(to)?;
        let mut right = if code & 8 == 0 {
            i64::from(immediate.cast_signed()).cast_unsigned()
        } else {
            self.get(from)?
        };
        if code & 7 == 6 {
            (left, right) = (u64::from(left as u32), u64::from(right as u32));
        }
        let holds = match code & 0xf0 {
            0x10 => left == right,
            0x20 => left > right,
            0x30 => left >= right,
            0x40 => left & right != 0,
            0x50 => left != right,
            0xa0 => left < right,
            0xb0 => left <= right,
            _ => return Err(format!("opcode {code:#x}")),
        };
        Ok(if holds { offset } else { 0 })
    }
}
