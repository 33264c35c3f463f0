//! CPU quotas for lab processes: a control group of its own for each, removed with its owner.
//!
//! Of version 2 where the root lends out its cpu controller, else of version 1. Nothing outside of
//! the groups it made is changed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;

/// Where groups with a cpu controller may be made, and what their files are called.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"];

/// Length of the periods over which a quota is counted, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// A control group that may use only a part of a CPU; removed when dropped, once it is empty.
#[derive(Debug)]
pub(crate) struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// Makes a group of this name that may use `percent` of one CPU.
    pub(crate) fn create(name: &str, percent: u32) -> Result<Self, LabError> {
        let lacking = |why: String| LabError::Lacking { what: "CPU quotas".into(), why };
        let root = roots().next().ok_or_else(|| lacking("no cpu controller to be had".into()))?;
        let folder = root.join(name);
        fs::create_dir(&folder)
            .map_err(|error| lacking(format!("cannot make {}: {error}", folder.display())))?;
        let quota = Self { folder };
        let micros = PERIOD * u64::from(percent) / 100;
        if quota.folder.join("cpu.max").exists() {
            quota.write("cpu.max", &format!("{micros} {PERIOD}"))?;
        } else {
            quota.write("cpu.cfs_period_us", &PERIOD.to_string())?;
            quota.write("cpu.cfs_quota_us", &micros.to_string())?;
        }
        Ok(quota)
    }

    /// Moves a process into it.
    pub(crate) fn hold(&self, pid: u32) -> Result<(), LabError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    fn write(&self, file: &str, value: &str) -> Result<(), LabError> {
        let path = self.folder.join(file);
        fs::write(&path, value)
            .map_err(LabError::io(format!("writing {value} to {}", path.display())))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Nobody is left to tell; what cannot be removed now is swept by a later run.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Folders below which groups can have a quota.
pub(crate) fn roots() -> impl Iterator<Item = &'static Path> {
    ROOTS.iter().map(Path::new).filter(|root| {
        let lent = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        let v2 = lent.split_whitespace().any(|controller| controller == "cpu");
        v2 || root.join("cpu.cfs_quota_us").exists() || root.join("cpu.shares").exists()
    })
}
