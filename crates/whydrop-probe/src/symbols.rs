//! Names of kernel addresses, from `/proc/kallsyms`.
//!
//! Keeps function symbols only, all names in one string: the whole table of a usual kernel in about
//! five megabytes. Programs loaded later are not in it; an address far behind the last byte any
//! function could have is therefore left unnamed.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use whydrop_model::CallSite;

/// No function comes near this; what is farther from the last symbol is not in it.
const LONGEST_FUNCTION: u64 = 1 << 18;

/// Why addresses cannot be named, and what would help.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsUnavailable {
    /// The file cannot be read.
    #[error("/proc/kallsyms is unreadable: {0}")]
    Unreadable(#[from] io::Error),
    /// All addresses read as zero.
    #[error(
        "/proc/kallsyms hides its addresses; run as root or grant CAP_SYSLOG, with \
         kernel.kptr_restrict below 2"
    )]
    Hidden,
    /// No function in it.
    #[error("/proc/kallsyms lists no functions; the kernel was built without CONFIG_KALLSYMS")]
    Empty,
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    name: u32,
    name_length: u16,
    /// Number of the module, counted from 1; 0 for the kernel image.
    module: u16,
}

/// The kernel's functions by address.
#[derive(Debug, Default)]
pub struct Symbols {
    names: String,
    modules: Vec<String>,
    sorted: Vec<Symbol>,
}

impl Symbols {
    /// Reads the running kernel's symbol table: about 50 ms, most of it the kernel's own work.
    pub fn read() -> Result<Self, SymbolsUnavailable> {
        Self::parse(BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms")?))
    }

    /// Parses text in the format of `/proc/kallsyms`: address, type, name, `[module]`. Lines that
    /// are not like that are skipped.
    pub(crate) fn parse(mut lines: impl BufRead) -> Result<Self, SymbolsUnavailable> {
        let mut symbols = Self::default();
        let mut functions = 0_usize;
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                break;
            }
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            // `__pfx_` marks the padding in front of a function.
            if !matches!(kind, "t" | "T" | "w" | "W") || name.starts_with("__pfx_") {
                continue;
            }
            functions += 1;
            if address != 0 {
                symbols.push(address, without_suffix(name), fields.next());
            }
        }
        match (functions, symbols.sorted.is_empty()) {
            (0, _) => Err(SymbolsUnavailable::Empty),
            (_, true) => Err(SymbolsUnavailable::Hidden),
            _ => {
                symbols.sorted.sort_by_key(|symbol| symbol.address);
                symbols.sorted.shrink_to_fit();
                symbols.names.shrink_to_fit();
                Ok(symbols)
            }
        }
    }

    fn push(&mut self, address: u64, name: &str, module: Option<&str>) {
        let module = match module.map(|module| module.trim_matches(['[', ']'])) {
            None => 0,
            // Symbols of a module stand together.
            Some(module) => {
                if self.modules.last().is_none_or(|last| last != module) {
                    self.modules.push(module.to_owned());
                }
                self.modules.len() as u16
            }
        };
        let (start, name_length) = (self.names.len() as u32, name.len() as u16);
        self.names.push_str(name);
        self.sorted.push(Symbol { address, name: start, name_length, module });
    }

    /// Names of all functions, without compiler suffixes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|symbol| self.name(symbol))
    }

    /// Where a function of the kernel image begins; the first of them, if several have that name.
    pub fn address(&self, name: &str) -> Option<u64> {
        let is_it = |symbol: &&Symbol| symbol.module == 0 && self.name(symbol) == name;
        self.sorted.iter().find(is_it).map(|symbol| symbol.address)
    }

    fn name(&self, symbol: &Symbol) -> &str {
        let start = symbol.name as usize;
        &self.names[start..start + usize::from(symbol.name_length)]
    }

    /// How many functions are known.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Never true of a table that was read.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The function that a return address lies in, and how far. A call may be the last instruction
    /// of its function, so it is the byte before the return address that is looked up. An address
    /// in no known function becomes a nameless site.
    pub fn call_site(&self, return_address: u64) -> CallSite {
        let inside = return_address.saturating_sub(1);
        let after = self.sorted.partition_point(|symbol| symbol.address <= inside);
        let found = after
            .checked_sub(1)
            .map(|index| self.sorted[index])
            .filter(|symbol| inside - symbol.address < LONGEST_FUNCTION);
        let Some(symbol) = found else { return nameless(return_address) };
        let module = usize::from(symbol.module).checked_sub(1);
        CallSite {
            symbol: self.name(&symbol).to_owned(),
            offset: return_address - symbol.address,
            module: module.map(|index| self.modules[index].clone()),
        }
    }
}

/// The site of an address that has no name.
pub(crate) fn nameless(address: u64) -> CallSite {
    CallSite { symbol: String::new(), offset: address, module: None }
}

/// The function's name as in the source: compilers add suffixes to the parts and copies they make.
fn without_suffix(name: &str) -> &str {
    const SUFFIXES: [&str; 6] =
        [".isra.", ".constprop.", ".part.", ".cold", ".llvm.", ".lto_priv."];
    let cut = SUFFIXES.iter().filter_map(|suffix| name.find(suffix)).min();
    match cut {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t tcp_v4_rcv
ffffffff81000100 d some_data
ffffffff81000200 t icmp_push_reply.constprop.0.isra.0
ffffffff81000300 t tail.cold
not a line
ffffffffc0001000 t nft_do_chain\t[nf_tables]
ffffffffc0002000 t nft_other\t[nf_tables]
ffffffffc0100000 t ovs_vport_receive\t[openvswitch]
";

    fn shown(address: u64) -> String {
        Symbols::parse(TABLE.as_bytes()).unwrap().call_site(address).to_string()
    }

    #[test]
    fn a_return_address_belongs_to_the_function_that_called() {
        assert_eq!(shown(0xffff_ffff_8100_0180), "tcp_v4_rcv+0x80");
        // The call was the function's last instruction.
        assert_eq!(shown(0xffff_ffff_8100_0200), "tcp_v4_rcv+0x100");
    }

    #[test]
    fn compiler_suffixes_and_modules() {
        assert_eq!(shown(0xffff_ffff_8100_0210), "icmp_push_reply+0x10");
        assert_eq!(shown(0xffff_ffff_8100_0310), "tail+0x10");
        assert_eq!(shown(0xffff_ffff_c000_1008), "nft_do_chain+0x8 [nf_tables]");
        assert_eq!(shown(0xffff_ffff_c010_0001), "ovs_vport_receive+0x1 [openvswitch]");
    }

    #[test]
    fn what_no_function_holds_stays_nameless() {
        assert_eq!(shown(0x1000), "0x1000");
        assert_eq!(shown(0), "0x0");
        assert_eq!(shown(0xffff_ffff_d000_0000), "0xffffffffd0000000");
        assert_eq!(shown(u64::MAX), "0xffffffffffffffff");
    }

    #[test]
    fn hidden_and_empty_tables_are_told_apart() {
        let hidden = "0000000000000000 T _text\n0000000000000000 t tcp_v4_rcv\n";
        assert!(matches!(Symbols::parse(hidden.as_bytes()), Err(SymbolsUnavailable::Hidden)));
        assert!(matches!(Symbols::parse(&b"\n\n"[..]), Err(SymbolsUnavailable::Empty)));
        assert!(matches!(Symbols::parse(&b"\xff\xff"[..]), Err(SymbolsUnavailable::Unreadable(_))));
    }
}
