//! The report: what `whydrop diagnose --format json` prints (`whydrop.report/1`).

use serde::{Deserialize, Serialize};

use crate::{Attach, NotChecked};

/// Version of the report document.
pub const REPORT_SCHEMA: &str = "whydrop.report/1";

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The host.
    pub host: HostFacts,
    /// The window.
    pub window: ReportWindow,
    /// The answer in one word.
    pub verdict: Verdict,
    /// Findings: faults first, then the other classes; within each the most packets first.
    pub findings: Vec<Finding>,
    /// Every packet once.
    pub ledger: Ledger,
    /// What the tracer did.
    pub tracer: TracerFacts,
    /// What could not be examined.
    pub not_checked: Vec<NotChecked>,
    /// One verdict per layer, bottom up. For people; not part of the JSON document.
    #[serde(skip)]
    pub layers: Vec<LayerVerdict>,
}

/// Facts about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -n`.
    pub hostname: String,
    /// Online CPUs.
    pub cpus: u32,
}

/// The observed window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportWindow {
    /// Start, RFC 3339.
    pub start: String,
    /// Length really observed.
    pub seconds: f64,
}

/// The answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Packets were lost to a fault, a policy or a peer.
    Loss,
    /// Nothing of that kind.
    Clean,
    /// A source of evidence was missing and nothing found settles the question.
    Incomplete,
}

/// What kind of thing a cause is. Follows from the cause; never chosen case by case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Host or configuration loses what it should have delivered.
    Fault,
    /// A configured drop.
    Policy,
    /// The remote or the path sends what must be refused.
    Peer,
    /// Not a loss.
    Info,
    /// Normal noise.
    Benign,
}

impl Class {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Policy => "policy",
            Self::Peer => "peer",
            Self::Info => "info",
            Self::Benign => "benign",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Fault, Self::Policy, Self::Peer, Self::Info, Self::Benign];
        all.into_iter().find(|class| class.name() == name)
    }
}

/// How urgent a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Users notice now.
    Critical,
    /// Packets are lost.
    Warning,
    /// Good to know.
    Notice,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The kernel says so and the state agrees.
    Confirmed,
    /// The kernel says so.
    Likely,
    /// State or coincidence only.
    Possible,
}

/// One cause at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Cause id.
    pub cause: String,
    /// Variant of the cause; `None` if undecided or none exist.
    pub variant: Option<String>,
    /// The cause's class.
    pub class: Class,
    /// The cause's layer.
    pub layer: String,
    /// How urgent.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// Packets lost in the window because of it; 0 for class info.
    pub packets: u64,
    /// Where.
    pub site: Site,
    /// One sentence that names the thing to change.
    pub summary: String,
    /// Why we say so.
    pub evidence: Vec<EvidenceItem>,
    /// What to do; at least one for a fault.
    pub remedies: Vec<Remedy>,
    /// The cause that this one follows from, and that has its packets: curing that one cures this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
}

/// Where packets were lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Site {
    /// Namespace; `None` if unknown or shared by several.
    pub netns: Option<NetnsRef>,
    /// Device.
    pub device: Option<String>,
    /// Socket, as `tcp 10.0.0.1:80`.
    pub socket: Option<String>,
    /// Process that owns the socket.
    pub process: Option<ProcessRef>,
    /// What must be edited.
    pub object: Option<String>,
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsRef {
    /// Inode of the namespace file.
    pub inode: Option<u64>,
    /// Name as in `ip netns`.
    pub name: Option<String>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub comm: String,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceItem {
    /// Where it comes from.
    pub kind: EvidenceKind,
    /// What was looked at.
    pub name: String,
    /// What it said.
    pub value: EvidenceValue,
}

/// Where a piece of evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// The drop tracer.
    Tracer,
    /// A kernel counter's growth.
    Counter,
    /// A state or setting.
    State,
    /// Something that happened.
    Event,
}

impl EvidenceItem {
    /// A piece of evidence.
    pub fn new(
        kind: EvidenceKind,
        name: impl Into<String>,
        value: impl Into<EvidenceValue>,
    ) -> Self {
        Self { kind, name: name.into(), value: value.into() }
    }
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EvidenceValue {
    /// A count or a size.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl From<u64> for EvidenceValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<String> for EvidenceValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What and why.
    pub summary: String,
    /// Complete commands for the right namespace; empty where only the application's own
    /// configuration can change it.
    pub commands: Vec<String>,
    /// What would not help, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub useless: Vec<String>,
}

/// Every packet once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Packets lost for reasons other than class benign or info.
    pub lost: u64,
    /// Those with a cause.
    pub explained: u64,
    /// Those without.
    pub unexplained: u64,
    /// Drops recognised as noise; not part of `lost`.
    pub benign: u64,
    /// Accounts, the largest first.
    pub entries: Vec<LedgerEntry>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Cause id.
    pub cause: String,
    /// Best estimate.
    pub packets: u64,
    /// What the tracer counted.
    pub traced: u64,
    /// What counters say.
    pub counted: u64,
    /// Where.
    pub site: Site,
    /// The cause is of class benign. For people; the JSON document has it in the cause.
    #[serde(skip)]
    pub noise: bool,
}

/// What the tracer did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracerFacts {
    /// How it was attached.
    pub attach: Attach,
    /// Drop events seen.
    pub events: u64,
    /// Events kept in detail.
    pub sampled: u64,
    /// Events that could not be recorded.
    pub lost: u64,
}

/// One layer's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerVerdict {
    /// Layer name, as in the causes.
    pub layer: &'static str,
    /// Verdict.
    pub state: LayerState,
    /// Packets lost there to a fault, a policy or a peer.
    pub packets: u64,
    /// What was looked at, or what was found.
    pub note: String,
}

/// How a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Everything that watches this layer was read and nothing was lost.
    Clean,
    /// Packets were lost here.
    Loss,
    /// Nothing was seen, but part of what watches this layer was not available.
    Unsure,
}
