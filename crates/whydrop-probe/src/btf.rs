//! Reader of BTF, the kernel's own type information: enum members, the arguments of tracepoints.
//!
//! The loader has a reader too, but keeps enum members to itself and needs five times the memory.
//! This one is for reading names only; it changes nothing and relocates nothing. The bytes may come
//! from a file that somebody handed us, so nothing in them is believed before it is checked.
//!
//! Format: `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h` (Linux 6.18).

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::Error;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
/// A chain of typedefs, pointers and qualifiers longer than this is a loop.
const LONGEST_CHAIN: usize = 32;

/// Why some bytes are not BTF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than it says it is.
    #[error("it is cut short")]
    Truncated,
    /// Does not begin as BTF does.
    #[error("it is not BTF")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("it is for a machine of the other byte order")]
    ByteOrder,
    /// A version or a kind of type that came after this reader.
    #[error("it has {0}, which this release does not know")]
    Unknown(String),
    /// Holds no types at all.
    #[error("it holds no types")]
    Empty,
}

/// What an entry of the type section describes; only the kinds that are read have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pointer,
    Struct,
    Enum,
    Enum64,
    Typedef,
    /// `const`, `volatile`, `restrict`, type tags: transparent.
    Qualifier,
    Function,
    FunctionPrototype,
    Other,
}

impl Kind {
    /// The kind and how many bytes follow the entry's head; `None` for a number unknown in 6.18.
    fn of(number: u32, members: usize) -> Option<(Self, usize)> {
        Some(match number {
            1 | 14 | 17 => (Self::Other, 4),
            2 => (Self::Pointer, 0),
            3 => (Self::Other, 12),
            4 => (Self::Struct, 12 * members),
            5 | 15 => (Self::Other, 12 * members),
            6 => (Self::Enum, 8 * members),
            7 | 16 => (Self::Other, 0),
            8 => (Self::Typedef, 0),
            9..=11 | 18 => (Self::Qualifier, 0),
            12 => (Self::Function, 0),
            13 => (Self::FunctionPrototype, 8 * members),
            19 => (Self::Enum64, 12 * members),
            _ => return None,
        })
    }
}

/// One entry of the type section.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Kind,
    name: u32,
    members: usize,
    signed: bool,
    /// Size in bytes or type id, by kind.
    size_or_type: u32,
    /// Where what follows the head begins.
    body: usize,
    end: usize,
}

/// Parsed type information: that of the kernel image, or of a module on top of it.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Where the strings of this file begin: a module's come after those of the image.
    first_string: u32,
}

