//! What would help against a finding: one change with its reasons, or words on whose turn it is.
//!
//! A [`Proposal`] is pure data. Diagnosis writes it; only the crate that changes the host acts on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EvidenceItem, NetnsRef, Site};

/// The answer to one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cure {
    /// Cause id.
    pub cause: String,
    /// Variant of the cause.
    pub variant: Option<String>,
    /// Packets lost to it in the window.
    pub packets: u64,
    /// Where.
    pub site: Site,
    /// What to do.
    pub answer: Answer,
}

/// Who can do something about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One change that whydrop can make.
    Change(Box<Proposal>),
    /// More was asked for than can be served, for the whole window: no buffer helps.
    Capacity(Shortage),
    /// A change that only the operator can make: hardware, another host, an application, a decision.
    Operator(Handover),
}

/// One change: the smallest set of settings that only together have an effect, in the order in which
/// they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// One sentence: what is changed and why it helps.
    pub summary: String,
    /// What is written.
    pub writes: Vec<Write>,
    /// What was measured, and what the new value follows from.
    pub measured: Vec<EvidenceItem>,
    /// How it follows, with the numbers; `None` where there is nothing to calculate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizing: Option<String>,
    /// What it may cost.
    pub risk: String,
    /// What it opens to others, if it does: such a change needs the operator's explicit consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weakens: Option<String>,
    /// What it interrupts for a moment, if it does: such a change needs the operator's explicit consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupts: Option<String>,
    /// What keeps it beyond a restart of the program or the host, other than the settings themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permanent: Vec<String>,
    /// What is often changed as well, and deliberately is not, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Proposal {
    /// True if it reaches into a running program.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.writes.iter().any(|write| write.target.is_live())
    }
}

/// One setting to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Network namespace in which it is written.
    pub netns: NetnsRef,
    /// What is written.
    pub target: Target,
    /// Its value in the evidence; `None` if that does not tell.
    pub old: Option<String>,
    /// The value proposed.
    pub new: String,
}

/// Something of the kernel's that can be read and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Target {
    /// A sysctl. A dot inside a part of its name is written as a slash:
    /// `net.ipv4.conf.eth0/10.rp_filter`.
    Sysctl {
        /// Its name.
        name: String,
    },
    /// The backlog of a listening TCP socket of a running process (`sk_max_ack_backlog`); setting it
    /// calls `listen()` on the process's own socket.
    Backlog(SocketOf),
    /// The receive buffer of a socket of a running process (`sk_rcvbuf`, twice what `SO_RCVBUF` asks
    /// for).
    ReceiveBuffer(SocketOf),
    /// An attribute of a network device.
    Link {
        /// Its name.
        device: String,
        /// Which.
        attribute: LinkAttribute,
    },
    /// Rings or queues of a network card (`ethtool -G`, `-L`).
    Card {
        /// Its name.
        device: String,
        /// Which.
        setting: CardSetting,
    },
    /// Mask of the CPUs that take over what a receive queue gets (RPS), or that send through a transmit
    /// queue (XPS); hexadecimal, as the kernel writes it but without leading zeros.
    QueueCpus {
        /// The device.
        device: String,
        /// `rx-0`, `tx-0`, ...
        queue: String,
    },
    /// The limit of a queueing discipline, in packets or bytes as its kind counts.
    QdiscLimit {
        /// Device it is on.
        device: String,
        /// `pfifo`, `fq`, ...
        qdisc: String,
        /// Its handle, as `tc` writes it.
        handle: String,
        /// What it hangs on, as `tc` writes it.
        parent: String,
    },
}

/// A socket of a process, told so that no other can be mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOf {
    /// Process that has it open.
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub comm: String,
    /// Inode of the socket's file.
    pub inode: u64,
    /// Its address and port, for people.
    pub endpoint: String,
}

/// What of a network device is set by `ip link set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkAttribute {
    /// `up` or `down` (`IFF_UP`).
    State,
    /// MTU in bytes.
    Mtu,
    /// `txqueuelen` in packets.
    TxQueueLen,
}

/// What of a network card is set by `ethtool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardSetting {
    /// Descriptors of each receive ring.
    RxRing,
    /// Descriptors of each transmit ring.
    TxRing,
    /// Queues that only receive.
    RxQueues,
    /// Queues that only send.
    TxQueues,
    /// Queues that do both.
    CombinedQueues,
}

impl Target {
    /// True if it belongs to a running program and not to the host's configuration.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Backlog(_) | Self::ReceiveBuffer(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { name } => f.write_str(name),
            Self::Backlog(socket) => write!(f, "backlog of {socket}"),
            Self::ReceiveBuffer(socket) => write!(f, "receive buffer of {socket}"),
            Self::Link { device, attribute } => match attribute {
                LinkAttribute::State => write!(f, "state of {device}"),
                LinkAttribute::Mtu => write!(f, "MTU of {device}"),
                LinkAttribute::TxQueueLen => write!(f, "txqueuelen of {device}"),
            },
            Self::Card { device, setting } => match setting {
                CardSetting::RxRing => write!(f, "receive ring of {device}"),
                CardSetting::TxRing => write!(f, "transmit ring of {device}"),
                CardSetting::RxQueues => write!(f, "receive queues of {device}"),
                CardSetting::TxQueues => write!(f, "transmit queues of {device}"),
                CardSetting::CombinedQueues => write!(f, "queues of {device}"),
            },
            Self::QueueCpus { device, queue } => {
                write!(f, "CPUs of queue {queue} of {device}")
            }
            Self::QdiscLimit { device, qdisc, handle, .. } => {
                write!(f, "limit of {qdisc} {handle} on {device}")
            }
        }
    }
}

impl fmt::Display for SocketOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} (pid {})", self.endpoint, self.comm, self.pid)
    }
}

/// What there is too little of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The resource, as `CPU quota of /system.slice/web.service`.
    pub resource: String,
    /// What was measured that says so.
    pub why: String,
    /// What to do about it.
    pub advice: String,
    /// What would not help, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A change left to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// What to do and why whydrop does not.
    pub advice: String,
    /// Commands that help with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// What would not help, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// What a change came to, judged by the same evidence as the fault itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Under comparable load nothing is lost any more.
    Cured,
    /// Clearly less is lost, not nothing.
    Improved,
    /// As much is lost as before, or it is lost elsewhere now.
    NoEffect,
    /// More is lost than before.
    Worse,
    /// There was too little load to tell.
    NoLoad,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cured => "cured",
            Self::Improved => "improved",
            Self::NoEffect => "no effect",
            Self::Worse => "worse",
            Self::NoLoad => "no load to judge by",
        })
    }
}

/// What was lost, and what was carried beside it, in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Trial {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Packets lost to the cause at its place.
    pub lost: u64,
    /// Packets, datagrams or connections of the kind that can be lost there, those lost included.
    pub offered: u64,
}
