//! The nouns of whydrop.
//!
//! Two documents and what they are made of: [`Evidence`] is all that a diagnosis may know about a
//! host, [`Report`] is all that a surface may say about it. Types here hold data and the small
//! arithmetic that belongs to it; they do no I/O, read no clock and judge nothing.
//!
//! `probe` and `collect` fill [`Evidence`], `diagnose` turns it into a [`Report`], `show` writes it.

mod counters;
mod drops;
mod evidence;
mod listener;
mod namespace;
mod report;

pub use counters::{Counters, Pair};
pub use drops::{
    Attach, CallSite, DropTotal, Endpoint, Exemplar, Flow, Marks, SocketRef, TracerEvidence,
};
pub use evidence::{EVIDENCE_SCHEMA, Evidence, Host, NotChecked, ObservedWindow, Scope};
pub use listener::{Listener, Process, QueueStep};
pub use namespace::{Link, Namespace, Presence, SoftnetCpu};
pub use report::{
    Class, Confidence, EvidenceItem, EvidenceKind, EvidenceValue, Finding, HostFacts, LayerState,
    LayerVerdict, Ledger, LedgerEntry, NetnsRef, ProcessRef, REPORT_SCHEMA, Remedy, Report,
    ReportWindow, Severity, Site, TracerFacts, Verdict,
};
