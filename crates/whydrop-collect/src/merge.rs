//! Puts the two readings of a window together into the model's pairs.
//!
//! An object that only the later reading shows was born inside the window, so its counters count
//! from zero. Computes nothing else.

use std::collections::BTreeMap;

use whydrop_model::{Counters, Pair};

use crate::collector::Facts;

mod cpus;
mod links;
mod stack;

pub(crate) use cpus::{cpu_side, softnet};
pub(crate) use links::links;
pub(crate) use stack::{
    filters, gauges, legacy_chains, narrow_counters, neighbour_tables, netfilter, packet_queues,
    qdiscs,
};

/// Counters at both ends. `before` is `None` for a namespace born inside the window.
pub(crate) fn counters(before: Option<&Facts>, after: &mut Facts) -> Counters {
    let before = before.map(|facts| facts.counters.as_slice()).unwrap_or_default();
    let before = before.iter().map(|(name, value)| (name.as_str(), *value));
    counters_of(before, std::mem::take(&mut after.counters))
}

/// Counters of one object, by name.
fn counters_of<'a, N: AsRef<str> + Into<String>>(
    before: impl IntoIterator<Item = (&'a str, u64)>,
    after: impl IntoIterator<Item = (N, u64)>,
) -> Counters {
    let before: BTreeMap<&str, u64> = before.into_iter().collect();
    let pair = |(name, after): (N, u64)| {
        let before = before.get(name.as_ref()).copied().unwrap_or(0);
        (name.into(), Pair { before, after })
    };
    after.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_ends() {
        let facts = |counters: &[(&str, u64)]| Facts {
            counters: counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..Facts::default()
        };
        let before = facts(&[("A.x", 3), ("A.gone", 1)]);
        let after = || facts(&[("A.x", 5), ("A.new", 2)]);
        let merged = counters(Some(&before), &mut after());
        assert_eq!(merged.len(), 2);
        assert_eq!(merged["A.x"], Pair { before: 3, after: 5 });
        assert_eq!(merged["A.new"], Pair { before: 0, after: 2 });
        assert_eq!(counters(None, &mut after())["A.x"], Pair { before: 0, after: 5 });
    }
}
