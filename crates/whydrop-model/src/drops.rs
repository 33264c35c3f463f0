//! What the tracer saw: exact totals, fair exemplars, and an account of what it missed.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How the tracer was attached to `skb:kfree_skb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// BTF-typed raw tracepoint (5.5+): the cheapest.
    TpBtf,
    /// Untyped raw tracepoint (4.17+).
    RawTp,
    /// Classic tracepoint through tracefs.
    Tp,
    /// Not attached; there are no traced drops.
    None,
}

impl Attach {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tp => "tp",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that the tracer has to say about one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracerEvidence {
    /// How it was attached.
    pub attach: Attach,
    /// Why a cheaper or any attachment was not possible, one line per attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Drops counted in the kernel, of every namespace in scope. Equals the sum over `totals`.
    pub events: u64,
    /// Drops kept in detail, as exemplars.
    pub sampled: u64,
    /// Drops counted but not kept in detail: their key had used up its rate.
    pub suppressed: u64,
    /// Drops counted but not kept in detail: the ring buffer was full.
    pub ring_full: u64,
    /// Drops counted by reason only: the table of totals was full.
    pub spilled: u64,
    /// Drops that the tracer could not count at all (the kernel skipped the program because it was
    /// already running on that CPU: `recursion_misses`).
    pub lost: u64,
    /// Every reason name of the running kernel, from its BTF. Tells a reason that did not occur from
    /// one that this kernel does not have. Empty if there is no BTF.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Totals per key.
    pub totals: Vec<DropTotal>,
    /// Detailed events, oldest first.
    pub exemplars: Vec<Exemplar>,
}

impl TracerEvidence {
    /// The evidence of a tracer that could not be attached.
    #[must_use]
    pub fn absent(refused: Vec<String>) -> Self {
        Self {
            attach: Attach::None,
            refused,
            events: 0,
            sampled: 0,
            suppressed: 0,
            ring_full: 0,
            spilled: 0,
            lost: 0,
            reasons: Vec::new(),
            totals: Vec::new(),
            exemplars: Vec::new(),
        }
    }

    /// True if the running kernel has this reason.
    #[must_use]
    pub fn knows_reason(&self, name: &str) -> bool {
        self.reasons.iter().any(|known| known == name)
    }
}

/// Where in the kernel a packet was freed: the return address of the call to `kfree_skb` and its
/// relatives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallSite {
    /// Function name without compiler suffixes (`.isra.0`, `.constprop.0`, `.cold`); empty if the
    /// symbol table could not be read.
    pub symbol: String,
    /// Bytes from the start of the function; the address itself if `symbol` is empty.
    pub offset: u64,
    /// Kernel module, if the function is not part of the kernel image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.symbol.is_empty() {
            return write!(f, "{:#x}", self.offset);
        }
        write!(f, "{}+{:#x}", self.symbol, self.offset)?;
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// One step of a kernel stack: the call in a function that exists in the kernel's image, and what the
/// debug information of the kernel tells about it where that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// The function, and how far in it.
    #[serde(flatten)]
    pub site: CallSite,
    /// The line in this function at which the next one inwards was called, merged into it or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<SourceLine>,
    /// Functions that the compiler merged into this one and in which the call is, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inlined: Vec<Inlined>,
}

impl From<CallSite> for Frame {
    fn from(site: CallSite) -> Self {
        Self { site, line: None, inlined: Vec::new() }
    }
}

/// A line of the kernel's sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceLine {
    /// The file, from the root of the kernel's source tree on where that is to be told.
    pub file: String,
    /// The line, counted from 1; 0 if the compiler could not attribute the code to one.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A function that the compiler merged into its caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inlined {
    /// Its name.
    pub symbol: String,
    /// The line in it at which the next function inwards was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<SourceLine>,
}

