//! Reads what was counted in the kernel and adds the CPUs up. Numbers in, numbers out.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};

use crate::Error;
use crate::wire::{
    self, BUCKET_BYTES, COUNTER_RING_FULL, COUNTER_SAMPLED, KEY_BYTES, Key, REMAINDERS,
    TOTAL_BYTES, Total,
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
        let spilled = remainders(ebpf, REMAINDERS)?;
        let spilled = (0..).zip(spilled).filter(|&(_, count)| count != Count::default());
        Ok(Self {
            totals: totals(ebpf, Key::in_use)?,
            spilled: spilled.map(|(index, count)| (wire::remainder_reason(index), count)).collect(),
            sampled: counter(ebpf, COUNTER_SAMPLED)?,
            ring_full: counter(ebpf, COUNTER_RING_FULL)?,
            lost,
        })
    }
}

/// The table of totals, all CPUs together.
pub(crate) fn totals<K: Ord>(
    ebpf: &Ebpf,
    in_use: fn(&[u8; KEY_BYTES]) -> Option<K>,
) -> Result<BTreeMap<K, Count>, Error> {
    let mut totals: BTreeMap<K, Count> = BTreeMap::new();
    for bucket in map::<[u8; BUCKET_BYTES]>(ebpf, "totals")?.iter() {
        let cpus = bucket.map_err(|error| Error::map("the totals", error))?;
        for (key, total) in cpus.iter().flat_map(|bucket| wire::slots(bucket, in_use)) {
            totals.entry(key).or_default().add(total.into());
        }
    }
    Ok(totals)
}

/// The first elements of the remainders.
pub(crate) fn remainders(ebpf: &Ebpf, number: u32) -> Result<Vec<Count>, Error> {
    let remainders = map::<[u8; TOTAL_BYTES]>(ebpf, "remainders")?;
    let remainder = |index| {
        let cpus =
            remainders.get(&index, 0).map_err(|error| Error::map("the remainders", error))?;
        let mut sum = Count::default();
        for total in cpus.iter().map(Total::read) {
            sum.add(total.into());
        }
        Ok(sum)
    };
    (0..number).map(remainder).collect()
}

/// One of the counters.
pub(crate) fn counter(ebpf: &Ebpf, index: u32) -> Result<u64, Error> {
    let counters = map::<u64>(ebpf, "counters")?;
    let cpus = counters.get(&index, 0).map_err(|error| Error::map("the counters", error))?;
    Ok(cpus.iter().sum())
}

fn map<'a, V: aya::Pod>(ebpf: &'a Ebpf, name: &str) -> Result<PerCpuArray<&'a MapData, V>, Error> {
    let map =
        ebpf.map(name).ok_or_else(|| Error::Object { why: format!("it has no map `{name}`") })?;
    PerCpuArray::try_from(map).map_err(|error| Error::map(name, error))
}