impl Btf {
    /// Reads a file of type information that stands alone, such as the kernel's own. Fails with
    /// [`Error::NoBtf`] or [`Error::BadBtf`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes =
            fs::read(path).map_err(|source| Error::NoBtf { path: path.to_owned(), source })?;
        Self::parse(bytes)
            .map_err(|why| Error::BadBtf { path: path.to_owned(), why: why.to_string() })
    }

    /// Parses type information that stands alone (`/sys/kernel/btf/vmlinux`, `.BTF` of an object).
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Self::parse_after(bytes, 0)
    }

    /// Parses the type information of a module, which continues that of the kernel image `base`.
    pub fn parse_module(bytes: Vec<u8>, base: &Self) -> Result<Self, Malformed> {
        Self::parse_after(bytes, base.strings.len() as u32)
    }

    fn parse_after(bytes: Vec<u8>, first_string: u32) -> Result<Self, Malformed> {
        match u16_at(&bytes, 0).ok_or(Malformed::Truncated)? {
            MAGIC => {}
            magic if magic.swap_bytes() == MAGIC => return Err(Malformed::ByteOrder),
            _ => return Err(Malformed::Magic),
        }
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::Truncated);
        }
        if bytes[2] != 1 {
            return Err(Malformed::Unknown(format!("version {}", bytes[2])));
        }
        let header = u32_at(&bytes, 4).ok_or(Malformed::Truncated)?;
        let section = |at: usize| {
            let start = header.checked_add(u32_at(&bytes, at)?)? as usize;
            let end = start.checked_add(u32_at(&bytes, at + 4)? as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let types = section(8).ok_or(Malformed::Truncated)?;
        let strings = section(16).ok_or(Malformed::Truncated)?;
        let btf = Self { bytes, types, strings, first_string };
        btf.check()?;
        Ok(btf)
    }

    /// Walks all entries once, so that later walks cannot fail.
    fn check(&self) -> Result<(), Malformed> {
        let mut at = self.types.start;
        while at < self.types.end {
            at = self.entry(at)?.end;
        }
        if self.types.is_empty() { Err(Malformed::Empty) } else { Ok(()) }
    }

    fn entry(&self, at: usize) -> Result<Entry, Malformed> {
        let bytes = &self.bytes[..self.types.end];
        let word = |at| u32_at(bytes, at).ok_or(Malformed::Truncated);
        let info = word(at + 4)?;
        let members = (info & 0xffff) as usize;
        let number = info >> 24 & 0x1f;
        let (kind, follows) = Kind::of(number, members)
            .ok_or_else(|| Malformed::Unknown(format!("a type of kind {number}")))?;
        let body = at + TYPE_BYTES;
        let end = body + follows;
        if end > bytes.len() {
            return Err(Malformed::Truncated);
        }
        let signed = info >> 31 == 1;
        Ok(Entry { kind, name: word(at)?, members, signed, size_or_type: word(at + 8)?, body, end })
    }

    /// All entries in file order.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut at = self.types.start;
        std::iter::from_fn(move || {
            if at >= self.types.end {
                return None;
            }
            let entry = self.entry(at).ok()?;
            at = entry.end;
            Some(entry)
        })
    }

    /// The string at this offset; `None` if it is outside, or not UTF-8, or belongs to the base.
    fn string(&self, offset: u32) -> Option<&str> {
        let at = offset.checked_sub(self.first_string)? as usize;
        let rest = self.bytes[self.strings.clone()].get(at..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        str::from_utf8(&rest[..end]).ok()
    }

    /// The enums that have a name of their own, in file order.
    pub fn enums(&self) -> impl Iterator<Item = Enum<'_>> {
        self.entries().filter_map(|entry| {
            let name = self.string(entry.name).filter(|name| !name.is_empty())?;
            matches!(entry.kind, Kind::Enum | Kind::Enum64).then_some(Enum {
                btf: self,
                name,
                entry,
            })
        })
    }

    /// The same information, with the same numbers, but with nothing in place of most of its bulk:
    /// of the structs and unions that have a name only the wanted ones are left, and no functions
    /// and variables. For a loader that looks at everything there is for each type it looks for.
    /// Takes no memory but that of the whole.
    pub(crate) fn only(mut self, wanted: &[&str]) -> Result<Vec<u8>, Malformed> {
        /// A forward declaration of nothing; no entry is shorter.
        const FILLER: [u32; 3] = [0, 7 << 24, 0];
        let Range { start, end } = self.types;
        // What is kept moves to the front, never over what is still to be read.
        if start < HEADER_BYTES || self.strings.start < end {
            return Err(Malformed::Unknown("its sections in another order".to_owned()));
        }
        let (mut at, mut to) = (start, HEADER_BYTES);
        while at < end {
            let entry = self.entry(at)?;
            if self.is_wanted(&entry, at, wanted) {
                self.bytes.copy_within(at..entry.end, to);
                to += entry.end - at;
            } else {
                to = put(&mut self.bytes, to, &FILLER);
            }
            at = entry.end;
        }
        let (types, strings) = (to - HEADER_BYTES, self.strings.len());
        self.bytes.copy_within(self.strings.clone(), to);
        self.bytes.truncate(to + strings);
        self.bytes.shrink_to_fit();
        let sections = [0, types, types, strings].map(|word| word as u32);
        put(&mut self.bytes, 4, &[HEADER_BYTES as u32]);
        put(&mut self.bytes, 8, &sections);
        Ok(self.bytes)
    }

    fn is_wanted(&self, entry: &Entry, at: usize, wanted: &[&str]) -> bool {
        match u32_at(&self.bytes, at + 4).unwrap_or_default() >> 24 & 0x1f {
            4 | 5 => {
                entry.name == 0
                    || self.string(entry.name).is_some_and(|name| wanted.contains(&name))
            }
            13..=15 | 17 => false,
            _ => true,
        }
    }

    /// How many arguments a tracepoint hands to raw programs; `None` if there is no such
    /// tracepoint.
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<u8> {
        let [arguments] = self.tracepoints([tracepoint]);
        arguments?.len().try_into().ok()
    }

    /// The types of the arguments that tracepoints hand to raw programs, without pointers and
    /// qualifiers (`sock` for `const struct sock *`); `None` where there is no such tracepoint.
    ///
    /// `typedef void (*btf_trace_NAME)(void *, ...)` in `include/trace/bpf_probe.h` (5.5) lists
    /// them after the leading `void *`. Only for information that stands alone.
    pub(crate) fn tracepoints<const N: usize>(&self, names: [&str; N]) -> [Option<Vec<&str>>; N] {
        let mut places = Vec::new();
        let mut found = [None; N];
        for entry in self.entries() {
            places.push((entry.body - TYPE_BYTES) as u32);
            if entry.kind == Kind::Typedef
                && let Some(name) = self.string(entry.name)
                && let Some(name) = name.strip_prefix("btf_trace_")
                && let Some(at) = names.iter().position(|&wanted| wanted == name)
            {
                found[at].get_or_insert(entry);
            }
        }
        found.map(|entry| self.arguments(entry?, &places))
    }

    /// The ids of a function and of a struct, in this order; `None` for what there is not. Only for
    /// information that stands alone.
    pub(crate) fn ids(&self, function: &str, structure: &str) -> [Option<u32>; 2] {
        let wanted = [(Kind::Function, function), (Kind::Struct, structure)];
        let mut found = [None; 2];
        for (entry, id) in self.entries().zip(1..) {
            for ((kind, name), found) in wanted.iter().zip(&mut found) {
                if entry.kind == *kind && self.string(entry.name) == Some(name) {
                    found.get_or_insert(id);
                }
            }
        }
        found
    }

    /// The entry with this id, which is its place in the file, counted from 1.
    fn placed(&self, id: u32, places: &[u32]) -> Option<Entry> {
        self.entry(*places.get((id as usize).checked_sub(1)?)? as usize).ok()
    }

    /// The types of the arguments of a function that this entry leads to, without the first.
    fn arguments(&self, mut entry: Entry, places: &[u32]) -> Option<Vec<&str>> {
        let by_id = |id| self.placed(id, places);
        for _ in 0..LONGEST_CHAIN {
            match entry.kind {
                Kind::Typedef | Kind::Pointer | Kind::Qualifier => {
                    entry = by_id(entry.size_or_type)?;
                }
                Kind::FunctionPrototype => {
                    // Of each: name, type.
                    let parameter = |nth| u32_at(&self.bytes, entry.body + nth * 8 + 4);
                    let named = |nth| Some(self.named(by_id(parameter(nth)?)?, places));
                    let first = entry.members.min(1);
                    let arguments = (first..entry.members).map(|nth| named(nth).flatten());
                    return (first == 1)
                        .then(|| arguments.map(Option::unwrap_or_default).collect());
                }
                _ => return None,
            }
        }
        None
    }

    /// The name of what a chain of pointers and qualifiers leads to; `None` if it has none.
    fn named(&self, mut entry: Entry, places: &[u32]) -> Option<&str> {
        for _ in 0..LONGEST_CHAIN {
            if !matches!(entry.kind, Kind::Pointer | Kind::Qualifier) {
                return self.string(entry.name).filter(|name| !name.is_empty());
            }
            entry = self.placed(entry.size_or_type, places)?;
        }
        None
    }
}

