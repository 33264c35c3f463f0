//! Queueing disciplines, their classes, and the filters attached to them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Counters, Pair};

/// A handle of traffic control: major number in the upper half, minor number in the lower.
/// [`Display`](fmt::Display) writes it as `tc` takes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TcHandle(pub u32);

impl TcHandle {
    /// `TC_H_ROOT`, the parent of what hangs directly on the device.
    pub const ROOT: Self = Self(0xffff_ffff);
    /// `TC_H_INGRESS`, also `TC_H_CLSACT`: the parent of a qdisc that only carries filters.
    pub const INGRESS: Self = Self(0xffff_fff1);
    /// Parent of the filters on the way in (`TC_H_MIN_INGRESS` of `clsact`).
    pub const CLSACT_INGRESS: Self = Self(0xffff_fff2);
    /// Parent of the filters on the way out (`TC_H_MIN_EGRESS` of `clsact`).
    pub const CLSACT_EGRESS: Self = Self(0xffff_fff3);

    /// The upper half.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The lower half.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Display for TcHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.major(), self.minor()) {
            (Self::ROOT, ..) => formatter.write_str("root"),
            (Self(0), ..) => formatter.write_str("none"),
            (_, 0, minor) => write!(formatter, ":{minor:x}"),
            (_, major, 0) => write!(formatter, "{major:x}:"),
            (_, major, minor) => write!(formatter, "{major:x}:{minor:x}"),
        }
    }
}

/// A queueing discipline, or one class of a classful one. What a child drops its parents count too:
/// never add them up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Qdisc {
    /// Device it is on.
    pub ifindex: u32,
    /// `TCA_KIND`: `pfifo_fast`, `fq_codel`, `htb`, `clsact`, ...
    pub kind: String,
    /// Its handle; of a class, its class id. Zero for a default qdisc nobody configured.
    pub handle: TcHandle,
    /// What it hangs on.
    pub parent: TcHandle,
    /// True for a class of a qdisc of this kind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub class: bool,
    /// Limits that can bind, by name with unit: `limit_packets` or `limit_bytes`, `rate_bytes` and
    /// `ceil_bytes` per second, `burst_bytes`, `flow_limit_packets`, `memory_limit_bytes`,
    /// `target_us`, `horizon_us`, `loss_ppm` (of netem). Absent: the kind has no such limit or is not
    /// known to whydrop. `pfifo_fast` takes its limit from the device's `tx_queue_len`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, u64>,
    /// `bytes` and `packets` that left it, `drops`, `overlimits`, `requeues` (`TCA_STATS2`), and the
    /// kind's own counters by the names of `include/uapi/linux/pkt_sched.h` (`flows_plimit`,
    /// `drop_overlimit`, `early`, ...; `direct_pkts` of htb went unshaped). Counters of 32 bits that
    /// wrapped inside the window are continued beyond.
    pub stats: Counters,
    /// Packets in it when the window opened and when it closed.
    #[serde(default)]
    pub qlen: Pair,
    /// Likewise, in bytes.
    #[serde(default)]
    pub backlog: Pair,
}

/// A filter of traffic control: a classifier with its actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Device it is on.
    pub ifindex: u32,
    /// Where: [`TcHandle::CLSACT_INGRESS`], [`TcHandle::CLSACT_EGRESS`], or a qdisc or class.
    pub parent: TcHandle,
    /// Lower numbers come first (`pref`).
    pub priority: u32,
    /// EtherType it looks at; `ETH_P_ALL` is 3.
    pub protocol: u16,
    /// Its chain; 0 for the first.
    #[serde(default)]
    pub chain: u32,
    /// Its handle, whose form is the classifier's own.
    pub handle: u32,
    /// `bpf`, `u32`, `flower`, `matchall`, ...
    pub kind: String,
    /// The BPF program of a `bpf` filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf: Option<FilterProgram>,
    /// The class that matching packets go to (`flowid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<TcHandle>,
    /// Its actions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<FilterAction>,
}

/// A BPF program as a filter or an action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilterProgram {
    /// Name, as loaders set it: `object.o:[section]`; may be empty.
    pub name: String,
    /// Id, as `bpftool prog` shows it; `None` for classic BPF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// `direct-action`: the program itself gives the verdict.
    #[serde(default)]
    pub direct_action: bool,
}

/// One action of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilterAction {
    /// `gact`, `mirred`, `police`, `bpf`, ...
    pub kind: String,
    /// Number of this action among those of its kind.
    pub index: u32,
    /// What happens to the packet then: `ok`, `shot`, `pipe`, `stolen`, `reclassify`, `redirect`,
    /// `trap`, ...; of a policer, to packets over its rate. `None` if whydrop does not know the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Where `mirred` sends packets, or copies of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirred: Option<Mirred>,
    /// Of a policer: `rate_bytes` per second and `burst_bytes`; `rate_packets` and `burst_packets`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, u64>,
    /// The BPF program of a `bpf` action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf: Option<FilterProgram>,
    /// `bytes`, `packets`, `drops`, `overlimits` (`TCA_ACT_STATS`).
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub stats: Counters,
}

/// The target of a `mirred` action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mirred {
    /// Target device; 0 if it is gone.
    pub ifindex: u32,
    /// `egress_redir`, `egress_mirror`, `ingress_redir` or `ingress_mirror`.
    pub how: String,
}

#[cfg(test)]
mod tests {
    use super::TcHandle;

    #[test]
    fn handles_are_written_as_tc_takes_them() {
        let texts = [0xffff_ffff, 0, 0x0001_0000, 0x0001_0010, 0x8001_0000, 0x1a, 0xffff_fff2]
            .map(|handle| TcHandle(handle).to_string());
        assert_eq!(texts, ["root", "none", "1:", "1:10", "8001:", ":1a", "ffff:fff2"]);
    }
}
