//! Reads what was counted in the kernel and adds the CPUs up. Numbers in, numbers out.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};

use crate::Error;
use crate::wire::{
    self, BUCKET_BYTES, COUNTER_RING_FULL, COUNTER_SAMPLED, Key, REMAINDERS, TOTAL_BYTES, Total,
};

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// skbs dropped.
    pub packets: u64,
    /// Sum of their `skb->len`.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl From<Total> for Count {
    fn from(total: Total) -> Self {
        Self { packets: total.packets, bytes: total.bytes }
    }
}

/// What the tracer counted, in the kernel's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// By key.
    pub totals: BTreeMap<Key, Count>,
    /// What found no place in the table, by reason; `None` for reasons that have no place of their
    /// own there either.
    pub spilled: BTreeMap<Option<u32>, Count>,
    /// Drops kept in detail.
    pub sampled: u64,
    /// Drops not kept in detail because the ring was full.
    pub ring_full: u64,
    /// Drops that could not be counted: the program was already running on that CPU.
    pub lost: u64,
}

impl Counts {
    /// All drops counted.
    pub fn events(&self) -> u64 {
        self.totals.values().chain(self.spilled.values()).map(|count| count.packets).sum()
    }

    pub(crate) fn read(ebpf: &Ebpf, lost: u64) -> Result<Self, Error> {
        let mut counts = Self { lost, ..Self::default() };
        let table = map::<[u8; BUCKET_BYTES]>(ebpf, "totals")?;
        for bucket in table.iter() {
            let cpus = bucket.map_err(|error| Error::map("the totals", error))?;
            for (key, total) in cpus.iter().flat_map(wire::slots) {
                counts.totals.entry(key).or_default().add(total.into());
            }
        }
        let remainders = map::<[u8; TOTAL_BYTES]>(ebpf, "remainders")?;
        for index in 0..REMAINDERS {
            let cpus =
                remainders.get(&index, 0).map_err(|error| Error::map("the remainders", error))?;
            let mut sum = Count::default();
            for total in cpus.iter().map(Total::read) {
                sum.add(total.into());
            }
            if sum != Count::default() {
                counts.spilled.insert(wire::remainder_reason(index), sum);
            }
        }
        let counters = map::<u64>(ebpf, "counters")?;
        let counter = |index| -> Result<u64, Error> {
            let cpus =
                counters.get(&index, 0).map_err(|error| Error::map("the counters", error))?;
            Ok(cpus.iter().sum())
        };
        counts.sampled = counter(COUNTER_SAMPLED)?;
        counts.ring_full = counter(COUNTER_RING_FULL)?;
        Ok(counts)
    }
}

fn map<'a, V: aya::Pod>(ebpf: &'a Ebpf, name: &str) -> Result<PerCpuArray<&'a MapData, V>, Error> {
    let map =
        ebpf.map(name).ok_or_else(|| Error::Object { why: format!("it has no map `{name}`") })?;
    PerCpuArray::try_from(map).map_err(|error| Error::map(name, error))
}
