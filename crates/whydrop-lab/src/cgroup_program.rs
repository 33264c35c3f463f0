//! A program that refuses what the sockets of a server receive or send: attached to a control group of
//! its own (v2). It goes with its owner, who holds the only reference; the group is removed as well, or
//! swept by a later run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use aya::{Ebpf, include_bytes_aligned};
use serde::Deserialize;

use crate::LabError;

static OBJECT: &[u8] = include_bytes_aligned!("../bpf/cgroup.bpf.o");

/// Where the v2 hierarchy is mounted by convention: alone, or beside those of v1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Which packets a program of a control group sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CgroupHook {
    /// Those for its sockets.
    Ingress,
    /// Those of its sockets.
    Egress,
}

/// The control group with its program.
#[derive(Debug)]
pub(crate) struct CgroupProgram {
    folder: PathBuf,
    /// Detached when it is dropped.
    _program: Ebpf,
}

impl CgroupProgram {
    /// Makes a group of this name that refuses what passes the hook.
    pub(crate) fn create(name: &str, hook: CgroupHook) -> Result<Self, LabError> {
        let lacking = |why: String| {
            let what = "BPF programs on control groups (v2)".to_owned();
            LabError::Lacking { what, why }
        };
        let root = roots().next().ok_or_else(|| lacking("no v2 hierarchy is mounted".into()))?;
        let folder = root.join(name);
        fs::create_dir(&folder)
            .map_err(|error| lacking(format!("cannot make {}: {error}", folder.display())))?;
        match attach(&folder, hook) {
            Ok(program) => Ok(Self { folder, _program: program }),
            Err(why) => {
                let _ = fs::remove_dir(&folder);
                Err(lacking(why))
            }
        }
    }

    /// The group's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The hook's program, loaded and attached; or why it cannot be.
fn attach(folder: &Path, hook: CgroupHook) -> Result<Ebpf, String> {
    let (name, hook) = match hook {
        CgroupHook::Ingress => ("lab_ingress", CgroupSkbAttachType::Ingress),
        CgroupHook::Egress => ("lab_egress", CgroupSkbAttachType::Egress),
    };
    let group = File::open(folder).map_err(|error| error.to_string())?;
    let mut object = Ebpf::load(OBJECT).map_err(|error| error.to_string())?;
    let program = object.program_mut(name).ok_or("the object lacks the program")?;
    let program: &mut CgroupSkb = program.try_into().map_err(|_| "not for control groups")?;
    program.load().map_err(|error| error.to_string())?;
    program
        .attach(group, hook, CgroupAttachMode::Single)
        .map_err(|error| format!("attaching to {}: {error}", folder.display()))?;
    Ok(object)
}

impl Drop for CgroupProgram {
    fn drop(&mut self) {
        // Its processes have ended; what cannot be removed now is swept by a later run.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Folders below which such groups can be made.
pub(crate) fn roots() -> impl Iterator<Item = &'static Path> {
    ROOTS.iter().map(Path::new).filter(|root| root.join("cgroup.controllers").exists())
}
