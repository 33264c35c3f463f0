//! Control groups, and what of a process tells which service it belongs to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Counters, Process};

/// A Kubernetes pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Unique id, or the hash that the kubelet gives a static pod.
    pub uid: String,
    /// Kubernetes namespace; `None` if the kubelet's log folder does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the container within the pod; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Open files of a process against what it may open. At the limit, `accept()` fails with EMFILE and
/// the accept queue fills up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    /// Entries of `/proc/PID/fd`.
    pub open: u64,
    /// Soft limit of `RLIMIT_NOFILE`; `None` if unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A control group in which an owner of a socket in trouble runs, or a parent of one: limits act on
/// all below.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cgroup {
    /// Path as in `/proc/PID/cgroup`.
    pub path: String,
    /// `cgroup2`, or the controller of a v1 hierarchy (`cpu`, `memory`).
    pub hierarchy: String,
    /// By file and field: `cpu.stat.nr_throttled`, `cpu.stat.throttled_usec` (v1:
    /// `cpu.stat.throttled_time`, in nanoseconds), `memory.stat.sock` (bytes),
    /// `memory.events.max`, v1 `memory.kmem.tcp.usage_in_bytes`. The earlier value is that of the
    /// moment in which the owner was found, shortly after the window opened.
    pub counters: Counters,
    /// Limits as written there: `cpu.max`, `memory.max`, v1 `cpu.cfs_quota_us`,
    /// `cpu.cfs_period_us`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// BPF programs that see what a process receives and sends: those on its control group (v2) and the
/// groups above it, when the window closed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CgroupPrograms {
    /// The process.
    pub pid: u32,
    /// Path of its group, as in `/proc/PID/cgroup`.
    pub path: String,
    /// Folder of the group, for commands.
    pub folder: String,
    /// Ids of the programs that see what they receive, in the order in which they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<u32>,
    /// Ids of those that see what they send, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<u32>,
}

impl Cgroup {
    /// Whether this process runs in it or below it.
    #[must_use]
    pub fn holds(&self, process: &Process) -> bool {
        let path =
            process.cgroup_of.get(&self.hierarchy).or(process.cgroup.as_ref()).map(String::as_str);
        path.is_some_and(|path| {
            path.strip_prefix(self.path.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_holds_what_is_below_it() {
        let process = Process { cgroup: Some("/a/b".into()), ..Process::default() };
        let holds = |path: &str, hierarchy: &str, process: &Process| {
            let cgroup =
                Cgroup { path: path.into(), hierarchy: hierarchy.into(), ..Cgroup::default() };
            cgroup.holds(process)
        };
        for (path, held) in
            [("/", true), ("/a", true), ("/a/b", true), ("/a/b/c", false), ("/a/bc", false)]
        {
            assert_eq!(holds(path, "cgroup2", &process), held, "{path}");
        }
        let elsewhere =
            Process { cgroup_of: BTreeMap::from([("cpu".into(), "/c".into())]), ..process };
        assert!(holds("/c", "cpu", &elsewhere) && !holds("/a", "cpu", &elsewhere));
        assert!(!holds("/", "cpu", &Process::default()));
    }
}
