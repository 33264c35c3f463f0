//! What a process of the lab can be told to do: the words that scenario files and actors share.
//!
//! Every part is bounded in count and time. Millisecond values are the pace of the workload itself,
//! never a wait for something else to happen.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) mod conversation;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod tun;

use conversation::Conversation;
use frame::Frames;
use http::{HttpAbort, HttpKeepAlive, HttpShort};
use tun::{TunRead, TunWrite};

/// All that one actor needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActorSpec {
    /// Process that must outlive the actor.
    pub(crate) runner: u32,
    /// File of the namespace to play in; `None` to stay outside.
    pub(crate) netns: Option<PathBuf>,
    /// Name to go by (`/proc/PID/comm`).
    pub(crate) comm: String,
    /// Folder of the control group to play in, entered before anything is opened: a socket stays with
    /// the group that it was made in.
    pub(crate) cgroup: Option<PathBuf>,
    /// What to do.
    pub(crate) part: Part,
}

/// What an actor does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Listen until killed.
    Serve {
        /// Where.
        address: SocketAddr,
        /// How.
        serve: Serve,
    },
    /// Receive datagrams until killed.
    Receive {
        /// Where.
        address: SocketAddr,
        /// How.
        receive: Receive,
    },
    /// Read from a tun or tap device until killed.
    ReadTun(TunRead),
    /// Hold a socket that hears what passes, until killed.
    Hear(IdleSocket),
    /// Make traffic, then say how it went.
    Play {
        /// Whom to talk to; `None` for traffic that needs nobody.
        to: Option<SocketAddr>,
        /// What to do.
        play: Play,
    },
    /// Become another program: the diagnosis.
    Become {
        /// Its path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

/// How a TCP server treats its listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serve {
    /// Argument of `listen()`.
    pub(crate) backlog: u16,
    /// When it accepts.
    pub(crate) accept: Accept,
    /// What it does with a connection.
    pub(crate) respond: Respond,
    /// `SO_RCVBUF` of the listener and so of its connections; absent for what the kernel gives.
    pub(crate) rcvbuf: Option<u32>,
    /// Key with which peers must sign (TCP-MD5).
    pub(crate) md5_key: Option<String>,
    /// Least TTL or hop limit that packets must have.
    pub(crate) min_ttl: Option<u8>,
    /// True if it calls `listen()` again when told `relisten` on its standard input.
    pub(crate) relisten: bool,
    /// CPU time that it spends on each connection.
    pub(crate) work_micros: u64,
}

/// When a server calls `accept()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Accept {
    /// As soon as there is something.
    #[default]
    All,
    /// Never.
    None,
    /// At most `batch` connections, every `millis`.
    Every {
        /// Pause between two batches.
        millis: u64,
        /// Most connections at once.
        batch: u32,
    },
    /// Everything there is, every `millis`: a server that stalls.
    AfterStall {
        /// Length of a stall.
        millis: u64,
    },
}

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Respond {
    /// Keeps it open and does nothing.
    #[default]
    None,
    /// Answers one HTTP request and closes.
    Http,
    /// Answers one HTTP request with a body of so many bytes and closes.
    HttpBody(u32),
    /// Answers HTTP requests until the client closes.
    HttpKeepAlive,
    /// Reads to the end, then closes.
    Discard,
    /// Closes it at once.
    Close,
    /// Closes it once something waits to be read, which it never reads.
    CloseUnread,
    /// Sends so many bytes and keeps it open; reads nothing.
    Send(u32),
}

/// How a UDP server treats its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receive {
    /// The only peer it hears, if it is connected to one.
    pub(crate) peer: Option<SocketAddr>,
    /// `SO_RCVBUF`, which the kernel doubles; absent for the default.
    pub(crate) rcvbuf: Option<u32>,
    /// True if a filter of its own (`SO_ATTACH_FILTER`) refuses every datagram.
    pub(crate) refuse: bool,
    /// When it reads.
    pub(crate) read: Read,
    /// True if it sends back what it reads.
    pub(crate) echo: bool,
    /// From a datagram to its echo: the time a slow server takes for it.
    pub(crate) delay_millis: u64,
    /// CPU time that it spends on each datagram.
    pub(crate) work_micros: u64,
}

