//! Tests of the BTF reader, and what other tests need of BTF beyond it: building some, and the
//! layout of records.

use proptest::prelude::*;

use super::*;

/// The `.BTF` section of the compiled tracer, which stands alone like that of a kernel.
pub(crate) fn object() -> Vec<u8> {
    elf_section(include_bytes!("../../bpf/drop.bpf.o"), ".BTF")
}

/// That of the programs at other tracepoints.
pub(crate) fn events_object() -> Vec<u8> {
    elf_section(include_bytes!("../../bpf/events.bpf.o"), ".BTF")
}

/// A section of a little-endian 64-bit ELF file.
fn elf_section(elf: &[u8], wanted: &str) -> Vec<u8> {
    let number = |at: usize, size: usize| {
        elf[at..at + size].iter().rev().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte))
    };
    let (headers, count, names) = (number(40, 8), number(60, 2), number(62, 2));
    let header = |index: usize| headers + index * 64;
    let place = |index: usize| number(header(index) + 24, 8)..;
    let found = (0..count).find(|&index| {
        let name = &elf[place(names)][number(header(index), 4)..];
        name.split(|&byte| byte == 0).next() == Some(wanted.as_bytes())
    });
    let index = found.expect("the section");
    elf[place(index)][..number(header(index) + 32, 8)].to_vec()
}

/// Size of a struct, and name, bit offset and bit size of its members.
pub(crate) type Layout = (u32, Vec<(String, u32, u32)>);

impl Btf {
    /// The entry with this id, counted from 1.
    fn by_id(&self, id: u32) -> Option<Entry> {
        self.entries().nth((id as usize).checked_sub(1)?)
    }

    /// The layout of the struct of this name, with the members of anonymous unions left out.
    pub(crate) fn layout(&self, name: &str) -> Option<Layout> {
        let entry = self
            .entries()
            .find(|entry| entry.kind == Kind::Struct && self.string(entry.name) == Some(name))?;
        let members = (0..entry.members).filter_map(|index| {
            let at = entry.body + index * 12;
            let word = |nth: usize| u32_at(&self.bytes, at + 4 * nth);
            let name = self.string(word(0)?)?.to_owned();
            Some((name, word(2)?, 8 * self.size_of(word(1)?)?))
        });
        Some((entry.size_or_type, members.collect()))
    }

    fn size_of(&self, id: u32) -> Option<u32> {
        let mut id = id;
        for _ in 0..LONGEST_CHAIN {
            let entry = self.by_id(id)?;
            match entry.kind {
                Kind::Typedef | Kind::Qualifier => id = entry.size_or_type,
                Kind::Pointer => return Some(8),
                // An array: what follows is element type, index type, number of elements.
                Kind::Other if entry.end - entry.body == 12 => {
                    let count = u32_at(&self.bytes, entry.body + 8)?;
                    return Some(count * self.size_of(u32_at(&self.bytes, entry.body)?)?);
                }
                _ => return Some(entry.size_or_type),
            }
        }
        None
    }
}

