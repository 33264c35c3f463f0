//! Puts the two readings of a window together into the model's pairs.
//!
//! An object that only the later reading shows was born inside the window, so its counters count
//! from zero. Computes nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use whydrop_model::{Counters, Pair};

mod cpus;
mod links;
mod stack;

pub(crate) use cpus::{cpu_side, softnet};
pub(crate) use links::links;
pub(crate) use stack::{
    filters, gauges, legacy_chains, narrow_counters, neighbour_tables, netfilter, packet_queues,
    qdiscs,
};

/// The counters of a namespace as the window opens, the greater part of what is kept of it until the
/// window closes. Their names are the same in nearly all namespaces, which share them.
#[derive(Debug)]
pub(crate) struct Counted {
    names: Arc<[String]>,
    values: Vec<u64>,
}

impl Counted {
    /// `known`: the names of a namespace read before; replaced if these are others.
    pub(crate) fn new(counters: Vec<(String, u64)>, known: &mut Arc<[String]>) -> Self {
        if !counters.iter().map(|(name, _)| name).eq(known.iter()) {
            *known = counters.iter().map(|(name, _)| name.clone()).collect();
        }
        let values = counters.into_iter().map(|(_, value)| value).collect();
        Self { names: Arc::clone(known), values }
    }
}

/// Counters at both ends. `before` is `None` for a namespace born inside the window.
pub(crate) fn counters(before: Option<&Counted>, after: Vec<(String, u64)>) -> Counters {
    let before = before.into_iter().flat_map(|it| it.names.iter().zip(&it.values));
    counters_of(before.map(|(name, value)| (name.as_str(), *value)), after)
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
        let read = |counters: &[(&str, u64)]| -> Vec<(String, u64)> {
            counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let mut names = Arc::default();
        let before = Counted::new(read(&[("A.x", 3), ("A.gone", 1)]), &mut names);
        let after = || read(&[("A.x", 5), ("A.new", 2)]);
        let merged = counters(Some(&before), after());
        assert_eq!(merged.len(), 2);
        assert_eq!(merged["A.x"], Pair { before: 3, after: 5 });
        assert_eq!(merged["A.new"], Pair { before: 0, after: 2 });
        assert_eq!(counters(None, after())["A.x"], Pair { before: 0, after: 5 });
        let same = Counted::new(read(&[("A.x", 4), ("A.gone", 1)]), &mut names);
        assert!(Arc::ptr_eq(&before.names, &same.names));
        let other = Counted::new(read(&[("A.x", 4)]), &mut names);
        assert_eq!(counters(Some(&other), after())["A.x"], Pair { before: 4, after: 5 });
        assert_eq!(counters(Some(&same), after())["A.x"], Pair { before: 4, after: 5 });
    }
}
