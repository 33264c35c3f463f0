//! One ELF file with DWARF, and what it tells about addresses in memory.
//!
//! The kernel's own file is linked: its addresses are those in memory but for one distance, by which
//! all of it was moved when it was loaded. The file of a module is not: each of its sections begins at
//! zero and was placed on its own, and its debug information has to be relocated before it makes sense.

use std::borrow::Cow;
use std::fs::File as OsFile;
use std::path::Path;

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, RunTimeEndian, SectionId};
use memmap2::Mmap;
use object::{
    File, Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget, SectionIndex,
    SectionKind,
};
use whydrop_model::{Inlined, SourceLine};

use super::places::LoadedSection;
use super::{Told, Unusable};

type Bytes = EndianSlice<'static, RunTimeEndian>;

/// The symbol that the code of the kernel begins with (`include/asm-generic/sections.h`, 6.18).
const TEXT: &str = "_stext";

/// Sections of a module are set this far apart, so that no two share an address.
const APART: u64 = 1 << 32;

/// An opened file.
pub(super) struct Image {
    context: Context<Bytes>,
    moved: Moved,
}

/// How addresses in memory become addresses in the file.
enum Moved {
    /// All by the same distance.
    By(u64),
    /// Each section on its own.
    Sections(Vec<Section>),
}

/// Code of a module.
struct Section {
    /// In memory.
    start: u64,
    size: u64,
    /// Where the debug information was relocated to.
    base: u64,
}

impl Image {
    /// Opens the kernel's file. `text` is where its code begins in memory.
    pub(super) fn of_kernel(path: &Path, text: Option<u64>) -> Result<Self, Unusable> {
        let file = mapped(path)?;
        let in_file = file.symbol_by_name(TEXT).map(|symbol| symbol.address());
        let (Some(in_memory), Some(in_file)) = (text, in_file) else {
            return Err(Unusable::unreadable(path, &format!("it is not known where {TEXT} is")));
        };
        let context = context(&file, &|_| 0).map_err(|why| Unusable::unreadable(path, &why))?;
        Ok(Self { context, moved: Moved::By(in_memory.wrapping_sub(in_file)) })
    }

    /// Opens the file of a module, whose sections were loaded to these places.
    pub(super) fn of_module(path: &Path, loaded: Vec<LoadedSection>) -> Result<Self, Unusable> {
        let file = mapped(path)?;
        let base = |index: SectionIndex| match file.section_by_index(index) {
            Ok(section) if section.kind() == SectionKind::Text => (index.0 as u64 + 1) * APART,
            _ => 0,
        };
        let context = context(&file, &base).map_err(|why| Unusable::unreadable(path, &why))?;
        let section = |loaded: LoadedSection| {
            let section = file.section_by_name(&loaded.name)?;
            let (size, base) = (section.size(), base(section.index()));
            (base > 0).then_some(Section { start: loaded.address, size, base })
        };
        let sections = loaded.into_iter().filter_map(section).collect();
        Ok(Self { context, moved: Moved::Sections(sections) })
    }

    /// What the file tells about the instruction at an address in memory; `None` if nothing.
    pub(super) fn look_up(&self, address: u64) -> Option<Told> {
        let address = match &self.moved {
            Moved::By(distance) => address.wrapping_sub(*distance),
            Moved::Sections(sections) => {
                let inside = |it: &&Section| {
                    address.checked_sub(it.start).is_some_and(|offset| offset < it.size)
                };
                let section = sections.iter().find(inside)?;
                address - section.start + section.base
            }
        };
        // Split DWARF is not looked for: distributions do not build kernels with it.
        let unit = self.context.find_dwarf_and_unit(address).skip_all_loads()?;
        let built_in = unit.comp_dir.map(|folder| folder.to_string_lossy().into_owned());
        let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
        let mut told = Told::default();
        while let Ok(Some(frame)) = frames.next() {
            // The last frame is the function itself; what came before it was merged into it.
            let line = frame.location.and_then(|it| {
                let file = in_tree(it.file?, built_in.as_deref().unwrap_or_default());
                Some(SourceLine { file, line: it.line.unwrap_or(0) })
            });
            let symbol = frame.function.and_then(|name| Some(name.raw_name().ok()?.into_owned()));
            told.inlined.push(Inlined { symbol: symbol.unwrap_or_default(), line });
        }
        told.line = told.inlined.pop()?.line;
        Some(told)
    }
}

/// Maps a file and reads its headers.
///
/// It stays mapped until the process ends: what was read from it refers to it, there are at most as
/// many as the kernel has modules, and pages that are not needed leave memory by themselves.
fn mapped(path: &Path) -> Result<File<'static>, Unusable> {
    let unreadable = |why: &dyn std::fmt::Display| Unusable::unreadable(path, &why);
    let file = OsFile::open(path).map_err(|why| unreadable(&why))?;
    #[expect(unsafe_code, reason = "there is no safe way to map a file, and some have gigabytes")]
    // SAFETY: it comes from a package or from the build of this kernel. Both put another file in its
    // place and do not write over this one.
    let map = unsafe { Mmap::map(&file) }.map_err(|why| unreadable(&why))?;
    let map: &'static Mmap = Box::leak(Box::new(map));
    File::parse(&**map).map_err(|why| unreadable(&why))
}

