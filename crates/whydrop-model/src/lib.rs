//! The nouns of whydrop.
//!
//! Two documents and what they are made of: [`Evidence`] is all that a diagnosis may know about a
//! host, [`Report`] is all that a surface may say about it. Types here hold data and the small
//! arithmetic that belongs to it; they do no I/O, read no clock and judge nothing.
//!
//! `probe` and `collect` fill [`Evidence`], `diagnose` turns it into a [`Report`], `show` writes it.

mod cgroup;
mod change;
mod counters;
mod cpu;
mod drops;
mod events;
mod evidence;
mod link;
mod listener;
mod namespace;
mod neighbour;
mod netfilter;
mod qdisc;
mod queues;
mod report;
mod route;
mod sighting;
mod socket;

pub use cgroup::{Cgroup, CgroupPrograms, OpenFiles, Pod};
pub use change::{
    Answer, CardSetting, Cure, Effect, Handover, LinkAttribute, Proposal, Shortage, SocketOf,
    Target, Trial, Write,
};
pub use counters::{Counters, MOST, Pair};
pub use cpu::{Cpu, CpuSide, Interrupt};
pub use drops::{
    Attach, CallSite, DropTotal, Endpoint, Ether, Exemplar, Flow, Frame, Inlined, Marks, SocketRef,
    SourceLine, TracerEvidence,
};
pub use events::{EventEvidence, EventExemplar, EventTotal};
pub use evidence::{EVIDENCE_SCHEMA, Evidence, Host, NotChecked, ObservedWindow, Scope};
pub use link::{Bridge, BridgePort, Driver, Link, LowerLink, QueueSteering, Tunnel, Vlan, Xdp};
pub use listener::{Listener, Process, QueueStep};
pub use namespace::{Namespace, Presence, SoftnetCpu};
pub use neighbour::{Neighbour, NeighbourCount, NeighbourTable, Neighbours};
pub use netfilter::{
    Chain, Hook, LogGroup, Netfilter, PacketQueue, Rule, RuleVerdict, TrackedFlows,
};
pub use qdisc::{Filter, FilterAction, FilterProgram, Mirred, Qdisc, TcHandle};
pub use queues::{Queue, QueueOwner, Queues, SOCKETS_SCHEMA};
pub use report::{
    Class, Confidence, EvidenceItem, EvidenceKind, EvidenceValue, Finding, HostFacts, LayerState,
    LayerVerdict, Ledger, LedgerEntry, NetnsRef, ProcessRef, REPORT_SCHEMA, Remedy, Report,
    ReportWindow, Severity, Site, TracerFacts, Verdict,
};
pub use route::{PolicyRule, Route, Routes};
pub use sighting::{Attribution, DROP_SCHEMA, Sighting};
pub use socket::{
    PacketRing, PeerPrefix, PortUse, ProtocolMemory, Socket, SocketCount, SocketMemory,
    SocketProtocol, SocketState, TcpLoss, TcpPeers,
};
