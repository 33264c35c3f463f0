//! What the kernel's counters mean when they grow.
//!
//! Data, not code: the list is `knowledge/counters.tsv`, for counters that tell of loss and those
//! one needs beside them. It names no thresholds and judges no value.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::knowledge;
use crate::nic::{self, Statistic};

/// What is known about one counter.
#[derive(Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name as in evidence: `TcpExt.ListenOverflows`, `snmp6.Ip6InTooBigErrors`, `rx_missed_errors`.
    pub name: &'static str,
    /// The same event elsewhere: in the IPv6 or the other table. May be empty.
    pub also: Vec<&'static str>,
    /// One of [`crate::causes::LAYERS`].
    pub layer: &'static str,
    /// What it counts, in one line.
    pub meaning: &'static str,
    /// What it means when it grows.
    pub grows: &'static str,
    /// Causes and reasons behind it.
    pub see: Vec<&'static str>,
}

impl Counter {
    /// Its name, then the others.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.also.iter().copied())
    }
}

static COUNTERS: LazyLock<Vec<Counter>> =
    LazyLock::new(|| parse(include_str!("../knowledge/counters.tsv")));

/// All counters known, by name.
#[must_use]
pub fn all() -> &'static [Counter] {
    &COUNTERS
}

/// Counters of this name, written as here or as `nstat` prints it (`TcpExtListenDrops`). Without its
/// group (`InErrors`) it may be several. Case does not count.
pub fn find(name: &str) -> impl Iterator<Item = &'static Counter> {
    let wanted = name.trim().to_lowercase();
    COUNTERS.iter().filter(move |counter| {
        counter.names().map(str::to_lowercase).any(|one| {
            one == wanted
                || one.replace('.', "") == wanted
                || one.rsplit_once('.').is_some_and(|(_, last)| last == wanted)
        })
    })
}

/// Counters whose name, meaning or growth holds all of these words.
pub fn search(words: &[&str]) -> impl Iterator<Item = &'static Counter> {
    let words = knowledge::lower_case(words);
    COUNTERS.iter().filter(move |counter| {
        let text = format!("{} {} {}", counter.name, counter.meaning, counter.grows).to_lowercase();
        !words.is_empty() && words.iter().all(|word| text.contains(word))
    })
}

/// Counters that were probably meant: those with few letters different, the nearest first.
#[must_use]
pub fn near(name: &str) -> Vec<&'static Counter> {
    let last = |name: &str| {
        let name = name.trim().to_lowercase();
        name.rsplit_once('.').map(|(_, last)| last.to_owned()).unwrap_or(name)
    };
    let wanted = last(name);
    let limit = (wanted.len() / 4).clamp(1, 3);
    let distance = |one: &str| knowledge::distance(&wanted, &last(one), limit);
    let mut found: Vec<_> = COUNTERS
        .iter()
        .filter_map(|counter| Some((counter.names().map(distance).min()?, counter)))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    found.sort_by_key(|(distance, counter)| (*distance, counter.name));
    found.truncate(NEAR);
    found.into_iter().map(|(_, counter)| counter).collect()
}

/// More names than this are no help.
const NEAR: usize = 6;

/// What a statistic of this name (`ethtool -S`) means, with the drivers that have it. Where no
/// driver is known to, what the name alone suggests, with no driver.
#[must_use]
pub fn of_drivers(name: &str) -> Vec<(Vec<&'static str>, Statistic)> {
    let table = include_str!("../knowledge/nic-statistics.tsv").lines().skip(1);
    let drivers = table.filter_map(|line| line.split('\t').next());
    let drivers: BTreeSet<&str> = drivers.flat_map(|names| names.split(',')).collect();
    let mut found: Vec<(Vec<&str>, Statistic)> = Vec::new();
    for driver in drivers {
        let Some(statistic) = nic::statistic(driver, name).filter(|one| one.certain) else {
            continue;
        };
        match found.iter_mut().find(|(_, same)| *same == statistic) {
            Some((drivers, _)) => drivers.push(driver),
            None => found.push((vec![driver], statistic)),
        }
    }
    if found.is_empty() {
        found.extend(nic::statistic("", name).map(|statistic| (Vec::new(), statistic)));
    }
    found
}

/// Lines that are not well formed are skipped here and caught by the tests below: the file is part
/// of the program.
fn parse(table: &'static str) -> Vec<Counter> {
    let row = |line: &'static str| {
        let mut fields = line.split('\t');
        let list = |text: &'static str| text.split(',').filter(|one| !one.is_empty()).collect();
        Some(Counter {
            name: fields.next()?,
            also: list(fields.next()?),
            layer: fields.next()?,
            meaning: fields.next()?,
            grows: fields.next()?,
            see: list(fields.next()?),
        })
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes;

    #[test]
    fn every_line_is_a_counter_and_what_it_points_to_exists() {
        let lines = include_str!("../knowledge/counters.tsv").lines().count() - 1;
        assert_eq!(all().len(), lines);
        for counter in all() {
            let name = counter.name;
            assert!(causes::LAYERS.contains(&counter.layer), "{name}: layer {}", counter.layer);
            assert!(!counter.meaning.is_empty() && counter.meaning.len() <= 100, "{name}");
            assert!(!counter.grows.is_empty(), "{name}");
            for other in &counter.see {
                let known = knowledge::find(other).is_some() || causes::find(other).is_some();
                assert!(known, "{name} -> {other}");
            }
        }
        let mut names: Vec<_> = all().iter().flat_map(Counter::names).collect();
        let total = names.len();
        assert!(all().is_sorted_by_key(|counter| counter.name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), total, "a name stands twice");
    }

    #[test]
    fn a_counter_is_found_with_and_without_its_group_and_by_its_twin() {
        let names = |name: &str| find(name).map(|counter| counter.name).collect::<Vec<_>>();
        for name in ["TcpExt.ListenOverflows", "TcpExtListenOverflows", "listenoverflows"] {
            assert_eq!(names(name), ["TcpExt.ListenOverflows"], "{name}");
        }
        assert_eq!(names("Udp6RcvbufErrors"), ["Udp.RcvbufErrors"]);
        assert_eq!(names("rx_missed_errors"), ["rx_missed_errors"]);
        assert_eq!(names("InCsumErrors").len(), 4, "IpExt, Icmp, Tcp, Udp");
        assert!(names("NoSuchCounter").is_empty());
        assert!(search(&["accept", "queue"]).any(|one| one.name == "TcpExt.ListenOverflows"));
        assert_eq!(search(&[]).count(), 0);
        assert_eq!(
            near("ListenOverflow").first().map(|one| one.name),
            Some("TcpExt.ListenOverflows")
        );
        assert!(near("qqqqqqqqqqqq").is_empty());
    }

    #[test]
    fn statistics_are_found_in_every_driver_that_has_them() {
        let known = of_drivers("rx_out_of_buffer");
        assert!(known.iter().any(|(drivers, _)| drivers.contains(&"mlx5_core")), "{known:?}");
        let guessed = of_drivers("some_rqdpc");
        assert!(guessed.len() == 1 && guessed[0].0.is_empty(), "{guessed:?}");
        assert!(of_drivers("no_such_statistic").is_empty());
    }
}
