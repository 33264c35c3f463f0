//! Listening TCP sockets and the processes that hold sockets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, OpenFiles, Pair, Pod, ProcessRef};

/// A TCP socket in state LISTEN, as `inet_diag` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Bound address; unspecified for "any".
    pub address: IpAddr,
    /// Bound port.
    pub port: u16,
    /// Index of the device it is bound to; 0 for any.
    #[serde(default)]
    pub ifindex: u32,
    /// True for an IPv6 socket that takes no IPv4 (`IPV6_V6ONLY`, or
    /// bound to an address of IPv6; 4.5+).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6only: bool,
    /// Inode of the socket's file, as in `/proc/PID/fd`.
    pub inode: u64,
    /// User id of the socket's owner.
    pub uid: u32,
    /// Effective backlog (`sk_max_ack_backlog`, Send-Q in `ss -lt`): what the program asked for,
    /// capped by `net.core.somaxconn` when it called `listen()`.
    pub backlog: Pair,
    /// `sk_drops`: every refusal by this listener. A third ACK refused counts twice, a SYN once
    /// (6.18).
    pub drops: Pair,
    /// How the accept queue moved: a step whenever the queue or the drops changed between two looks.
    pub steps: Vec<QueueStep>,
    /// How often the queue was looked at.
    pub looks: u32,
    /// Most half-open connections (`SYN_RECV`) seen at once for this port; `None` if not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_open_peak: Option<u32>,
    /// Processes that have it open, lowest pid first; empty if none could be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Process>,
}

impl Listener {
    /// `address:port`.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: Some(self.port) }
    }

    /// The process to name: the first of its owners.
    #[must_use]
    pub fn process(&self) -> Option<ProcessRef> {
        self.owners.first().map(|one| ProcessRef { pid: one.pid, comm: one.comm.clone() })
    }

    /// Longest accept queue seen.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.steps.iter().map(|step| step.queued).max().unwrap_or(0)
    }
}

/// The accept queue at one moment. It stays so until the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStep {
    /// Milliseconds since the window opened.
    pub at_ms: u64,
    /// Connections waiting for `accept()` (`sk_ack_backlog`, Recv-Q in `ss -lt`). The queue is full
    /// when this is greater than the backlog.
    pub queued: u32,
    /// `sk_drops` at that moment.
    pub drops: u64,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial pid namespace (or whydrop's own).
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub comm: String,
    /// Base name of the executable, or of the first argument where the executable is an interpreter
    /// whose script is known; `None` if unreadable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What runs it, where that is not the executable's own code alone: the interpreter, as `python`,
    /// `java`, `node`, or `go`; `None` if neither, or unreadable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Scheduler state letter when last looked at: `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`.
    pub state: char,
    /// Its control group: the path in the unified hierarchy or, where that tells nothing, in the v1
    /// hierarchy that tells most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Its control groups in v1 hierarchies (`cpu`, `memory`), where they differ from `cgroup`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cgroup_of: BTreeMap<String, String>,
    /// The systemd unit (`nginx.service`) that its control group names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Id or name of the container that its control group names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The pod that its control group names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Its open files when the window closed; only for owners of sockets in trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<OpenFiles>,
    /// Nanoseconds for which its threads were ready to run and had no CPU (`/proc/PID/schedstat`),
    /// from shortly after the window opened until it closed; only for owners of sockets in trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_delay_ns: Option<Pair>,
}
