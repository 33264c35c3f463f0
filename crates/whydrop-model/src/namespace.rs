//! A network namespace and what its kernel tables said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Counters, Listener, Pair};

/// When in the window a namespace existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// From the first read to the last.
    #[default]
    Whole,
    /// Found after the window had opened; its counters count from zero.
    Appeared,
    /// Gone before the window closed; its last counters are those of its end.
    Vanished,
    /// Both appeared and vanished within the window.
    Brief,
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode of the namespace file (`/proc/PID/ns/net`).
    pub inode: u64,
    /// Name as in `ip netns`, or `None` for the host's own and for anonymous ones.
    pub name: Option<String>,
    /// A process that lives in it, to reach it with `nsenter`; `None` if it is only named.
    pub pid: Option<u32>,
    /// True for the namespace whydrop itself was started in.
    pub own: bool,
    /// When it existed.
    pub presence: Presence,
    /// `/proc/net/snmp`, `netstat` and `snmp6`, as `Group.Name`.
    pub counters: Counters,
    /// Settings that matter here, by sysctl name, as read at the end of the window.
    pub sysctls: BTreeMap<String, String>,
    /// Network devices.
    pub links: Vec<Link>,
    /// Listening TCP sockets.
    pub listeners: Vec<Listener>,
}

impl Namespace {
    /// Growth of a counter in the window; `None` if this kernel does not have it or it was not
    /// readable.
    #[must_use]
    pub fn delta(&self, counter: &str) -> Option<u64> {
        self.counters.get(counter).map(|pair| pair.delta())
    }

    /// A sysctl as a number; `None` if absent or not a number.
    #[must_use]
    pub fn sysctl(&self, name: &str) -> Option<i64> {
        self.sysctls.get(name).and_then(|value| value.trim().parse().ok())
    }
}

/// A network device with its `rtnl_link_stats64`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND` (`veth`, `bridge`, ...); `None` for hardware and loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFLA_CARRIER`; `None` if not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Addresses of the device (`RTM_GETADDR`); tells packets for this host from those for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Fields of `struct rtnl_link_stats64`, by their names in `include/uapi/linux/if_link.h`.
    pub stats: Counters,
}

/// One CPU's row of `/proc/net/softnet_stat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftnetCpu {
    /// CPU number.
    pub cpu: u32,
    /// Packets taken from NAPI and backlog.
    pub processed: Pair,
    /// Packets refused by this CPU's full backlog.
    pub dropped: Pair,
    /// Rounds ended by the budget with work left.
    pub time_squeeze: Pair,
    /// Part of `dropped` refused by the RPS flow limit; `None` before 3.11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_limit: Option<Pair>,
}
