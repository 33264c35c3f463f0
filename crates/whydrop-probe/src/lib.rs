//! The kernel side: a drop tracer, and what is needed to read it.
//!
//! [`Tracer`] counts every packet freed through `kfree_skb` in the kernel and hands out a few of
//! each kind in detail; [`Events`] does the same at tracepoints that tell of loss elsewhere;
//! [`Resolver`] turns its numbers into the names of the running kernel;
//! [`DebugInfo`] turns addresses into lines of source; [`KernelFacts`] says what this kernel offers. Nothing here judges or formats: what comes out is
//! [`whydrop_model::TracerEvidence`].
//!
//! Kernel numbers (drop reasons, offsets, addresses) live and die in this crate. Everything that
//! leaves it is keyed by the kernel's names.

mod attach;
mod baseline;
mod btf;
mod cgroups;
mod clock;
mod counts;
mod debug_info;
mod error;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod heap;
mod kernel;
mod loader;
mod packet;
mod patch;
mod programs;
mod reader;
mod reasons;
mod resolve;
mod symbols;
mod tracer;
mod wire;

pub use attach::{Options, VMLINUX_BTF};
pub use baseline::Baseline;
pub use btf::{Btf, Enum, Malformed};
pub use cgroups::{CgroupHook, cgroup_programs};
pub use clock::monotonic_ns;
pub use counts::{Count, Counts};
pub use debug_info::{DebugInfo, Places, Unusable};
pub use error::Error;
pub use events::{EventCount, Events};
pub use kernel::{KernelFacts, Missing, SubsystemFacts};
pub use packet::flow;
pub use programs::program_names;
pub use reader::Reader;
pub use reasons::{Reason, Reasons};
pub use resolve::Resolver;
pub use symbols::{Symbols, SymbolsUnavailable};
pub use tracer::{RunStats, Tracer};
pub use wire::{Key, RawDrop};
