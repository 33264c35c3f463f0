//! The kernel's own counters, read by the lab itself inside a namespace: the measure that a
//! diagnosis is held against. Nothing here comes from the program under test.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::topology::Lan;

mod table;

use table::Place;

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

/// A part of a number of packets, known without the program under test.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TermText")]
pub(crate) enum Term {
    /// So many, whatever happens.
    Number(u64),
    /// What the traffic of this name sent, by its own count; written `sent:NAME`.
    Sent(String),
    /// A counter's growth.
    Plus(CounterName),
    /// A counter's growth, to be taken off; written with a leading `-`.
    Minus(CounterName),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TermText {
    Number(u64),
    Text(String),
}

impl TryFrom<TermText> for Term {
    type Error = String;

    fn try_from(term: TermText) -> Result<Self, String> {
        let text = match term {
            TermText::Number(number) => return Ok(Self::Number(number)),
            TermText::Text(text) => text,
        };
        if let Some(name) = text.strip_prefix("sent:") {
            return Ok(Self::Sent(name.to_owned()));
        }
        match text.strip_prefix('-') {
            Some(counter) => counter.to_owned().try_into().map(Self::Minus),
            None => text.try_into().map(Self::Plus),
        }
    }
}

impl Term {
    /// The counter it reads, if it reads one.
    pub(crate) fn counter(&self) -> Option<&CounterName> {
        match self {
            Self::Plus(counter) | Self::Minus(counter) => Some(counter),
            Self::Number(_) | Self::Sent(_) => None,
        }
    }
}

/// Values, or growth, of the counters that a scenario looks at.
pub(crate) type Values = BTreeMap<CounterName, u64>;

/// What the traffic that has a name sent, by that name.
pub(crate) type Sent<'a> = BTreeMap<&'a str, u64>;

/// Reads these counters in their namespaces.
pub(crate) fn read(lan: &Lan, counters: &BTreeSet<CounterName>) -> Result<Values, LabError> {
    let mut tables = BTreeMap::new();
    let mut values = Values::new();
    for counter in counters {
        let (role, place) = (counter.role.as_str(), Place::of(&counter.name));
        let table = match tables.entry((role, place)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(place.read(lan.get(role)?)?),
        };
        let value = match table.get(&counter.name) {
            Some(value) => *value,
            None if place.comes_and_goes() => 0,
            None => return Err(LabError::NoCounter(counter.to_string())),
        };
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

/// The sum of the terms; below zero if they contradict each other.
pub(crate) fn sum(terms: &[Term], values: &Values, sent: &Sent<'_>) -> i64 {
    let value = |term: &Term| match term {
        Term::Number(number) => number.cast_signed(),
        Term::Sent(name) => sent.get(name.as_str()).copied().unwrap_or(0).cast_signed(),
        Term::Plus(counter) => values.get(counter).copied().unwrap_or(0).cast_signed(),
        Term::Minus(counter) => -values.get(counter).copied().unwrap_or(0).cast_signed(),
    };
    terms.iter().map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CounterName {
        CounterName::try_from(text.to_owned()).unwrap()
    }

    fn term(toml: &str) -> Term {
        let table: toml::Table = toml::from_str(&format!("x = {toml}")).unwrap();
        table["x"].clone().try_into().unwrap()
    }

    #[test]
    fn names_and_terms() {
        assert_eq!(name("b:TcpExt.ListenDrops").to_string(), "b:TcpExt.ListenDrops");
        for wrong in ["TcpExt.ListenDrops", ":TcpExt.X", "b:ListenDrops"] {
            assert!(CounterName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert_eq!(term("'-b:TcpExt.X'"), Term::Minus(name("b:TcpExt.X")));
        assert_eq!(term("'b:dev.veth0.rx_dropped'"), Term::Plus(name("b:dev.veth0.rx_dropped")));
        assert_eq!(term("'sent:flood'"), Term::Sent("flood".into()));
        assert_eq!(term("30"), Term::Number(30));
    }

    #[test]
    fn sums_what_grew() {
        let before = Values::from([(name("b:T.Drops"), 5), (name("b:T.Overflows"), 1)]);
        let after = Values::from([(name("b:T.Drops"), 25), (name("b:T.Overflows"), 4)]);
        let grew = growth(&before, &after);
        let terms = ["'b:T.Drops'", "'-b:T.Overflows'", "'sent:flood'", "5"].map(term);
        assert_eq!(sum(&terms, &grew, &[("flood", 30)].into()), 20 - 3 + 30 + 5);
    }
}
