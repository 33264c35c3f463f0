//! A network namespace and what its kernel tables said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Chain, Counters, Filter, Link, Listener, LogGroup, Neighbours, Netfilter, PacketQueue, Pair,
    PortUse, Qdisc, Routes, Socket, SocketCount, TcpPeers, TrackedFlows,
};

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
    /// `/proc/net/snmp`, `netstat` and `snmp6`, as `Group.Name`; `nf_conntrack.drop` and the rest of
    /// `/proc/net/stat/nf_conntrack`, `xfrm.XfrmInNoStates` and the rest of `/proc/net/xfrm_stat`.
    pub counters: Counters,
    /// Levels, which rise and fall, when the window opened and when it closed:
    /// `sockstat.TCP.mem` (pages), `sockstat.FRAG.memory` (bytes) and the rest of
    /// `/proc/net/sockstat` and `sockstat6`; `nf_conntrack.entries`; `xfrm.states`, `xfrm.policies`.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub gauges: Counters,
    /// Settings that matter here, by sysctl name, as read at the end of the window.
    pub sysctls: BTreeMap<String, String>,
    /// Network devices.
    pub links: Vec<Link>,
    /// Listening TCP sockets.
    pub listeners: Vec<Listener>,
    /// Other sockets worth telling; those in trouble first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
    /// How many sockets there were in all, other than TCP listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub socket_counts: Vec<SocketCount>,
    /// To whom its TCP connections retransmitted; `None` if that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_peers: Option<TcpPeers>,
    /// Queueing disciplines and classes of every device; also those nobody configured, but not
    /// `noqueue`, which keeps and counts nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qdiscs: Vec<Qdisc>,
    /// Filters of traffic control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Neighbours; `None` if they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Neighbours>,
    /// Routes that can lose packets; `None` if they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,
    /// The packet filter (nftables); `None` if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netfilter: Option<Netfilter>,
    /// What fills the table of connection tracking; `None` if it has room, or could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked_flows: Option<TrackedFlows>,
    /// Local ports in use towards one remote end, most first and a bounded number of them; empty if
    /// there are fewer connections than nine tenths of the ports in `net.ipv4.ip_local_port_range`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<PortUse>,
    /// Queues of packets to programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packet_queues: Vec<PacketQueue>,
    /// Groups of `NFLOG` that a program listens to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_groups: Vec<LogGroup>,
    /// Tables of `iptables-legacy` and its like that are in force, as `ip filter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy_tables: Vec<String>,
    /// Their chains, as far as they could be read. [`Rule::handle`](crate::Rule::handle) is the number of
    /// the rule in its chain, as `iptables-legacy -L --line-numbers` tells it; each rule counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy_chains: Vec<Chain>,
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

/// One CPU's row of `/proc/net/softnet_stat`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// How often another CPU's RPS woke this one; `None` on kernels that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_rps: Option<Pair>,
    /// Most packets seen waiting in the backlog at once, at either end of the window or at a look in
    /// between; `None` on kernels that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_peak: Option<u32>,
    /// How often the backlog was looked at.
    #[serde(default)]
    pub looks: u32,
}