/// When a UDP server reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Read {
    /// As soon as there is something.
    #[default]
    All,
    /// Never.
    None,
    /// One datagram every `millis`.
    Every {
        /// Pause between two datagrams.
        millis: u64,
    },
    /// Everything there is, every `millis`: a server that stalls.
    AfterStall {
        /// Length of a stall.
        millis: u64,
    },
}

/// A socket that hears what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdleSocket {
    pub(crate) kind: SocketKind,
    /// True for raw sockets of IPv6.
    pub(crate) ipv6: bool,
    /// `SO_RCVBUF`, which the kernel doubles; absent for the default.
    pub(crate) rcvbuf: Option<u32>,
    /// True if it is read after all.
    pub(crate) read: bool,
}

/// What a socket hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SocketKind {
    /// Packets of this IP protocol.
    Raw(u8),
    /// Frames of this EtherType; 3 is all of them (`ETH_P_ALL`).
    Packet(u16),
    /// The kernel's news of addresses that come and go.
    Addresses,
}

/// A piece of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Play {
    /// Nothing, for a while.
    Idle(Idle),
    /// Waves of connections opened without waiting for them.
    ConnectBurst(ConnectBurst),
    /// HTTP, one request per connection.
    HttpShort(HttpShort),
    /// HTTP, many requests on every connection.
    HttpKeepAlive(HttpKeepAlive),
    /// HTTP clients that go away in the middle.
    HttpAbort(HttpAbort),
    /// One connection that carries many bytes.
    Bulk(Bulk),
    /// Handshakes of crafted peers, some with the last ACK held back.
    Handshakes(Handshakes),
    /// SYNs from crafted peers that never answer.
    SynFlood(SynFlood),
    /// Connections of crafted peers that say what a script says.
    Conversation(Conversation),
    /// Connections that are opened one after the other and closed again.
    TcpConnect(TcpConnect),
    /// Datagrams that ask for no answer.
    UdpSend(UdpSend),
    /// Datagrams that are answered.
    UdpRequest(UdpRequest),
    /// Echo requests.
    Ping(Ping),
    /// Ethernet frames made by hand.
    Frames(Frames),
    /// Packets written into a tun or tap device.
    TunWrite(TunWrite),
    /// Connections that conntrack is told of.
    TrackFlows(TrackFlows),
    /// A packet socket that reads along.
    Capture(Capture),
    /// Containers that come, say something and go.
    Containers(Containers),
}

impl Play {
    /// True if it needs somebody to talk to.
    pub(crate) fn needs_target(&self) -> bool {
        !matches!(
            self,
            Self::Idle(_)
                | Self::Frames(_)
                | Self::TunWrite(_)
                | Self::TrackFlows(_)
                | Self::Capture(_)
                | Self::Containers(_)
        )
    }

    /// True if it crafts its packets, for peers whose addresses are nobody's.
    pub(crate) fn is_crafted(&self) -> bool {
        matches!(self, Self::Handshakes(_) | Self::SynFlood(_) | Self::Conversation(_))
    }
}

/// Nothing, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Idle {
    /// How long.
    pub(crate) millis: u64,
}

/// Waves of connections opened without waiting for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ConnectBurst {
    /// How many waves.
    pub(crate) waves: u32,
    /// Connections in each.
    pub(crate) per_wave: u32,
    /// From the start of one wave to the start of the next.
    pub(crate) every_millis: u64,
    /// From the start of the last wave until those without an answer give up; refused SYNs are
    /// retried meanwhile. The others stay open until the scenario ends.
    pub(crate) hold_millis: u64,
}

/// One connection that carries many bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Bulk {
    /// How many.
    pub(crate) bytes: u64,
}

