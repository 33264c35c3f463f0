//! Capture files that whydrop wrote, read again. Lengths in the file are not believed.

use std::fmt;

use super::{
    BYTE_ORDER, COMMENT, Comment, INTERFACE, INTERFACE_DESCRIPTION, INTERFACE_NAME, PACKET, SECTION,
};

/// One packet of a capture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When it was dropped, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Name of its device.
    pub device: String,
    /// How its namespace was called.
    pub netns: String,
    /// Its Ethernet frame, as far as it was captured.
    pub frame: Vec<u8>,
    /// How long that was.
    pub length: u32,
    /// Why it died.
    pub comment: Comment,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReadable {
    /// It does not begin as a little-endian pcapng file does.
    NotPcapng,
    /// It ends in the middle.
    Truncated,
    /// A length or number in it makes no sense.
    Damaged,
    /// A packet has no comment of whydrop.
    NotOurs,
}

impl fmt::Display for NotReadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPcapng => "it is not a pcapng file of whydrop",
            Self::Truncated => "it ends in the middle",
            Self::Damaged => "it is damaged",
            Self::NotOurs => {
                "it is a capture file that whydrop did not write: its packets do not say \
                              why they were dropped"
            }
        })
    }
}

impl std::error::Error for NotReadable {}

/// Reads a whole file.
///
/// # Errors
///
/// If it is not one that [`Writer`](super::Writer) wrote, or is damaged.
pub fn read(file: &[u8]) -> Result<Vec<Captured>, NotReadable> {
    let mut blocks = Blocks { rest: file };
    match blocks.next()? {
        Some((SECTION, body)) if number(body, 0) == Ok(BYTE_ORDER) => {}
        _ => return Err(NotReadable::NotPcapng),
    }
    let mut interfaces: Vec<(String, String)> = Vec::new();
    let mut packets = Vec::new();
    while let Some((kind, body)) = blocks.next()? {
        match kind {
            INTERFACE => {
                let options = body.get(8..).ok_or(NotReadable::Damaged)?;
                let netns = text(options, INTERFACE_DESCRIPTION).unwrap_or_default();
                let netns = netns.strip_prefix("netns ").unwrap_or(&netns).to_owned();
                interfaces.push((text(options, INTERFACE_NAME).unwrap_or_default(), netns));
            }
            PACKET => packets.push(packet(body, &interfaces)?),
            SECTION => return Err(NotReadable::Damaged),
            _ => {}
        }
    }
    Ok(packets)
}

fn packet(body: &[u8], interfaces: &[(String, String)]) -> Result<Captured, NotReadable> {
    let interface = interfaces.get(number(body, 0)? as usize).ok_or(NotReadable::Damaged)?;
    let (high, low) = (number(body, 4)?, number(body, 8)?);
    let captured = number(body, 12)? as usize;
    let end = 20_usize.checked_add(captured).ok_or(NotReadable::Damaged)?;
    let frame = body.get(20..end).ok_or(NotReadable::Damaged)?;
    let options = body.get(end.next_multiple_of(4)..).ok_or(NotReadable::Damaged)?;
    let comment = text(options, COMMENT).ok_or(NotReadable::NotOurs)?;
    Ok(Captured {
        at_ns: u64::from(high) << 32 | u64::from(low),
        device: interface.0.clone(),
        netns: interface.1.clone(),
        frame: frame.to_vec(),
        length: number(body, 16)?,
        comment: Comment::parse(&comment).ok_or(NotReadable::NotOurs)?,
    })
}

/// The blocks of a file, each with its kind.
struct Blocks<'f> {
    rest: &'f [u8],
}

impl<'f> Blocks<'f> {
    fn next(&mut self) -> Result<Option<(u32, &'f [u8])>, NotReadable> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let truncated = |_| NotReadable::Truncated;
        let kind = number(self.rest, 0).map_err(truncated)?;
        let length = number(self.rest, 4).map_err(truncated)? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err(NotReadable::Damaged);
        }
        let (block, rest) = self.rest.split_at_checked(length).ok_or(NotReadable::Truncated)?;
        let body = block.get(8..length - 4).ok_or(NotReadable::Damaged)?;
        self.rest = rest;
        Ok(Some((kind, body)))
    }
}

/// The text of the first option with this code.
fn text(mut options: &[u8], code: u16) -> Option<String> {
    loop {
        let &[code_low, code_high, low, high] = options.first_chunk()?;
        let found = u16::from_le_bytes([code_low, code_high]);
        let length = usize::from(u16::from_le_bytes([low, high]));
        let value = options.get(4..4 + length)?;
        if found == code {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        if found == 0 {
            return None;
        }
        options = options.get((4 + length).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, NotReadable> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(NotReadable::Damaged)
}
