//! Loads the compiled tracer and attaches it, in the cheapest way that the kernel accepts.
//!
//! Everything that depends on the loader library is here, in the maps' readers and in
//! [`baseline`](crate::baseline). Which of the three programs fits is found by trying, and how many
//! arguments the tracepoint has by asking BTF; a kernel's version number decides nothing.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use aya::programs::{BtfTracePoint, Program, ProgramError, RawTracePoint, TracePoint};
use aya::util::nr_cpus;
use aya::{Btf, Ebpf, EbpfLoader, Endianness, include_bytes_aligned};
use whydrop_model::Attach;

use crate::Error;
use crate::error::{permission_denied, refusal};
use crate::events::{self, LoadedEvents};
use crate::loader::empty_loader;
use crate::patch;
use crate::wire::{BUCKET_BYTES, MORE_BYTES, PACKET_BYTES, REMAINDERS, TOTAL_BYTES};

/// Where the running kernel shows its type information.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The tracepoint, as `subsystem` and `name`.
pub(crate) const TRACEPOINT: (&str, &str) = ("skb", "kfree_skb");

/// The ways to attach, cheapest first, with the program of each.
pub(crate) const KINDS: [(Attach, &str); 3] =
    [(Attach::TpBtf, "drop_btf"), (Attach::RawTp, "drop_raw"), (Attach::Tp, "drop_tp")];

pub(crate) static OBJECT: &[u8] = include_bytes_aligned!("../bpf/drop.bpf.o");

/// Size of the ring of exemplars unless another is asked for, as in `drop.bpf.c`.
const RING_BYTES: usize = 1 << 20;
/// What all maps together may take in the kernel.
const KERNEL_BYTES: usize = 16 << 20;
/// More buckets than this are never needed: 4096 keys per CPU.
const MOST_BUCKETS: usize = 512;
const FEWEST_BUCKETS: usize = 16;

/// How to trace.
#[derive(Debug, Clone)]
pub struct Options {
    /// Drops shown in detail per second, for each key on each CPU; 0 for none.
    pub rate: u32,
    /// Whether those carry the kernel stack.
    pub stacks: bool,
    /// The running kernel's type information.
    pub btf: PathBuf,
    /// The only way to attach to be tried; `None` for the first that works.
    pub only: Option<Attach>,
    /// Buckets of eight keys in the table of totals, per CPU, rounded up to a power of two; `None`
    /// for as many as fit.
    pub buckets: Option<u32>,
    /// Whether to count polls of network devices that use up their budget (`napi:napi_poll`). Off by
    /// default: the tracepoint fires for every poll, which under a flood is every packet, and even a
    /// program that only looks costs the traffic one to two percent.
    pub polls: bool,
    /// Bytes of each packet shown, from its network header on; at least 96 are, at most 8288, and
    /// only what is in its linear part. More bytes fill the ring sooner.
    pub packet_bytes: u32,
    /// Bytes of the ring of exemplars: a power of two, a page at least.
    pub ring_bytes: u32,
    /// A packet filter: drops that it does not accept are neither counted nor shown. eBPF as
    /// `whydrop-filter` makes it; see `bpf/filter.h` for what it is given. `None` counts every drop.
    pub filter: Option<Box<[u64]>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: 10,
            stacks: true,
            btf: VMLINUX_BTF.into(),
            only: None,
            buckets: None,
            polls: false,
            packet_bytes: PACKET_BYTES,
            ring_bytes: RING_BYTES as u32,
            filter: None,
        }
    }
}

/// A loaded object, with the type information that it was adapted to.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    btf: Btf,
    /// Arguments of the tracepoint; `None` if the kernel does not have it.
    arguments: Option<u8>,
}

/// Adapts the tracer to the running kernel and creates its maps. Attaches nothing.
pub(crate) fn load(options: &Options) -> Result<Loaded, Error> {
    let mut loader = empty_loader();
    let own = crate::Btf::read(&options.btf)?;
    let globals = Globals::new(options, &own)?;
    let btf = for_loader(own, &options.btf)?;
    let ebpf = globals.load(loader.btf(Some(&btf)))?;
    drop(loader);
    Ok(Loaded { ebpf, btf, arguments: globals.arguments })
}

/// Adapts the programs of the other tracepoints.
pub(crate) fn load_events(options: &Options) -> Result<LoadedEvents, Error> {
    let mut loader = empty_loader();
    let own = crate::Btf::read(&options.btf)?;
    let globals = events::Globals::new(options, &own)?;
    let btf = for_loader(own, &options.btf)?;
    globals.load(loader.btf(Some(&btf)))
}

