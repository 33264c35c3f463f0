//! An empty program where the tracer attaches: what any program there costs at least. For
//! measurements, which subtract it.

use std::path::Path;

use aya::programs::{BtfTracePoint, ProgramFd};
use aya::{Ebpf, include_bytes_aligned};

use crate::attach::{TRACEPOINT, for_loader};
use crate::error::refusal;
use crate::loader::empty_loader;
use crate::tracer::program_fd;
use crate::{Error, RunStats};

static OBJECT: &[u8] = include_bytes_aligned!("../bpf/empty.bpf.o");
const PROGRAM: &str = "empty_btf";

/// An attached empty program; detached when dropped.
pub struct Baseline {
    program: ProgramFd,
    _ebpf: Ebpf,
}

impl Baseline {
    /// Attaches it as `tp_btf`.
    pub fn attach(btf: &Path) -> Result<Self, Error> {
        let mut ebpf = empty_loader().load(OBJECT).map_err(|error| Error::loading(&error))?;
        let btf = for_loader(crate::Btf::read(btf)?, btf)?;
        let refused = |why: String| Error::Refused { attempts: vec![why] };
        let program: &mut BtfTracePoint = ebpf
            .program_mut(PROGRAM)
            .ok_or_else(|| Error::Object { why: format!("it has no program `{PROGRAM}`") })?
            .try_into()
            .map_err(|error| refused(refusal(&error)))?;
        program.load(TRACEPOINT.1, &btf).map_err(|error| refused(refusal(&error)))?;
        program.attach().map_err(|error| refused(refusal(&error)))?;
        Ok(Self { program: program_fd(&ebpf, PROGRAM)?, _ebpf: ebpf })
    }

    /// What the kernel says about its runs.
    pub fn run_stats(&self) -> Result<RunStats, Error> {
        RunStats::read(&self.program)
    }
}
