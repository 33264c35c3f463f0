//! How a scenario describes the program behind a tun, tap or macvtap device: one that reads, slowly or
//! never, and one that writes. The device exists before; `ip tuntap add` or `ip link add` makes it.

use serde::{Deserialize, Serialize};

use super::Read;
use super::frame::Hex;

/// A device that a program opens, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TunDevice {
    /// Its name.
    pub(crate) device: String,
    pub(crate) mode: TunMode,
    /// True if every packet has a virtio-net header in front.
    #[serde(default)]
    pub(crate) vnet_header: bool,
}

/// What is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TunMode {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
    /// Ethernet frames of a macvtap, always with a virtio-net header in front.
    Macvtap,
}

/// How a program reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TunRead {
    pub(crate) open: TunDevice,
    /// Bytes that it has room for.
    pub(crate) room: usize,
    /// When it reads.
    pub(crate) read: Read,
}

/// Packets written into a device. Those that it refuses count as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TunWrite {
    pub(crate) open: TunDevice,
    /// How many.
    pub(crate) count: u16,
    /// The bytes written, each time the same.
    pub(crate) data: Hex,
}
