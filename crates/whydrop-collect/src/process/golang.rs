//! Whether an executable was made by the Go toolchain: its linker leaves a note with the build's id
//! (`cmd/internal/buildid`), which stripping does not take away.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::netlink::{u16_at, u32_at, u64_at};

/// Longest part of a file that is looked at: the program headers, and each segment of notes.
const LOOK: usize = 4096;
/// Bytes of `Elf64_Phdr` (`include/uapi/linux/elf.h`).
const PROGRAM_HEADER: usize = 56;
const PT_NOTE: u32 = 4;
/// `ELF_NOTE_GOBUILDID`.
const BUILD_ID: u32 = 4;

/// True if this executable has Go's note. False as well for what cannot be read, and for programs of
/// another word size or byte order than this one's.
pub(super) fn made(executable: &Path) -> bool {
    let Ok(file) = File::open(executable) else { return false };
    let part = |offset: u64, length: usize| {
        let mut bytes = vec![0; length.min(LOOK)];
        let read = file.read_at(&mut bytes, offset).unwrap_or(0);
        bytes.truncate(read);
        bytes
    };
    let head = part(0, LOOK);
    notes(&head).is_some_and(|segments| {
        segments.into_iter().any(|(offset, length)| has_build_id(&part(offset, length)))
    })
}

/// Offset and length of the segments with notes; `None` if this is no such executable.
fn notes(head: &[u8]) -> Option<Vec<(u64, usize)>> {
    // ELFCLASS64; a file of the other byte order has no sensible offset.
    if !head.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let first = usize::try_from(u64_at(head, 32)?).ok()?;
    let count = usize::from(u16_at(head, 56)?);
    let headers = head.get(first..)?.chunks_exact(PROGRAM_HEADER).take(count);
    let notes = headers.filter(|header| u32_at(header, 0) == Some(PT_NOTE));
    notes
        .map(|header| Some((u64_at(header, 8)?, usize::try_from(u64_at(header, 32)?).ok()?)))
        .collect()
}

/// Looks through a segment of notes.
fn has_build_id(mut notes: &[u8]) -> bool {
    while let (Some(name), Some(value), Some(kind)) =
        (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
    {
        let aligned = |length: u32| (length as usize).next_multiple_of(4);
        if kind == BUILD_ID && notes.get(12..16) == Some(b"Go\0\0") {
            return true;
        }
        let Some(rest) = notes.get(12 + aligned(name) + aligned(value)..) else { break };
        notes = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An executable with one segment, of this kind, which holds a GNU note and then another.
    fn executable(segment: u32, owner: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + PROGRAM_HEADER];
        bytes[..5].copy_from_slice(b"\x7fELF\x02");
        bytes[32] = 64;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&segment.to_ne_bytes());
        bytes[72..80].copy_from_slice(&120_u64.to_ne_bytes());
        bytes[96..104].copy_from_slice(&1000_u64.to_ne_bytes());
        for (owner, kind, value) in [(*b"GNU\0", 3_u32, &b"12345"[..]), (owner, BUILD_ID, b"id")] {
            bytes.extend(4_u32.to_ne_bytes());
            bytes.extend((value.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(owner);
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn is_go(bytes: &[u8]) -> bool {
        let segments = notes(bytes).unwrap_or_default();
        segments.into_iter().any(|(offset, length)| {
            let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
            rest.is_some_and(|rest| has_build_id(&rest[..length.min(rest.len())]))
        })
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_note_tells() {
        assert!(is_go(&executable(PT_NOTE, *b"Go\0\0")));
        assert!(!is_go(&executable(PT_NOTE, *b"XYZ\0")), "another's note of this number");
        assert!(!is_go(&executable(1, *b"Go\0\0")), "no segment of notes");
        assert!(!is_go(b"#!/bin/sh\n") && !is_go(b""));
        assert!(!made(Path::new("/proc/self/exe")), "this is Rust");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_or_loop(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            has_build_id(&bytes);
            notes(&bytes);
            bytes.splice(0..0, *b"\x7fELF\x02");
            notes(&bytes);
        }
    }
}