/// Handshakes of crafted peers, some with the last ACK held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Handshakes {
    /// Handshakes begun first and left without their last ACK.
    pub(crate) held: u16,
    /// Handshakes completed after that.
    pub(crate) completed: u16,
    /// How often the held ACKs are sent in the end.
    pub(crate) ack_rounds: u16,
}

/// SYNs from crafted peers that never answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SynFlood {
    /// How many SYNs, each from a port of its own.
    pub(crate) count: u16,
    /// How many addresses they come from.
    pub(crate) sources: u8,
}

/// Connections that are opened one after the other and closed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TcpConnect {
    /// How many.
    pub(crate) count: u16,
    /// How long each may take before it is given up and counts as pending.
    pub(crate) timeout_millis: u64,
}

/// Datagrams that ask for no answer. Those that the kernel refuses to send count as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UdpSend {
    /// How many.
    pub(crate) count: u32,
    /// Bytes in each.
    pub(crate) size: u16,
    /// Datagrams per second; absent for as fast as can be.
    pub(crate) rate: Option<u32>,
    /// First source port; absent for one of the kernel's choice.
    pub(crate) source_port: Option<u16>,
    /// How many source ports, each on a socket of its own, take turns.
    #[serde(default = "one")]
    pub(crate) sources: u16,
    /// How many destinations take turns, counted up from the one given.
    #[serde(default = "one")]
    pub(crate) destinations: u16,
    /// `SO_SNDBUF`, on sockets that do not wait for room; absent for the default, and patience.
    pub(crate) sndbuf: Option<u32>,
    /// True if the sockets are connected, and so hear of ICMP errors.
    #[serde(default)]
    pub(crate) connected: bool,
    /// Time to live or hop limit; absent for the kernel's default.
    pub(crate) ttl: Option<u8>,
    /// True to forbid fragmentation whatever the path is known to take.
    #[serde(default)]
    pub(crate) dont_fragment: bool,
}

/// Datagrams that are answered: each on a socket of its own, as a resolver does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UdpRequest {
    /// How many.
    pub(crate) count: u32,
    /// Bytes in each.
    pub(crate) size: u16,
    /// How long the first attempt waits before it closes its socket and a second one, with all the
    /// patience there is, takes its place; absent if the first one has that patience.
    pub(crate) give_up_millis: Option<u64>,
}

/// Echo requests, sent as `ping` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ping {
    /// How many.
    pub(crate) count: u16,
    /// From one to the next.
    pub(crate) every_millis: u64,
}

/// Established connections entered into the connection tracking of the own namespace, none of which
/// it may forget early, until the kernel takes no more. They send no packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TrackFlows {
    /// Most of them; more room than this is an error.
    pub(crate) most: u32,
}

/// A packet socket that reads along, on all devices, as `tcpdump -i any` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Capture {
    /// How long.
    pub(crate) millis: u64,
}

/// Containers that come, say something and go: network namespaces of their own, one after the
/// other, each behind a veth device whose other end is where this is played from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Containers {
    /// How many.
    pub(crate) count: u16,
    /// Bridge that they are ports of.
    pub(crate) bridge: String,
    /// Address that all of them have, one after the other, with its prefix length.
    pub(crate) address: String,
    /// Whom each of them sends echo requests.
    pub(crate) peer: IpAddr,
    /// How many of them must be answered, the first of which may take several attempts.
    pub(crate) pings: u16,
}

fn one() -> u16 {
    1
}

/// What an actor says, one JSON value per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    /// A server listens.
    Ready,
    /// A server has called `listen()` again.
    Relistened,
    /// Traffic is over.
    Done(Tally),
    /// The actor could not play its part.
    Failed(String),
}

/// How traffic went, counted in connections, datagrams, echoes or frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Those that got what they wanted.
    pub done: u64,
    /// Those still without an answer.
    pub pending: u64,
    /// Those refused, reset or answered wrongly.
    pub failed: u64,
}
