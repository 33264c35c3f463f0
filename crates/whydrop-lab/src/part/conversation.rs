//! How a scenario describes connections of crafted peers: a handshake, then segments one by one.
//! Numbers count from the first byte of data in either direction, so that a script can be read
//! without knowing where the sequence began.

use serde::{Deserialize, Serialize};

use super::frame::Hex;
use super::one;

/// Connections of crafted peers. Each step is taken by all of them before the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Conversation {
    /// How many, each from an address of its own. Those whose SYN is not answered count as pending
    /// and take no further part.
    #[serde(default = "one")]
    pub(crate) connections: u16,
    /// True if the SYN offers timestamps.
    #[serde(default)]
    pub(crate) timestamps: bool,
    /// Options of the SYN besides.
    #[serde(default)]
    pub(crate) syn_options: Hex,
    /// Bytes of data in the SYN.
    #[serde(default)]
    pub(crate) syn_data: u16,
    /// True if the handshake's last ACK is left to the steps.
    #[serde(default)]
    pub(crate) half_open: bool,
    /// What is sent after the handshake.
    #[serde(default)]
    pub(crate) step: Vec<Step>,
}

/// A segment, or several that differ in their numbers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Step {
    /// What must have come from the server before it is taken.
    pub(crate) until: Option<Until>,
    /// How many segments; 0 if the step only waits.
    #[serde(default = "one")]
    pub(crate) repeat: u16,
    /// The byte of flags; absent for ACK alone.
    pub(crate) flags: Option<u8>,
    /// Sequence number; that of a SYN is -1.
    #[serde(default)]
    pub(crate) sequence: i32,
    /// From one segment's sequence number to the next one's.
    #[serde(default)]
    pub(crate) stride: i32,
    /// Acknowledgment number; absent for all that was heard.
    pub(crate) acknowledgment: Option<i32>,
    /// Bytes of data.
    #[serde(default)]
    pub(crate) data: u16,
    /// Window of the first segment, absent for the largest without scaling; one less in each further
    /// one, so that they do not look like duplicates.
    pub(crate) window: Option<u16>,
    /// The peer's clock against that in its SYN, where there are timestamps.
    #[serde(default)]
    pub(crate) timestamp: i32,
    /// The clock that is echoed against the one heard last.
    #[serde(default)]
    pub(crate) echo: i32,
    /// Bytes from the first one on that are reported as received twice (DSACK).
    #[serde(default)]
    pub(crate) twice: u16,
    /// Options besides these.
    #[serde(default)]
    pub(crate) options: Hex,
}

/// What the server has sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Until {
    /// So many bytes.
    Data(u32),
    /// Something that it had sent before.
    Again,
    /// All that it will ever send.
    Fin,
}

impl Step {
    /// An ACK in which nothing is particular.
    pub(crate) fn plain() -> Self {
        Self {
            until: None,
            repeat: 1,
            flags: None,
            sequence: 0,
            stride: 0,
            acknowledgment: None,
            data: 0,
            window: None,
            timestamp: 0,
            echo: 0,
            twice: 0,
            options: Hex::default(),
        }
    }
}
