//! The kernel's own counters, read by the lab itself inside a namespace: the measure that a
//! diagnosis is held against. Nothing here comes from the program under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::topology::Lan;

/// A counter of one namespace, written `role:Group.Name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CounterName {
    pub(crate) role: String,
    pub(crate) name: String,
}

impl TryFrom<String> for CounterName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some((role, name)) if !role.is_empty() && name.contains('.') => {
                Ok(Self { role: role.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("`{text}` is not a counter: write `role:Group.Name`")),
        }
    }
}

impl fmt::Display for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.role, self.name)
    }
}

impl Serialize for CounterName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A counter with a sign: a leading `-` takes it off the sum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Term {
    pub(crate) minus: bool,
    pub(crate) counter: CounterName,
}

impl TryFrom<String> for Term {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (minus, counter) = match text.strip_prefix('-') {
            Some(counter) => (true, counter.to_owned()),
            None => (false, text),
        };
        Ok(Self { minus, counter: CounterName::try_from(counter)? })
    }
}

/// Values, or growth, of the counters that a scenario looks at.
pub(crate) type Values = BTreeMap<CounterName, u64>;

/// Reads these counters in their namespaces.
pub(crate) fn read(lan: &Lan, counters: &BTreeSet<CounterName>) -> Result<Values, LabError> {
    let mut tables: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    let mut values = Values::new();
    for counter in counters {
        let role = counter.role.as_str();
        if !tables.contains_key(role) {
            tables.insert(role, table(lan, role)?);
        }
        let value = tables.get(role).and_then(|table| table.get(&counter.name));
        let value = *value.ok_or_else(|| LabError::NoCounter(counter.to_string()))?;
        values.insert(counter.clone(), value);
    }
    Ok(values)
}

/// What each counter grew by; these never shrink.
pub(crate) fn growth(before: &Values, after: &Values) -> Values {
    let grew = |(counter, &value): (&CounterName, &u64)| {
        let from = before.get(counter).copied().unwrap_or(0);
        (counter.clone(), value.saturating_sub(from))
    };
    after.iter().map(grew).collect()
}

/// The sum of the terms; below zero if the counters contradict each other.
pub(crate) fn sum(terms: &[Term], values: &Values) -> i64 {
    terms
        .iter()
        .map(|term| {
            let value = values.get(&term.counter).copied().unwrap_or(0).cast_signed();
            if term.minus { -value } else { value }
        })
        .sum()
}

fn table(lan: &Lan, role: &str) -> Result<BTreeMap<String, u64>, LabError> {
    // Not /proc/net: that shows the namespace of the process, not of the thread that moved.
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let (snmp, netstat) = lan.get(role)?.within(|| (read("snmp"), read("netstat")))?;
    let mut table = BTreeMap::new();
    for (name, text) in [("snmp", snmp), ("netstat", netstat)] {
        let what = format!("reading /proc/net/{name} in {role}");
        parse(&text.map_err(LabError::io(what))?, &mut table);
    }
    Ok(table)
}

/// Pairs of lines: names, then values, each starting with the group.
fn parse(text: &str, table: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((_, values)) = values.split_once(':') else { continue };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // Tcp.MaxConn is -1: a setting among the counters.
            if let Ok(value) = value.parse() {
                table.insert(format!("{group}.{name}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CounterName {
        CounterName::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn netstat_lines() {
        let mut table = BTreeMap::new();
        parse("Tcp: MaxConn InSegs\nTcp: -1 5\nTcpExt: A B\nTcpExt: 1 2\n", &mut table);
        let got: Vec<_> = table.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(got, [("Tcp.InSegs", 5), ("TcpExt.A", 1), ("TcpExt.B", 2)]);
    }

    #[test]
    fn names_and_terms() {
        assert_eq!(name("b:TcpExt.ListenDrops").to_string(), "b:TcpExt.ListenDrops");
        for wrong in ["TcpExt.ListenDrops", ":TcpExt.X", "b:ListenDrops"] {
            assert!(CounterName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        let term = Term::try_from("-b:TcpExt.X".to_owned()).unwrap();
        assert!(term.minus);
        assert_eq!(term.counter, name("b:TcpExt.X"));
    }

    #[test]
    fn sums_what_grew() {
        let before = Values::from([(name("b:T.Drops"), 5), (name("b:T.Overflows"), 1)]);
        let after = Values::from([(name("b:T.Drops"), 25), (name("b:T.Overflows"), 4)]);
        let grew = growth(&before, &after);
        let terms = ["b:T.Drops", "-b:T.Overflows"].map(|text| text.to_owned().try_into().unwrap());
        assert_eq!(sum(&terms, &grew), 17);
    }
}
