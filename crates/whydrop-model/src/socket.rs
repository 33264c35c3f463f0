//! Sockets other than TCP listeners: their queues, their drops, and the peers of TCP connections.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, Pair, Process, ProcessRef, QueueStep};

/// Which kind of socket it is: decides what its fields mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketProtocol {
    /// TCP connection.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// Raw IP socket; [`Socket::number`] is its IP protocol.
    Raw,
    /// `AF_PACKET`; [`Socket::number`] is its EtherType (3 is `ETH_P_ALL`: all packets, 0 none).
    Packet,
    /// `AF_UNIX`, state LISTEN.
    Unix,
    /// `AF_NETLINK`; [`Socket::number`] is its netlink family (`NETLINK_ROUTE` 0, ...).
    Netlink,
}

/// State of a socket, by its name in `include/net/tcp_states.h` without `TCP_`. Protocols without
/// connections use two of them: CLOSE for unconnected and ESTABLISHED for connected.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the kernel's and documented there")]
pub enum SocketState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    #[default]
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    /// A number that this release does not know.
    #[serde(other)]
    Unknown,
}

impl SocketState {
    /// The state with this number in `include/net/tcp_states.h`.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            _ => Self::Unknown,
        }
    }
}

/// A socket that is worth telling: one that gets packets from anybody (unconnected UDP, raw,
/// packet), or one whose drops moved or whose queue held something; also some connected UDP sockets,
/// the oldest. All others are only counted, in [`SocketCount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// What it is.
    pub protocol: SocketProtocol,
    /// IP protocol, EtherType or netlink family, as [`SocketProtocol`] says; 0 for the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u16,
    /// State.
    pub state: SocketState,
    /// Own address and port; `None` for packet, unix and netlink sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Endpoint>,
    /// Address and port of the peer; `None` if it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Endpoint>,
    /// Path of a unix socket; begins with `@` if it is abstract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Index of the device it is bound to; 0 for any.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub ifindex: u32,
    /// True for an unconnected IPv6 socket that takes no IPv4 (`IPV6_V6ONLY`, or
    /// bound to an address of IPv6; 4.5+).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6only: bool,
    /// Inode of the socket's file, as in `/proc/PID/fd`; 0 for a socket of the kernel itself.
    pub inode: u64,
    /// The kernel's own number of this socket, never used twice in a boot; 0 where it was read from
    /// `/proc`, which does not tell it.
    #[serde(default)]
    pub cookie: u64,
    /// User id of the socket's owner; `None` where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Id of the control group (v2) in which it was made: the inode of its folder. `None` before
    /// 5.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<u64>,
    /// What waits to be read when the window closes: bytes; for a unix listener, connections.
    pub recv_queue: u32,
    /// What waits to be sent or acknowledged then, in bytes; for a unix listener, its backlog.
    #[serde(default)]
    pub send_queue: u32,
    /// Its memory when the window closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<SocketMemory>,
    /// `sk_drops`, which the kernel keeps in 32 bits: [`Pair::delta32`]. For UDP, raw, packet and
    /// netlink sockets each is a loss to the owner; for a TCP connection it includes harmless
    /// duplicates and window probes.
    pub drops: Pair,
    /// How its receive queue moved, for unconnected UDP sockets: [`QueueStep::queued`] is what is
    /// charged to the receive buffer (`sk_rmem_alloc`, in bytes), which is full at
    /// [`SocketMemory::rcvbuf`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<QueueStep>,
    /// How often the queue was looked at; 0 if it was only read at the ends of the window.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub looks: u32,
    /// What a TCP connection retransmitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpLoss>,
    /// The receive ring of a packet socket that uses one. What does not fit into a ring is counted
    /// for its owner alone and is not in `drops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<PacketRing>,
    /// Processes that have it open, lowest pid first; empty if none was found. Of a UDP socket that
    /// nothing is wrong with and nothing waits in, only the first, and only what names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Process>,
}

impl Socket {
    /// A socket of which nothing else is known.
    #[must_use]
    pub fn new(protocol: SocketProtocol) -> Self {
        Self {
            protocol,
            number: 0,
            state: SocketState::Close,
            local: None,
            remote: None,
            name: None,
            ifindex: 0,
            v6only: false,
            inode: 0,
            cookie: 0,
            uid: None,
            cgroup: None,
            recv_queue: 0,
            send_queue: 0,
            memory: None,
            drops: Pair::default(),
            steps: Vec::new(),
            looks: 0,
            tcp: None,
            ring: None,
            owners: Vec::new(),
        }
    }

    /// The process to name: the first of its owners.
    #[must_use]
    pub fn process(&self) -> Option<ProcessRef> {
        self.owners.first().map(|one| ProcessRef { pid: one.pid, comm: one.comm.clone() })
    }

    /// Most bytes seen charged to the receive buffer.
    #[must_use]
    pub fn peak(&self) -> u32 {
        let last = self.memory.map_or(0, |memory| memory.rmem_alloc);
        self.steps.iter().map(|step| step.queued).max().unwrap_or(0).max(last)
    }

    /// The longest time, in milliseconds, for which every look saw at least `bytes` charged to the
    /// receive buffer. `end_ms` is when the window closed.
    #[must_use]
    pub fn longest_at_least(&self, bytes: u32, end_ms: u64) -> u64 {
        let ends = self.steps.iter().skip(1).map(|step| step.at_ms).chain([end_ms]);
        let (mut longest, mut since) = (0, None);
        for (step, end) in self.steps.iter().zip(ends) {
            if step.queued < bytes {
                since = None;
                continue;
            }
            let begun = *since.get_or_insert(step.at_ms);
            longest = longest.max(end.saturating_sub(begun));
        }
        longest
    }
}