/// Puts BTF together, type by type.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    first_string: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    /// Continues the type information in `base`, as a module does.
    pub(crate) fn on(base: &[u8]) -> Self {
        Self { first_string: u32_at(base, 20).expect("a header"), ..Self::default() }
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32 + self.first_string;
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    pub(crate) fn enumeration(mut self, name: &str, members: &[(&str, u32)]) -> Self {
        let name = self.string(name);
        self.words(&[name, 6 << 24 | members.len() as u32, 4]);
        for (member, value) in members {
            let member = self.string(member);
            self.words(&[member, *value]);
        }
        self
    }

    fn enumeration64(mut self, name: &str, members: &[(&str, u64)]) -> Self {
        let name = self.string(name);
        self.words(&[name, 19 << 24 | members.len() as u32, 8]);
        for (member, value) in members {
            let member = self.string(member);
            self.words(&[member, *value as u32, (value >> 32) as u32]);
        }
        self
    }

    /// `typedef void (*name)(...)` with so many parameters, as types 1, 2 and 3.
    fn prototype(mut self, name: &str, parameters: u32) -> Self {
        let name = self.string(name);
        self.words(&[0, 13 << 24 | parameters, 0]);
        for _ in 0..parameters {
            self.words(&[0, 0]);
        }
        self.words(&[0, 2 << 24, 1]);
        self.words(&[name, 8 << 24, 2]);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}

/// Uses everything that reads; must neither panic nor hang.
fn use_all(btf: &Btf) -> usize {
    let members: usize =
        btf.enums().map(|entry| entry.name().len() + entry.members().count()).sum();
    members + usize::from(btf.tracepoint_arguments("kfree_skb").unwrap_or(0))
}

#[test]
fn enums_of_both_widths() {
    let bytes = Builder::new()
        .enumeration("colour", &[("RED", 0), ("BLUE", 0xffff_0000)])
        .enumeration64("wide", &[("HUGE", 1 << 40)])
        .bytes();
    let btf = Btf::parse(bytes).unwrap();
    let all: Vec<_> = btf.enums().map(|e| (e.name(), e.members().collect::<Vec<_>>())).collect();
    assert_eq!(
        all,
        [("colour", vec![("RED", 0), ("BLUE", 0xffff_0000)]), ("wide", vec![("HUGE", 1 << 40)])]
    );
}

#[test]
fn arguments_do_not_count_the_leading_pointer() {
    for parameters in 1..6 {
        let bytes = Builder::new().prototype("btf_trace_kfree_skb", parameters).bytes();
        let btf = Btf::parse(bytes).unwrap();
        assert_eq!(btf.tracepoint_arguments("kfree_skb"), Some(parameters as u8 - 1));
        assert_eq!(btf.tracepoint_arguments("kfree"), None);
    }
}

#[test]
fn a_typedef_of_itself_ends() {
    let mut builder = Builder::new();
    let name = builder.string("btf_trace_kfree_skb");
    builder.words(&[name, 8 << 24, 1]);
    assert_eq!(Btf::parse(builder.bytes()).unwrap().tracepoint_arguments("kfree_skb"), None);
}

#[test]
fn module_strings_continue_those_of_the_image() {
    let base = Builder::new().enumeration("base", &[("A", 1)]).bytes();
    let module = Builder::on(&base).enumeration("mine", &[("B", 2)]).bytes();
    let base = Btf::parse(base).unwrap();
    let module = Btf::parse_module(module, &base).unwrap();
    let found = module.enums().next().unwrap();
    assert_eq!((found.name(), found.members().next()), ("mine", Some(("B", 2))));
}

#[test]
fn what_is_not_btf_is_named() {
    assert_eq!(Btf::parse(Vec::new()).unwrap_err(), Malformed::Truncated);
    assert_eq!(Btf::parse(b"\x7fELF".to_vec()).unwrap_err(), Malformed::Magic);
    let good = object();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Btf::parse(bytes).unwrap_err()
    };
    assert_eq!(changed(2, 9), Malformed::Unknown("version 9".into()));
    assert_eq!(changed(24 + 7, 0x1f), Malformed::Unknown("a type of kind 31".into()));
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    assert_eq!(Btf::parse(swapped).unwrap_err(), Malformed::ByteOrder);
    assert_eq!(Btf::parse(Builder::new().bytes()).unwrap_err(), Malformed::Empty);
}

#[test]
fn every_truncation_is_an_error() {
    let good = object();
    assert!(use_all(&Btf::parse(good.clone()).unwrap()) > 0);
    for length in 0..good.len() {
        assert!(Btf::parse(good[..length].to_vec()).is_err(), "at {length}");
    }
}

proptest! {
    #[test]
    fn no_corruption_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        let mut bytes = object();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            use_all(&btf);
        }
    }

    #[test]
    fn no_garbage_panics(mut bytes in prop::collection::vec(any::<u8>(), 24..400), plausible in any::<bool>()) {
        if plausible {
            let rest = (bytes.len() - 24) as u32;
            let words = [0x0001_eb9f, 24, 0, rest / 2, rest / 2, rest - rest / 2];
            for (index, word) in words.into_iter().enumerate() {
                bytes[index * 4..][..4].copy_from_slice(&u32::to_ne_bytes(word));
            }
        }
        if let Ok(btf) = Btf::parse(bytes) {
            use_all(&btf);
            let _ = btf.only(&[]);
        }
    }
}

#[test]
fn what_is_left_out_leaves_its_number() {
    let whole = Btf::parse(object()).unwrap();
    let bytes = Btf::parse(object()).unwrap().only(&["sk_buff", "key", "exemplar"]).unwrap();
    assert!(bytes.len() < object().len());
    let part = Btf::parse(bytes).unwrap();
    assert_eq!(part.entries().count(), whole.entries().count());
    for name in ["sk_buff", "exemplar"] {
        assert_eq!(part.layout(name), whole.layout(name), "{name}");
    }
    assert_eq!(part.layout("net_device"), None);
    assert_eq!(part.enums().count(), whole.enums().count());
    let typedef = |btf: &Btf| {
        btf.entries().position(|entry| {
            entry.kind == Kind::Typedef && btf.string(entry.name) == Some("possible_net_t")
        })
    };
    assert!(typedef(&whole).is_some());
    assert_eq!(typedef(&part), typedef(&whole));
}
