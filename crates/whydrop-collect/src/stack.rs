//! Facts about what lies between devices and sockets: queueing disciplines, filters, neighbours,
//! routes and the packet filter. Of each pair in them only `after` is set; `merge` sets the rest.

use whydrop_model::{
    Chain, Filter, LogGroup, NeighbourTable, Neighbours, Netfilter, PacketQueue, Pair, PortUse,
    Qdisc, Routes, TrackedFlows,
};

use crate::error::Why;

/// What was read at one moment.
#[derive(Debug, Default)]
pub(crate) struct StackFacts {
    /// Counters that the kernel keeps in 32 bits and lets wrap, as `Group.Name`.
    pub(crate) narrow_counters: Vec<(String, u64)>,
    /// Levels, likewise.
    pub(crate) gauges: Vec<(String, u64)>,
    /// Queueing disciplines and classes.
    pub(crate) qdiscs: Vec<Qdisc>,
    /// Filters of traffic control.
    pub(crate) filters: Vec<Filter>,
    /// Neighbours.
    pub(crate) neighbours: Option<Neighbours>,
    /// Neighbour tables of the host.
    pub(crate) neighbour_tables: Vec<NeighbourTable>,
    /// Routes.
    pub(crate) routes: Option<Routes>,
    /// Chains and rules.
    pub(crate) netfilter: Option<Netfilter>,
    /// Queues to programs.
    pub(crate) packet_queues: Vec<PacketQueue>,
    /// Groups of NFLOG.
    pub(crate) log_groups: Vec<LogGroup>,
    pub(crate) tracked_flows: Option<TrackedFlows>,
    /// Local ports in use towards one remote end.
    pub(crate) local_ports: Vec<PortUse>,
    /// Tables of iptables-legacy, as `ip filter`.
    pub(crate) legacy_tables: Vec<String>,
    /// Their chains.
    pub(crate) legacy_chains: Vec<Chain>,
    /// What is missing though the collector succeeded, and why.
    pub(crate) missing: Vec<(&'static str, Why)>,
}

impl StackFacts {
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.narrow_counters.append(&mut other.narrow_counters);
        self.gauges.append(&mut other.gauges);
        self.qdiscs.append(&mut other.qdiscs);
        self.filters.append(&mut other.filters);
        self.neighbours = self.neighbours.take().or(other.neighbours);
        self.neighbour_tables.append(&mut other.neighbour_tables);
        self.routes = self.routes.take().or(other.routes);
        self.netfilter = self.netfilter.take().or(other.netfilter);
        self.packet_queues.append(&mut other.packet_queues);
        self.log_groups.append(&mut other.log_groups);
        self.tracked_flows = self.tracked_flows.take().or(other.tracked_flows.take());
        self.local_ports.append(&mut other.local_ports);
        self.legacy_tables.append(&mut other.legacy_tables);
        self.legacy_chains.append(&mut other.legacy_chains);
    }
}

/// A counter at one moment.
pub(crate) fn at_this_moment(value: u64) -> Pair {
    Pair { before: 0, after: value }
}