/// `INET_DIAG_SKMEMINFO` (`enum` in `include/uapi/linux/sock_diag.h`): a socket's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SocketMemory {
    /// Charged to the receive buffer: packets with their overhead (`truesize`).
    pub rmem_alloc: u32,
    /// Size of the receive buffer; twice what `SO_RCVBUF` asked for.
    pub rcvbuf: u32,
    /// Charged to the send buffer and handed to the device or queue already.
    pub wmem_alloc: u32,
    /// Size of the send buffer.
    pub sndbuf: u32,
    /// Reserved from the protocol's memory and not in use.
    pub fwd_alloc: u32,
    /// In the send queue.
    pub wmem_queued: u32,
    /// Options and control data.
    pub optmem: u32,
    /// Received while the owner held the lock (TCP, `sk_backlog`).
    pub backlog: u32,
}

/// What a TCP connection retransmitted, from `struct tcp_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpLoss {
    /// `tcpi_total_retrans`: segments retransmitted, 32 bits.
    pub total_retrans: Pair,
    /// `tcpi_retrans`: retransmitted and not yet acknowledged when the window closed.
    pub retrans: u32,
    /// `tcpi_lost`: held to be lost when the window closed.
    pub lost: u32,
    /// `tcpi_rtt`: smoothed round trip in microseconds.
    pub rtt_us: u32,
}

/// A `PACKET_RX_RING` (`struct packet_diag_ring`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PacketRing {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub block_nr: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frame_nr: u32,
}

/// How many sockets of a kind a namespace had when the window closed, those told as [`Socket`]
/// included. TIME_WAIT and half-open TCP connections are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCount {
    /// Kind.
    pub protocol: SocketProtocol,
    /// State.
    pub state: SocketState,
    /// How many.
    pub sockets: u32,
}

/// How many ports of `net.ipv4.ip_local_port_range` TCP connections from one local address to one
/// remote end had when the window closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortUse {
    /// Local address.
    pub local: IpAddr,
    /// Remote end.
    pub remote: Endpoint,
    /// Ports, those of connections in TIME_WAIT included.
    pub ports: u32,
    /// Those in TIME_WAIT.
    pub time_wait: u32,
}

/// Whether many peers or few make a namespace's TCP connections retransmit. Only connections that
/// were open when the window closed are in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpPeers {
    /// Connections.
    pub sockets: u32,
    /// Connections that retransmitted in the window.
    pub retransmitting: u32,
    /// Segments retransmitted in the window.
    pub retransmits: u64,
    /// Different prefixes among the peers.
    pub prefixes: u32,
    /// Different prefixes among the peers of connections that retransmitted.
    pub prefixes_retransmitting: u32,
    /// The prefixes with the most retransmits, most first; a bounded number of them.
    pub worst: Vec<PeerPrefix>,
}

/// The peers of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPrefix {
    /// First address of the prefix.
    pub address: IpAddr,
    /// Its length: 24 for IPv4 and 64 for IPv6.
    pub length: u8,
    /// Connections with peers in it.
    pub sockets: u32,
    /// Those of them that retransmitted in the window.
    pub retransmitting: u32,
    /// Segments retransmitted to them in the window.
    pub retransmits: u64,
    /// Shortest smoothed round trip among them, in microseconds.
    pub least_rtt_us: u32,
}

/// Memory that all sockets of a protocol use together, on the whole host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolMemory {
    /// `TCP` or `UDP`, as in `/proc/net/sockstat`.
    pub protocol: String,
    /// In use, in pages.
    pub pages: Pair,
    /// Most pages seen at once.
    pub peak: u64,
    /// How often it was looked at.
    pub looks: u32,
    /// `tcp_mem` or `udp_mem` in pages: below the first all is well, above the second there is
    /// pressure, above the third memory is refused. `None` if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<[u64; 3]>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u16) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(course: &[(u64, u32)]) -> Socket {
        let steps = course.iter().map(|&(at_ms, queued)| QueueStep { at_ms, queued, drops: 0 });
        Socket { steps: steps.collect(), ..Socket::new(SocketProtocol::Udp) }
    }

    #[test]
    fn a_stay_lasts_from_step_to_step() {
        let socket = socket(&[(0, 0), (100, 90), (200, 95), (500, 10), (600, 92)]);
        assert_eq!(socket.longest_at_least(90, 1000), 400);
        assert_eq!(socket.longest_at_least(10, 1000), 900);
        assert_eq!(socket.longest_at_least(91, 1000), 400);
        assert_eq!(socket.longest_at_least(96, 1000), 0);
        assert_eq!(socket.peak(), 95);
    }

    #[test]
    fn the_memory_at_the_end_counts_for_the_peak() {
        let memory = SocketMemory { rmem_alloc: 7, ..SocketMemory::default() };
        let socket = Socket { memory: Some(memory), ..socket(&[(0, 5)]) };
        assert_eq!(socket.peak(), 7);
        assert_eq!(Socket::new(SocketProtocol::Raw).longest_at_least(0, 10), 0);
    }

    #[test]
    fn states_are_told_by_the_kernels_names() {
        let names: Vec<String> =
            (0..=13).map(|number| format!("{:?}", SocketState::from_number(number))).collect();
        assert_eq!(names[1], "Established");
        assert_eq!(names[10], "Listen");
        assert_eq!((names[0].as_str(), names[13].as_str()), ("Unknown", "Unknown"));
    }
}
