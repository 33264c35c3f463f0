//! What the CPUs were busy with, and how network work is spread over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Counters, Pair};

/// The CPU side of the host. Whatever could not be read is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuSide {
    /// CPUs that were online at both ends, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<Cpu>,
    /// Interrupts of network devices, by number. Not only of those in observed namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<Interrupt>,
    /// Interrupts of network devices left out of `interrupts`: those that fired least.
    #[serde(default)]
    pub interrupts_left_out: u32,
    /// Time that tasks waited, in microseconds: `cpu.some`, `memory.some`, `memory.full`
    /// (`total=` in `/proc/pressure`, 4.20+).
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub pressure: Counters,
}

/// One CPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// CPU number.
    pub cpu: u32,
    /// Milliseconds spent in `user`, `nice`, `system`, `idle`, `iowait`, `irq`, `softirq`, `steal`
    /// (`/proc/stat`; counted in ticks, of 10 ms as a rule). `user` includes guests.
    pub time: Counters,
    /// How often the softirqs `NET_RX`, `NET_TX` and `TIMER` ran here (`/proc/softirqs`); empty if
    /// unreadable.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub softirqs: Counters,
}

/// An interrupt line of a network device (`/proc/interrupts`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interrupt {
    /// Number of the interrupt.
    pub irq: u32,
    /// What the driver calls it, as `eth0-TxRx-3` or `virtio2-input.0`.
    pub name: String,
    /// Address of the PCI device it belongs to; `None` if it was recognised by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How often each CPU took it, by CPU number; only CPUs that took it since boot.
    pub per_cpu: BTreeMap<u32, Pair>,
    /// CPUs that may take it, as a list (`/proc/irq/N/smp_affinity_list`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
}