/// An enum and its members.
#[derive(Debug, Clone, Copy)]
pub struct Enum<'btf> {
    btf: &'btf Btf,
    name: &'btf str,
    entry: Entry,
}

impl<'btf> Enum<'btf> {
    /// The enum's name.
    pub fn name(&self) -> &'btf str {
        self.name
    }

    /// Names and values of its members. Members whose name is unreadable are left out.
    pub fn members(&self) -> impl Iterator<Item = (&'btf str, i64)> + use<'btf> {
        let Self { btf, entry, .. } = *self;
        let wide = entry.kind == Kind::Enum64;
        let size = if wide { 12 } else { 8 };
        (0..entry.members).filter_map(move |index| {
            let at = entry.body + index * size;
            let name = btf.string(u32_at(&btf.bytes, at)?)?;
            let low = u32_at(&btf.bytes, at + 4)?;
            let value = if wide {
                i64::from(u32_at(&btf.bytes, at + 8)?) << 32 | i64::from(low)
            } else if entry.signed {
                i64::from(low.cast_signed())
            } else {
                i64::from(low)
            };
            Some((name, value))
        })
    }
}

/// Writes words, which must fit; returns where they end.
fn put(bytes: &mut [u8], mut at: usize, words: &[u32]) -> usize {
    for word in words {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        at += 4;
    }
    at
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
pub(crate) mod tests;