/// Sections that tell where variables are, which is not asked.
fn is_needed(section: SectionId) -> bool {
    !matches!(
        section,
        SectionId::DebugLoc
            | SectionId::DebugLocLists
            | SectionId::DebugMacinfo
            | SectionId::DebugMacro
            | SectionId::DebugNames
            | SectionId::DebugTypes
    )
}

/// The debug information of a file. `base` is where each section is taken to begin.
fn context(
    file: &File<'static>,
    base: &dyn Fn(SectionIndex) -> u64,
) -> Result<Context<Bytes>, String> {
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let load = |id: SectionId| -> Result<Bytes, String> {
        let section = file.section_by_name(id.name()).filter(|_| is_needed(id));
        let Some(section) = section else { return Ok(EndianSlice::new(&[], endian)) };
        let bytes = section.uncompressed_data().map_err(|why| why.to_string())?;
        // A linked file may carry relocations as well (`--emit-relocs`); they are done already.
        let bytes: &'static [u8] = match (file.kind(), bytes) {
            (object::ObjectKind::Relocatable, bytes) => {
                let mut bytes = bytes.into_owned();
                relocate(file, &section, base, &mut bytes)?;
                bytes.leak()
            }
            (_, Cow::Borrowed(bytes)) => bytes,
            (_, Cow::Owned(bytes)) => bytes.leak(),
        };
        Ok(EndianSlice::new(bytes, endian))
    };
    Context::from_dwarf(Dwarf::load(load)?).map_err(|why| why.to_string())
}

/// Does the relocations of a section of debug information.
fn relocate<'f>(
    file: &File<'f>,
    section: &impl ObjectSection<'f>,
    base: &dyn Fn(SectionIndex) -> u64,
    bytes: &mut [u8],
) -> Result<(), String> {
    for (offset, relocation) in section.relocations() {
        let target = match (relocation.kind(), relocation.target()) {
            (RelocationKind::None, _) => continue,
            (RelocationKind::Absolute, RelocationTarget::Symbol(index)) => {
                let symbol = file.symbol_by_index(index).map_err(|why| why.to_string())?;
                symbol.address().wrapping_add(symbol.section_index().map_or(0, base))
            }
            (kind, target) => return Err(format!("it needs a relocation ({kind:?}, {target:?})")),
        };
        let width = usize::from(relocation.size() / 8);
        let place = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at..at + width));
        let place = place.filter(|place| [4, 8].contains(&place.len()));
        let place = place.ok_or("it has a relocation of an unknown kind")?;
        let little = file.is_little_endian();
        let before = if relocation.has_implicit_addend() { number(place, little) } else { 0 };
        let value = target.wrapping_add_signed(relocation.addend()).wrapping_add(before);
        if little {
            place.copy_from_slice(&value.to_le_bytes()[..width]);
        } else {
            place.copy_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    }
    Ok(())
}

/// The number that stands at a place of at most eight bytes.
fn number(place: &[u8], little: bool) -> u64 {
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    if little { place.iter().rev().fold(0, add) } else { place.iter().fold(0, add) }
}

/// The file as it is called within the tree of sources: without what it has in common with the folder
/// of the build, which is the tree or inside it.
fn in_tree(file: &str, built_in: &str) -> String {
    let (file, folder) = (plain(file), plain(built_in));
    let shared = file.iter().zip(&folder).take_while(|(a, b)| a == b).count();
    // Never without a name.
    file[shared.min(file.len().saturating_sub(1))..].join("/")
}

/// The parts of a path without detours.
fn plain(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !["", ".."].contains(last)) => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::in_tree;

    #[test]
    fn files_are_named_from_the_root_of_the_tree_on() {
        for (file, built_in, expected) in [
            ("/src/linux-6.1/net/core/skbuff.c", "/src/linux-6.1", "net/core/skbuff.c"),
            ("/src/linux-6.1/./include/net/ip.h", "/src/linux-6.1", "include/net/ip.h"),
            ("/src/l/net/core/a.c", "/src/l/debian/build/amd64", "net/core/a.c"),
            ("/src/l/debian/build/amd64/../../../net/a.c", "/src/l/debian/build/amd64", "net/a.c"),
            ("/src/l/out/include/generated/a.h", "/src/l/out", "include/generated/a.h"),
            ("out/include/generated/a.h", "out", "include/generated/a.h"),
            ("net/ipv4/ip_input.c", "", "net/ipv4/ip_input.c"),
            ("../x.c", "", "../x.c"),
            ("a.c", "a.c", "a.c"),
        ] {
            assert_eq!(in_tree(file, built_in), expected, "{file} in {built_in}");
        }
    }
}
