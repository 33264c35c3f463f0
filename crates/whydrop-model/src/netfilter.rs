//! The packet filter of a namespace: chains, rules and queues to programs.

use serde::{Deserialize, Serialize};

use crate::{Counters, Pair};

/// The packet filter when the window closed, with what its counters counted in the window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Netfilter {
    /// Chains of nftables, in the kernel's order; those made by `iptables-nft` are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<Chain>,
    /// Rules left out because there are so many: they can neither drop nor divert a packet.
    #[serde(default)]
    pub rules_left_out: u32,
    /// Rules left out although they can drop or divert a packet.
    #[serde(default)]
    pub dropping_rules_left_out: u32,
}

/// A chain of nftables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chain {
    /// `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub family: String,
    /// Name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its handle in the table.
    pub handle: u64,
    /// Where packets enter it; `None` for a chain that is only jumped to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// True if the table is dormant: no packet enters it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dormant: bool,
    /// Its rules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Where a base chain hooks into the network stack.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hook {
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress` or `egress`.
    pub name: String,
    /// Lower numbers come first.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// True if packets that reach the end of the chain are dropped, false if they are accepted.
    pub policy_drop: bool,
    /// Packets that reached the end of the chain; `None` if nothing counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_packets: Option<Pair>,
    /// Devices of a chain of family `netdev`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// A rule of nftables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rule {
    /// Its handle in the table, as `nft -a` shows it and `nft delete rule` takes it.
    pub handle: u64,
    /// What it does, as near to the language of `nft` as whydrop can write it; an expression in
    /// square brackets is one it cannot.
    pub text: String,
    /// What it does to packets that match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<RuleVerdict>,
    /// Packets that it counted; `None` without a counter of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Pair>,
    /// Bytes, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Pair>,
    /// True if it holds only below or above a rate (`limit`, `quota`, `hashlimit`, ...).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a rule does to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleVerdict {
    /// Passed on to the next hook.
    Accept,
    /// Dropped in silence.
    Drop,
    /// Dropped, and the sender is told.
    Reject,
    /// Handed to the program that reads this queue; dropped if there is none and not `bypass`.
    Queue {
        /// First queue number.
        number: u16,
        /// Passes where no program reads.
        bypass: bool,
    },
    /// Another chain goes on and comes back.
    Jump(String),
    /// Another chain goes on for good.
    Goto(String),
    /// Back to the chain that jumped here.
    Return,
    /// Taken away: handed to another device or to the kernel itself (`fwd`, `synproxy`).
    Stolen,
}

impl RuleVerdict {
    /// True if the packet may end here: dropped, rejected, queued or taken away.
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject | Self::Queue { .. } | Self::Stolen)
    }
}

/// What fills the table of connection tracking, by a part of its entries. Read only where the table is
/// nearly full.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrackedFlows {
    /// Entries that were read.
    pub seen: u32,
    /// Of these, flows that nobody answered, and TCP handshakes that are not complete.
    pub half_open: u32,
    /// TCP connections in state ESTABLISHED.
    pub established: u32,
    /// Seconds until their entries time out, on average.
    pub established_left: u64,
}

/// A group of `NFLOG`: packets are copied to a program (`/proc/net/netfilter/nfnetlink_log`). It loses no
/// packets; what the program is too slow for is lost to it alone, and counted by its netlink socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogGroup {
    /// Its number.
    pub number: u32,
    /// Netlink port of the program; often its process id.
    pub port: u32,
    /// Packets that were gathered for the next message when the window closed.
    pub waiting: u32,
}

/// A queue of packets to a program (`NFQUEUE`; `/proc/net/netfilter/nfnetlink_queue`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PacketQueue {
    /// Its number.
    pub number: u32,
    /// Netlink port of the program; often its process id.
    pub port: u32,
    /// Packets that waited for a verdict when the window opened and when it closed.
    pub waiting: Pair,
    /// `dropped`: the queue was full (`queue_maxlen`, 1024 by default); `user_dropped`: the program's
    /// socket was full.
    pub stats: Counters,
}
