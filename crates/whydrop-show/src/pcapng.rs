//! Drops as a capture file: pcapng, as Wireshark and tcpdump read it
//! (draft-ietf-opsawg-pcapng).
//!
//! One section, little endian; an interface for each namespace and device, with times in
//! nanoseconds; each drop an enhanced packet block with a [comment] that says why the
//! packet died. Every packet is written as an Ethernet frame: where the kernel had no Ethernet
//! header (any more), the addresses are zero and the EtherType is the kernel's.

use std::io::{self, Write};

use whydrop_model::Sighting;

mod comment;
mod read;

pub use comment::{Comment, comment};
pub use read::{Captured, NotReadable, read};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;
/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// Options. Numbers mean something else in each kind of block.
const COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_DESCRIPTION: u16 = 3;
const INTERFACE_RESOLUTION: u16 = 9;
/// Times are in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// Longest text of an option; its length is a number of 16 bits.
const LONGEST: usize = 0xffff - 3;

/// A packet as the tracer saw it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Ethernet header; `None` if the packet had none (yet).
    pub mac: Option<[u8; HEADER]>,
    /// EtherType.
    pub l3: u16,
    /// Bytes from the network header on, as many as are known.
    pub bytes: &'a [u8],
    /// How many there were.
    pub length: u32,
}

impl Packet<'_> {
    /// The packet as an Ethernet frame.
    fn frame(&self) -> Vec<u8> {
        let mut frame = self.mac.unwrap_or_default().to_vec();
        frame[12..].copy_from_slice(&self.l3.to_be_bytes());
        frame.extend(self.bytes);
        frame
    }
}

/// Writes a capture file.
pub struct Writer<W> {
    out: W,
    /// Namespace and device of each interface written.
    interfaces: Vec<(Option<u64>, String)>,
    snaplen: u32,
}

impl<W: Write> Writer<W> {
    /// Begins a file. `snaplen` is the most bytes that a frame may have in it; `program` says who
    /// wrote it.
    pub fn new(mut out: W, program: &str, snaplen: u32) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // Length of the section: not told, because it may be written to a pipe.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, SECTION_APPLICATION, program.as_bytes());
        end_of_options(&mut body);
        block(&mut out, SECTION, &body)?;
        Ok(Self { out, interfaces: Vec::new(), snaplen })
    }

    /// Adds a drop. `at_ns` is its time in nanoseconds since 1970; `netns` how its namespace is
    /// called.
    pub fn write(
        &mut self,
        sighting: &Sighting,
        packet: Packet<'_>,
        at_ns: u64,
        netns: &str,
    ) -> io::Result<()> {
        let device = sighting.drop.device.clone().unwrap_or_else(|| "-".into());
        let interface = self.interface(sighting.drop.netns, device, netns)?;
        let mut frame = packet.frame();
        let length = packet.length.saturating_add(HEADER as u32).max(frame.len() as u32);
        frame.truncate(self.snaplen as usize);
        let mut body = Vec::new();
        for number in [interface, (at_ns >> 32) as u32, at_ns as u32, frame.len() as u32, length] {
            body.extend(number.to_le_bytes());
        }
        body.extend(frame);
        pad(&mut body);
        option(&mut body, COMMENT, comment(sighting).as_bytes());
        end_of_options(&mut body);
        block(&mut self.out, PACKET, &body)
    }

    /// The number of an interface, which is written when it is first needed.
    fn interface(&mut self, netns: Option<u64>, device: String, name: &str) -> io::Result<u32> {
        let wanted = (netns, device);
        if let Some(number) = self.interfaces.iter().position(|known| *known == wanted) {
            return Ok(number as u32);
        }
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend(self.snaplen.to_le_bytes());
        option(&mut body, INTERFACE_NAME, wanted.1.as_bytes());
        option(&mut body, INTERFACE_DESCRIPTION, format!("netns {name}").as_bytes());
        option(&mut body, INTERFACE_RESOLUTION, &[NANOSECONDS]);
        end_of_options(&mut body);
        block(&mut self.out, INTERFACE, &body)?;
        self.interfaces.push(wanted);
        Ok(self.interfaces.len() as u32 - 1)
    }

    /// Sends on what was written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = body.len() as u32 + 12;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(body)?;
    out.write_all(&length.to_le_bytes())
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST)];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops::tests::sighting;

    #[test]
    fn what_was_written_is_read() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "whydrop 0", 64).expect("begun");
        let mut other = sighting();
        other.drop.device = None;
        let bytes = [7; 60];
        let packet = Packet { mac: None, l3: 0x0800, bytes: &bytes, length: 1400 };
        let plain = Packet { mac: Some([2; 14]), bytes: &bytes[..3], length: 3, ..packet };
        for (one, packet) in [(&sighting(), packet), (&other, plain), (&sighting(), packet)] {
            writer.write(one, packet, 0x1_0000_0002, "b").expect("written");
        }
        writer.flush().expect("flushed");
        let found = read(&file).expect("readable");
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].device.as_str(), found[0].netns.as_str()), ("ve\nth0", "b"));
        assert_eq!(found[1].device, "-");
        assert_eq!((found[0].frame.len(), found[0].length), (64, 1414));
        assert_eq!((found[1].frame.len(), found[1].length), (17, 17));
        assert_eq!(&found[1].frame[..14], &[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 8, 0]);
        assert_eq!(found[2].at_ns, 0x1_0000_0002);
        assert_eq!(found[0].comment, Comment::of(&sighting()));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_more() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "whydrop 0", 64).expect("begun");
        let packet = Packet { mac: None, l3: 0x0800, bytes: &[1; 30], length: 30 };
        writer.write(&sighting(), packet, 5, "b").expect("written");
        drop(writer);
        assert_eq!(read(&file).expect("whole").len(), 1);
        for cut in 0..file.len() {
            let found = read(&file[..cut]).map(|found| found.len());
            assert_ne!(found, Ok(1), "{cut} of {}", file.len());
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                let _ = read(&damaged);
            }
        }
    }
}
