//! All that a diagnosis may use.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Cgroup, CgroupPrograms, CpuSide, DropTotal, EventEvidence, Flow, Namespace, NeighbourTable,
    ProtocolMemory, SoftnetCpu, TracerEvidence,
};

/// Version of the evidence document that this release writes.
pub const EVIDENCE_SCHEMA: &str = "whydrop.evidence/1";

/// Everything observed about one host in one window. A diagnosis is a pure function of it, so a
/// recorded one gives the same report anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`EVIDENCE_SCHEMA`].
    pub schema: String,
    /// The host.
    pub host: Host,
    /// The window.
    pub window: ObservedWindow,
    /// What was asked for.
    pub scope: Scope,
    /// What the tracer saw.
    pub tracer: TracerEvidence,
    /// What tracepoints other than `skb:kfree_skb` said.
    #[serde(default)]
    pub events: EventEvidence,
    /// Per-CPU receive backlog; empty if unreadable.
    pub softnet: Vec<SoftnetCpu>,
    /// What the CPUs were busy with.
    #[serde(default)]
    pub cpu_side: CpuSide,
    /// Memory of all TCP and all UDP sockets of the host; empty if unreadable.
    #[serde(default)]
    pub protocol_memory: Vec<ProtocolMemory>,
    /// Control groups of the owners of sockets in trouble, and the parents of those.
    #[serde(default)]
    pub cgroups: Vec<Cgroup>,
    /// Neighbour tables, which serve all namespaces; empty if unreadable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbour_tables: Vec<NeighbourTable>,
    /// BPF programs on the control groups of sockets whose packets a filter dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroup_programs: Vec<CgroupPrograms>,
    /// Names of the BPF programs at XDP hooks and on control groups, by id. Filters of traffic control
    /// have theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bpf_programs: BTreeMap<u32, String>,
    /// Namespaces, the own one first, then by inode.
    pub namespaces: Vec<Namespace>,
    /// What could not be examined, and why.
    pub not_checked: Vec<NotChecked>,
}

impl Evidence {
    /// The namespace with this inode.
    #[must_use]
    pub fn namespace(&self, inode: u64) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.inode == inode)
    }

    /// True if there are exemplars of these drops that show a flow, and `all` of those flows fit.
    /// A total says how many, its exemplars who; without an exemplar nothing is known.
    #[must_use]
    pub fn shows(&self, total: &DropTotal, all: impl Fn(&Flow) -> bool) -> bool {
        let mut flows = self
            .tracer
            .exemplars
            .iter()
            .filter(|one| one.is_of(total))
            .filter_map(|one| one.flow.as_ref())
            .peekable();
        flows.peek().is_some() && flows.all(all)
    }
}

/// Facts about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -n`.
    pub hostname: String,
    /// Online CPUs.
    pub cpus: u32,
    /// `uname -m`.
    pub machine: String,
    /// `/proc/sys/kernel/random/boot_id`; tells one boot from another.
    pub boot_id: Option<String>,
}

/// When the evidence was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedWindow {
    /// Start, RFC 3339, UTC.
    pub start: String,
    /// Length really observed.
    pub seconds: f64,
    /// True if it was ended by a signal before the time asked for.
    #[serde(default)]
    pub interrupted: bool,
}

impl ObservedWindow {
    /// Its length; zero if `seconds` makes no sense.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Names of the only namespaces to examine; empty for all of the host.
    pub netns: Vec<String>,
}

/// Something that could not be examined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotChecked {
    /// What.
    pub what: String,
    /// Why, and what would help.
    pub why: String,
}
