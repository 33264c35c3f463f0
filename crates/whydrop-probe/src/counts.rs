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

    /// What was counted since these were read, without what did not move.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            totals: grown(&self.totals, &earlier.totals),
            spilled: grown(&self.spilled, &earlier.spilled),
            sampled: self.sampled.saturating_sub(earlier.sampled),
            ring_full: self.ring_full.saturating_sub(earlier.ring_full),
            lost: self.lost.saturating_sub(earlier.lost),
        }
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

/// By how much each count grew, of those that did.
pub(crate) fn grown<K: Ord + Copy>(
    now: &BTreeMap<K, Count>,
    earlier: &BTreeMap<K, Count>,
) -> BTreeMap<K, Count> {
    let growth = |(&key, now): (&K, &Count)| {
        let before = earlier.get(&key).copied().unwrap_or_default();
        let packets = now.packets.saturating_sub(before.packets);
        let bytes = now.bytes.saturating_sub(before.bytes);
        (packets > 0).then_some((key, Count { packets, bytes }))
    };
    now.iter().filter_map(growth).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_adds_up_to_the_whole() {
        let count = |packets| Count { packets, bytes: packets * 10 };
        let reading = |first, second, other| Counts {
            spilled: [(Some(1), count(first)), (Some(2), count(second)), (None, count(other))]
                .into(),
            sampled: first,
            ..Counts::default()
        };
        let (one, two) = (reading(3, 5, 0), reading(3, 9, 1));
        let growth = two.since(&one);
        assert_eq!(growth.spilled, [(Some(2), count(4)), (None, count(1))].into());
        assert_eq!(growth.sampled, 0);
        let all = one.since(&Counts::default());
        assert_eq!(all.events() + growth.events(), two.events());
    }
}
