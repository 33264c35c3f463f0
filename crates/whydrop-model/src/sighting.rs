//! One drop with all that can be said of it at once: a line of `whydrop watch`.

use serde::{Deserialize, Serialize};

use crate::{Class, Exemplar, QueueOwner};

/// Version of the lines of `whydrop watch --format ndjson` that this release writes.
pub const DROP_SCHEMA: &str = "whydrop.drop/1";

/// One drop, its cause and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// [`DROP_SCHEMA`].
    pub schema: String,
    /// When, RFC 3339 in UTC, with nanoseconds.
    pub time: String,
    /// The drop itself.
    #[serde(flatten)]
    pub drop: Exemplar,
    /// Length from the network header on; `None` if it is not known.
    pub packet_len: Option<u32>,
    /// Name of the namespace as in `ip netns`; `None` if it has none.
    pub netns_name: Option<String>,
    /// What lost it; `None` if no rule recognises it.
    pub verdict: Option<Attribution>,
    /// The process whose socket it was for, or came from; `None` if none is known.
    pub owner: Option<QueueOwner>,
    /// Container that lives in the namespace; `None` if none is known, or several are.
    pub container: Option<String>,
}

/// What one drop is recognised as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Id of the cause.
    pub cause: String,
    /// Variant of the cause; `None` if undecided or none exist.
    pub variant: Option<String>,
    /// The cause's class.
    pub class: Class,
    /// The cause's layer.
    pub layer: String,
    /// What dropped it and would have to be edited: a rule, a qdisc, a route, a setting.
    pub object: Option<String>,
    /// Socket that refused it, as in reports.
    pub socket: Option<String>,
}
