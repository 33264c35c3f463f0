//! A limit on the memory that the TCP sockets of a server may take: a control group of its own, in
//! the v1 hierarchy, where that is a limit apart. Removed with its owner, or swept by a later run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;

/// Where the v1 memory controller is mounted by convention.
pub(crate) const GROUPS: &str = "/sys/fs/cgroup/memory";

/// A control group.
#[derive(Debug)]
pub(crate) struct SocketMemory(PathBuf);

impl SocketMemory {
    /// Makes a group whose TCP sockets may take so many bytes.
    pub(crate) fn create(name: &str, bytes: u64) -> Result<Self, LabError> {
        let limit = "memory.kmem.tcp.limit_in_bytes";
        if !Path::new(GROUPS).join(limit).exists() {
            let what = "limit of TCP memory by control group (v1)".to_owned();
            return Err(LabError::Lacking { what, why: format!("no {GROUPS}/{limit}") });
        }
        let group = Self(Path::new(GROUPS).join(name));
        let failed = |path: &Path| LabError::io(format!("limiting memory in {}", path.display()));
        fs::create_dir(&group.0).map_err(failed(&group.0))?;
        let file = group.0.join(limit);
        fs::write(&file, bytes.to_string()).map_err(failed(&file))?;
        Ok(group)
    }

    /// Moves a process into it: what it accepts from then on is charged to the group.
    pub(crate) fn hold(&self, pid: u32) -> Result<(), LabError> {
        let file = self.0.join("cgroup.procs");
        let failed = LabError::io(format!("moving a process to {}", file.display()));
        fs::write(&file, pid.to_string()).map_err(failed)
    }
}

impl Drop for SocketMemory {
    fn drop(&mut self) {
        // Its processes have ended; what cannot be removed now is swept by a later run.
        let _ = fs::remove_dir(&self.0);
    }
}
