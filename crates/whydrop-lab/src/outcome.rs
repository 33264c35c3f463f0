//! How a scenario went, for people and for machines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use whydrop_model::Report;

use crate::Tally;

/// How the diagnosis of one scenario went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Name of the scenario.
    pub name: String,
    /// True if it was played with its remedy applied.
    pub remedied: bool,
    /// What a right diagnosis says.
    pub expected: String,
    /// What this one said.
    pub got: String,
    /// Packets that the expected findings should count, from the kernel's counters; `None` if none
    /// is expected.
    pub packets_expected: Option<u64>,
    /// Packets that those findings do count; `None` if there was none.
    pub packets_got: Option<u64>,
    /// Packets that the ledger leaves unexplained; `None` without a report.
    pub ledger_remainder: Option<u64>,
    /// How long it took, namespaces included.
    pub seconds: f64,
    /// True if it was played and nothing was wrong.
    pub pass: bool,
    /// Why it could not be played on this machine, if it could not: neither right nor wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What was wrong, one line each.
    pub failures: Vec<String>,
    /// What the counters that the scenario makes a claim about grew by.
    pub moved: BTreeMap<String, u64>,
    /// How each piece of traffic went.
    pub traffic: Vec<Tally>,
    /// The report, if something was wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

impl Outcome {
    /// A scenario that this machine cannot play.
    pub(crate) fn skipped(name: &str, remedied: bool, why: String) -> Self {
        Self {
            name: name.to_owned(),
            remedied,
            expected: String::new(),
            got: String::new(),
            packets_expected: None,
            packets_got: None,
            ledger_remainder: None,
            seconds: 0.0,
            pass: false,
            skipped: Some(why),
            failures: Vec::new(),
            moved: BTreeMap::new(),
            traffic: Vec::new(),
            report: None,
        }
    }

    /// True if it was played and something was wrong.
    pub fn is_wrong(&self) -> bool {
        !self.pass && self.skipped.is_none()
    }

    /// The scenario's name, and whether it was remedied.
    fn title(&self) -> String {
        if self.remedied { format!("{} + remedy", self.name) } else { self.name.clone() }
    }
}

/// Writes the outcomes as one JSON array.
pub fn write_json(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, outcomes)?;
    writeln!(out)
}

/// Writes the outcomes as a table, then what was wrong, then the score.
///
/// ```text
/// scenario                     expected                           got        packets  left  seconds
/// accept-queue-stopped         accept-queue-full (stopped) in b   the same   69 = 69     0      3.1  ok
/// healthy-idle                 clean                              the same   -           0      2.9  ok
/// ```
pub fn write_table(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    let head = ["scenario", "expected", "got", "packets", "left", "seconds", ""].map(str::to_owned);
    let mut rows = vec![head];
    for outcome in outcomes {
        let packets = match (outcome.packets_expected, outcome.packets_got) {
            (None, None) => "-".into(),
            (expected, got) if expected == got => format!("{0} = {0}", number(got)),
            (expected, got) => format!("{} not {}", number(got), number(expected)),
        };
        let same = outcome.got == outcome.expected;
        rows.push([
            outcome.title(),
            outcome.expected.clone(),
            if same { "the same".into() } else { outcome.got.clone() },
            packets,
            number(outcome.ledger_remainder),
            format!("{:.1}", outcome.seconds),
            match &outcome.skipped {
                Some(why) => format!("skipped: {why}"),
                None if outcome.pass => "ok".into(),
                None => "WRONG".into(),
            },
        ]);
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let [w0, w1, w2, w3, w4, w5] = [0, 1, 2, 3, 4, 5].map(width);
    for [name, expected, got, packets, left, seconds, state] in &rows {
        let line = format!(
            "{name:w0$}  {expected:w1$}  {got:w2$}  {packets:w3$}  {left:>w4$}  {seconds:>w5$}  {state}"
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.is_wrong()) {
        writeln!(out, "\n{}:", outcome.title())?;
        for failure in &outcome.failures {
            writeln!(out, "  {failure}")?;
        }
    }
    let right = outcomes.iter().filter(|outcome| outcome.pass).count();
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    let skipped = outcomes.iter().filter(|outcome| outcome.skipped.is_some()).count();
    write!(out, "\n{right} of {} right, ", outcomes.len() - skipped)?;
    if skipped > 0 {
        write!(out, "{skipped} skipped, ")?;
    }
    writeln!(out, "{seconds:.1} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str) -> Outcome {
        Outcome {
            name: name.into(),
            remedied: false,
            expected: "accept-queue-full (stopped) in b".into(),
            got: "accept-queue-full (stopped) in b".into(),
            packets_expected: Some(69),
            packets_got: Some(69),
            ledger_remainder: Some(0),
            seconds: 3.06,
            pass: true,
            skipped: None,
            failures: Vec::new(),
            moved: BTreeMap::new(),
            traffic: Vec::new(),
            report: None,
        }
    }

    #[test]
    fn table() {
        let wrong = Outcome {
            remedied: true,
            expected: "clean".into(),
            got: "no report".into(),
            packets_expected: None,
            packets_got: None,
            ledger_remainder: None,
            pass: false,
            failures: vec!["the diagnosis printed no report".into()],
            ..outcome("two")
        };
        let short = Outcome { packets_got: Some(68), pass: false, ..outcome("three") };
        let mut text = Vec::new();
        write_table(&[outcome("one"), wrong, short], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let expected = "\
scenario      expected                          got        packets    left  seconds
one           accept-queue-full (stopped) in b  the same   69 = 69       0      3.1  ok
two + remedy  clean                             no report  -             -      3.1  WRONG
three         accept-queue-full (stopped) in b  the same   68 not 69     0      3.1  WRONG

two + remedy:
  the diagnosis printed no report

three:

1 of 3 right, 9.2 s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_skipped_is_neither_right_nor_wrong() {
        let skipped = Outcome::skipped("two", false, "this machine has no tbf qdisc".into());
        assert!(!skipped.pass && !skipped.is_wrong());
        let mut text = Vec::new();
        write_table(&[outcome("one"), skipped], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let told = text.lines().find(|line| line.starts_with("two")).unwrap();
        assert!(told.ends_with("skipped: this machine has no tbf qdisc"), "{told}");
        assert!(text.ends_with("\n1 of 1 right, 1 skipped, 3.1 s\n"), "{text}");
    }

    #[test]
    fn json_is_one_array() {
        let mut text = Vec::new();
        write_json(&[outcome("one")], &mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value[0]["packets_got"], 69);
        assert!(value[0].get("report").is_none());
    }
}
