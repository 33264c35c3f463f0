//! Neighbours (ARP and neighbour discovery) and the tables that hold them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Counters;

/// A neighbour table of the kernel. One table serves all network namespaces of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NeighbourTable {
    /// `arp_cache` for IPv4, `ndisc_cache` for IPv6.
    pub name: String,
    /// Entries of all namespaces when the window closed; permanent ones count too.
    pub entries: u64,
    /// Below this many entries nothing is collected (`gc_thresh1`).
    pub gc_thresh1: u32,
    /// From here on unused entries go when they are older than 5 s (`gc_thresh2`).
    pub gc_thresh2: u32,
    /// No more entries than this; permanent and externally learnt ones do not count (`gc_thresh3`).
    pub gc_thresh3: u32,
    /// `res_failed`, `table_fulls`, `forced_gc_runs` and the rest of `struct ndt_stats`; and
    /// `unresolved_discards`, which only `/proc/net/stat` of the initial namespace tells.
    pub stats: Counters,
}

/// The neighbours of a namespace when the window closed. Multicast and other addresses that need no
/// resolution (`NOARP`) are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Neighbours {
    /// How many are in each state on each device.
    pub counts: Vec<NeighbourCount>,
    /// Those that are not simply usable (`REACHABLE`, `STALE`, `PERMANENT`): next hops in trouble.
    pub troubled: Vec<Neighbour>,
    /// True if not all neighbours were read, or not all in trouble were kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Neighbours of one device in one state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NeighbourCount {
    /// Device.
    pub ifindex: u32,
    /// True for IPv6.
    pub ipv6: bool,
    /// As in `ip neigh`.
    pub state: String,
    /// How many.
    pub count: u32,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Device.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// `INCOMPLETE`, `FAILED`, `DELAY`, `PROBE` or `NONE`, as in `ip neigh`.
    pub state: String,
    /// Its hardware address, as `02:fc:00:00:00:01`; `None` while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lladdr: Option<String>,
}
