//! Receive queues of sockets: what `whydrop sockets --format json` prints (`whydrop.sockets/1`).

use serde::{Deserialize, Serialize};

use crate::{NetnsRef, NotChecked, Pod, ReportWindow, SocketProtocol};

/// Version of the document.
pub const SOCKETS_SCHEMA: &str = "whydrop.sockets/1";

/// The receive queues of a host over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queues {
    /// [`SOCKETS_SCHEMA`].
    pub schema: String,
    /// How long they were looked at.
    pub window: ReportWindow,
    /// Those that lost something first, then the fullest.
    pub queues: Vec<Queue>,
    /// What could not be examined.
    pub not_checked: Vec<NotChecked>,
}

/// One socket's receive queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its namespace.
    pub netns: NetnsRef,
    /// Kind of socket.
    pub protocol: SocketProtocol,
    /// True if it waits for connections: then the queue holds connections and not bytes.
    pub listening: bool,
    /// Where it listens: address and port, path, IP protocol, EtherType or netlink family.
    pub local: String,
    /// In the queue when the window closed: connections, or bytes charged to the receive buffer.
    pub queued: u64,
    /// Most seen in it at any look.
    pub peak: u64,
    /// How often it was looked at; with fewer than two, a peak says little.
    pub looks: u32,
    /// What it holds at most, in the same unit; `None` if the kernel does not tell.
    pub limit: Option<u64>,
    /// What sets the limit: a sysctl, or what the program asked for.
    pub bound_by: Option<String>,
    /// Lost in the window because it was full (or, for TCP connections, for any other reason).
    pub drops: u64,
    /// Lost since the socket exists.
    pub drops_ever: u64,
    /// Who reads it; `None` if not found, or not searched for because all is well.
    pub owner: Option<QueueOwner>,
}

/// A process with a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueOwner {
    /// Process id.
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub comm: String,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// Its pod.
    pub pod: Option<Pod>,
    /// How many other processes have the socket open too.
    pub others: usize,
}

impl Queue {
    /// The most seen, in percent of the limit; above 100 where the kernel lets one more in. `None`
    /// without a limit.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        Some(self.peak.saturating_mul(100) / limit)
    }
}
