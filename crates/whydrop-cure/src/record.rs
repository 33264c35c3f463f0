//! What the journal keeps of one change.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whydrop_model::{Effect, NetnsRef, Target, Trial};

/// Version of the record that this release writes.
pub(crate) const SCHEMA: &str = "whydrop.change/1";

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `whydrop.change/1`.
    pub schema: String,
    /// Its number, by which the operator names it.
    pub id: u64,
    /// `/proc/sys/kernel/random/boot_id`: a change of the running kernel ends with its boot.
    pub boot_id: String,
    /// When it was begun, RFC 3339.
    pub at: String,
    /// Cause id of the fault it is for.
    pub cause: String,
    /// One sentence on what it is.
    pub summary: String,
    /// Settings of the running kernel, in the order in which they are written.
    pub writes: Vec<RecordedWrite>,
    /// Files that keep them beyond a reboot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RecordedFile>,
    /// How far it came.
    pub state: State,
    /// What came of it; `None` if that was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The windows before and after it, by which it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<(Trial, Trial)>,
}

/// A setting that a change writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedWrite {
    /// Where.
    pub netns: NetnsRef,
    /// What.
    pub target: Target,
    /// What it was when it was read just before.
    pub old: String,
    /// What is written.
    pub new: String,
    /// What was read back: the kernel may round. `None` until it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<String>,
}

/// A file that a change writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Where.
    pub path: PathBuf,
    /// What it held; `None` if it did not exist.
    pub before: Option<String>,
    /// What it holds then.
    pub after: String,
}

/// How far a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// About to be made; some of it may have been.
    Intended,
    /// Made; not judged yet.
    Applied,
    /// Made and judged, and kept.
    Kept,
    /// Being taken back; some of it may have been.
    Undoing,
    /// Taken back.
    Undone,
}

impl State {
    /// True if something of it may be in force.
    #[must_use]
    pub fn is_open(self) -> bool {
        self != Self::Undone
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Intended => "interrupted",
            Self::Applied => "not judged",
            Self::Kept => "in force",
            Self::Undoing => "half undone",
            Self::Undone => "undone",
        })
    }
}