/// Both objects, each as far as it could be loaded.
pub(crate) struct Both {
    pub(crate) drops: Result<Loaded, Error>,
    pub(crate) events: Result<LoadedEvents, Error>,
}

/// Both of the above with the kernel's type information read once, which is most of the work.
pub(crate) fn load_both(options: &Options) -> Result<Both, Error> {
    let mut loader = empty_loader();
    let own = crate::Btf::read(&options.btf)?;
    let (drops, events) = (Globals::new(options, &own)?, events::Globals::new(options, &own)?);
    let btf = for_loader(own, &options.btf)?;
    // The tracer comes last: what its object does not have is no longer asked for then.
    let events = events.load(loader.btf(Some(&btf)));
    let ebpf = drops.load(&mut loader);
    drop(loader);
    let drops = ebpf.map(|ebpf| Loaded { ebpf, btf, arguments: drops.arguments });
    Ok(Both { drops, events })
}

/// What the tracer's object is told before it is loaded.
struct Globals {
    arguments: Option<u8>,
    object: Vec<u8>,
    words_type: u32,
    filtered: u8,
    has_reason: u8,
    has_rx_sk: u8,
    stacks: u8,
    rate: u32,
    bucket_mask: u32,
    wakeup_bytes: u32,
    more: u32,
    ring_bytes: u32,
}

impl Globals {
    fn new(options: &Options, btf: &crate::Btf) -> Result<Self, Error> {
        let arguments = btf.tracepoint_arguments(TRACEPOINT.1);
        let at_least = |count: u8| u8::from(arguments.is_some_and(|arguments| arguments >= count));
        let cpus = cpus()?;
        let buckets = options.buckets.map_or_else(|| buckets(cpus), u32::next_power_of_two);
        let mut object = match &options.filter {
            Some(filter) => patch::with_filter(OBJECT, filter)?,
            None => OBJECT.to_vec(),
        };
        let words_type = patch::with_cast(&mut object, btf);
        Ok(Self {
            arguments,
            object,
            words_type,
            filtered: options.filter.is_some().into(),
            has_reason: at_least(3),
            has_rx_sk: at_least(4),
            stacks: options.stacks.into(),
            rate: options.rate,
            bucket_mask: buckets - 1,
            wakeup_bytes: options.ring_bytes / 4,
            more: more(options.packet_bytes),
            ring_bytes: options.ring_bytes,
        })
    }

    fn load<'a>(&'a self, loader: &mut EbpfLoader<'a>) -> Result<Ebpf, Error> {
        loader
            .override_global("has_reason", &self.has_reason, true)
            .override_global("has_rx_sk", &self.has_rx_sk, true)
            .override_global("words_type", &self.words_type, true)
            .override_global("filtered", &self.filtered, true)
            .override_global("stacks", &self.stacks, true)
            .override_global("rate", &self.rate, true)
            .override_global("bucket_mask", &self.bucket_mask, true)
            .override_global("more", &self.more, true)
            .override_global("wakeup_bytes", &self.wakeup_bytes, true)
            .map_max_entries("exemplars", self.ring_bytes)
            .map_max_entries("totals", self.bucket_mask + 1)
            .load(&self.object)
            .map_err(|error| Error::loading(&error))
    }
}

/// Bytes of a packet beyond those that every exemplar has room for, as the program wants them.
fn more(packet_bytes: u32) -> u32 {
    packet_bytes.saturating_sub(PACKET_BYTES).next_multiple_of(8).min(MORE_BYTES)
}

/// CPUs that per-CPU maps have elements for.
pub(crate) fn cpus() -> Result<usize, Error> {
    nr_cpus().map_err(|(what, source)| Error::Read { what: what.to_owned(), source })
}

/// The structs of the kernel that the programs name, as in `bpf/kernel.h`.
const KERNEL_TYPES: [&str; 15] = [
    "ns_common",
    "net",
    "net_device",
    "inode",
    "file",
    "socket",
    "in6_addr",
    "sock_common",
    "sock",
    "sk_buff",
    "napi_struct",
    "neigh_table",
    "neighbour",
    "devlink_trap_metadata",
    "trace_event_raw_kfree_skb",
];

/// The kernel's type information in the loader's own form, without what it has no use for: it
/// would take a quarter of the whole start-up to go through that.
pub(crate) fn for_loader(own: crate::Btf, path: &Path) -> Result<Btf, Error> {
    let bad = |why: String| Error::BadBtf { path: path.to_owned(), why };
    let bytes = own.only(&KERNEL_TYPES).map_err(|why| bad(why.to_string()))?;
    Btf::parse(&bytes, Endianness::default()).map_err(|error| bad(error.to_string()))
}