/// Properties of the packets under one key that change what their drop means.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize,
)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts about a packet")]
pub struct Marks {
    /// TCP segment with SYN and without ACK.
    #[serde(default, skip_serializing_if = "is_false")]
    pub syn: bool,
    /// Destination address is multicast or the limited broadcast.
    #[serde(default, skip_serializing_if = "is_false")]
    pub multicast: bool,
    /// `skb->len` was zero: nothing was lost (a FIN left in a queue).
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty: bool,
    /// The kernel named the receiving socket (`rx_sk`, 6.11+).
    #[serde(default, skip_serializing_if = "is_false")]
    pub rx_sk: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Packets dropped for one reason at one place, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropTotal {
    /// Reason by the name in the running kernel's BTF, without `SKB_DROP_REASON_`.
    pub reason: String,
    /// Call site; `None` for a remainder that spilled from the full table (reason only).
    pub site: Option<CallSite>,
    /// Inode of the network namespace; `None` if the packet did not tell.
    pub netns: Option<u64>,
    /// Interface index within that namespace; 0 if the packet did not tell.
    pub ifindex: u32,
    /// Interface name, where the namespace's links were readable.
    pub device: Option<String>,
    /// EtherType (`0x0800` IPv4, `0x86dd` IPv6); 0 if the packet did not tell.
    pub l3: u16,
    /// IP protocol number; `None` if not IP or not readable.
    pub l4: Option<u8>,
    /// What else sets these packets apart.
    #[serde(default)]
    pub marks: Marks,
    /// skbs dropped.
    pub packets: u64,
    /// Sum of `skb->len`, as the dropping layer saw it.
    pub bytes: u64,
    /// The kernel gave no reason: `reason` follows from the call site and from what was counted beside.
    /// Never recorded, because only a diagnosis infers.
    #[serde(skip)]
    pub inferred: bool,
}

impl DropTotal {
    /// The reason that the kernel itself gave.
    #[must_use]
    pub fn given(&self) -> &str {
        if self.inferred { "NOT_SPECIFIED" } else { &self.reason }
    }
}

/// One dropped packet in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemplar {
    /// Nanoseconds since the window opened.
    pub at_ns: u64,
    /// Reason by name, as in [`DropTotal`].
    pub reason: String,
    /// Call site.
    pub site: CallSite,
    /// Inode of the network namespace; `None` if the packet did not tell.
    pub netns: Option<u64>,
    /// Interface index within that namespace; 0 if the packet did not tell.
    pub ifindex: u32,
    /// Interface name, as the packet or the namespace's links gave it.
    pub device: Option<String>,
    /// `skb->len` when it was dropped.
    pub len: u32,
    /// EtherType; 0 if the packet did not tell.
    pub l3: u16,
    /// Link-layer addresses; `None` if the packet had none (yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ether: Option<Ether>,
    /// VLAN id of its tag. `None` if it has none, or has it no longer: since 6.2 nothing is left of
    /// a tag once the kernel has found no device for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Network identifier of a VXLAN packet that was dropped when it was unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// Addresses and ports, if the packet is IP.
    pub flow: Option<Flow>,
    /// The receiving or owning socket, if there was one.
    pub socket: Option<SocketRef>,
    /// Kernel stack, innermost first, without the frames of the tracer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Frame>,
}

impl Exemplar {
    /// True if this packet is one of those that the total counts.
    #[must_use]
    pub fn is_of(&self, total: &DropTotal) -> bool {
        self.reason == total.reason
            && Some(&self.site) == total.site.as_ref()
            && self.netns == total.netns
            && self.ifindex == total.ifindex
            && self.l3 == total.l3
    }
}

/// The link-layer addresses of a packet, as `02:fc:00:00:00:01`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ether {
    /// Sender.
    pub source: String,
    /// Receiver.
    pub destination: String,
}

/// The IP flow of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, low byte of the header's flag field (FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<u8>,
    /// Type and code of an ICMP or ICMPv6 message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
}

impl Flow {
    /// The protocol's usual name, or its number.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        match self.protocol {
            1 => "ICMP".into(),
            2 => "IGMP".into(),
            6 => "TCP".into(),
            17 => "UDP".into(),
            47 => "GRE".into(),
            50 => "ESP".into(),
            51 => "AH".into(),
            58 => "ICMPv6".into(),
            132 => "SCTP".into(),
            other => format!("proto-{other}"),
        }
    }

    /// TCP flags as letters (`S`, `SA`, `FA`, `R`); empty for other protocols.
    #[must_use]
    pub fn tcp_flag_letters(&self) -> String {
        let Some(flags) = self.tcp_flags else {
            return String::new();
        };
        [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, 'A'), (32, 'U'), (64, 'E'), (128, 'C')]
            .into_iter()
            .filter(|(bit, _)| flags & bit != 0)
            .map(|(_, letter)| letter)
            .collect()
    }
}

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port; `None` for protocols without ports and for later fragments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
            (address, None) => write!(f, "{address}"),
        }
    }
}

/// A socket as the packet knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRef {
    /// Address family (`AF_INET` 2, `AF_INET6` 10, ...).
    pub family: u16,
    /// State (`TCP_LISTEN` 10, ...; `include/net/tcp_states.h`).
    pub state: u8,
    /// Local port, host byte order; 0 if none.
    pub local_port: u16,
    /// Inode of the socket's file, as in `/proc/PID/fd`; 0 if it has none (yet).
    pub inode: u64,
    /// True if the kernel named it as the receiver (`rx_sk`), false if it came from `skb->sk`.
    pub receiver: bool,
    /// It has a filter of its own (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub filtered: bool,
}