/// How many buckets a CPU gets so that all maps stay within [`KERNEL_BYTES`].
fn buckets(cpus: usize) -> u32 {
    let remainders = REMAINDERS as usize * TOTAL_BYTES * cpus;
    let left = KERNEL_BYTES.saturating_sub(RING_BYTES + remainders) / (BUCKET_BYTES * cpus);
    let floor = if left.is_power_of_two() { left } else { left.next_power_of_two() / 2 };
    floor.clamp(FEWEST_BUCKETS, MOST_BUCKETS) as u32
}

impl Loaded {
    /// Attaches one program; says why if the kernel refuses it.
    pub(crate) fn attach(&mut self, kind: Attach, program: &str) -> Result<(), Refusal> {
        let Self { ebpf, btf, arguments } = self;
        let Some(program) = ebpf.program_mut(program) else {
            return Err(Refusal::new("there is no program of that kind"));
        };
        if arguments.is_none() && kind != Attach::Tp {
            return Err(Refusal::new("the kernel's BTF has no tracepoint kfree_skb"));
        }
        match program {
            Program::BtfTracePoint(program) => attach_tp_btf(program, btf)?,
            Program::RawTracePoint(program) => attach_raw_tp(program)?,
            Program::TracePoint(program) => attach_tp(program)?,
            _ => return Err(Refusal::new("there is no program of that kind")),
        }
        Ok(())
    }
}

fn attach_tp_btf(program: &mut BtfTracePoint, btf: &Btf) -> Result<(), Refusal> {
    program.load(TRACEPOINT.1, btf)?;
    program.attach().map(drop).map_err(|error| {
        let _ = program.unload();
        error.into()
    })
}

fn attach_raw_tp(program: &mut RawTracePoint) -> Result<(), Refusal> {
    program.load()?;
    program.attach(TRACEPOINT.1).map(drop).map_err(|error| {
        let _ = program.unload();
        error.into()
    })
}

fn attach_tp(program: &mut TracePoint) -> Result<(), Refusal> {
    tracefs().map_err(|why| Refusal { why, denied: false })?;
    program.load()?;
    program.attach(TRACEPOINT.0, TRACEPOINT.1).map(drop).map_err(|error| {
        let _ = program.unload();
        error.into()
    })
}

/// Why an attempt to attach failed.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    /// True if it was for want of privilege.
    pub(crate) denied: bool,
}

impl Refusal {
    pub(crate) fn new(why: &str) -> Self {
        Self { why: why.to_owned(), denied: false }
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        // A program that the verifier refuses also fails with EACCES; only that one has a log.
        let denied = match &error {
            ProgramError::LoadError { verifier_log, io_error } => {
                verifier_log.to_string().is_empty() && permission_denied(io_error)
            }
            other => permission_denied(other),
        };
        Self { why: refusal(&error), denied }
    }
}

/// Where the description of the classic tracepoint is, or why it is not to be had. Mounts nothing.
pub(crate) fn tracefs() -> Result<PathBuf, String> {
    let mut why =
        Cow::from("tracefs is not mounted (mount -t tracefs tracefs /sys/kernel/tracing)");
    for root in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        let root = Path::new(root);
        let event = root.join("events").join(TRACEPOINT.0).join(TRACEPOINT.1).join("id");
        match std::fs::read_to_string(event) {
            Ok(_) => return Ok(root.to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                why = format!("{} is not readable; run as root", root.display()).into();
            }
            Err(_) if root.join("events").exists() => {
                why = "the kernel has no tracepoint skb:kfree_skb".into();
            }
            Err(_) => {}
        }
    }
    Err(why.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_stay_within_their_memory() {
        let bytes = |cpus: usize| {
            let table = buckets(cpus) as usize * BUCKET_BYTES * cpus;
            RING_BYTES + REMAINDERS as usize * TOTAL_BYTES * cpus + table
        };
        assert_eq!(buckets(2), 512);
        assert_eq!(buckets(64), 256);
        for cpus in 1..=512 {
            assert!(buckets(cpus).is_power_of_two());
            assert!(bytes(cpus) <= KERNEL_BYTES, "{cpus} CPUs take {}", bytes(cpus));
        }
        // Beyond, the least that makes sense wins.
        assert_eq!(buckets(8192), 16);
    }

    #[test]
    fn the_types_are_those_of_the_header() {
        let header = include_str!("../bpf/kernel.h");
        let named =
            header.lines().filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"));
        assert_eq!(named.collect::<Vec<_>>(), KERNEL_TYPES);
    }

    #[test]
    fn the_ring_is_as_large_as_the_source_says() {
        assert!(include_str!("../bpf/drop.bpf.c").contains("MAP_NUMBER(max_entries, 1 << 20)"));
    }
}
