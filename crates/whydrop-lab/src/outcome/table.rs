//! Outcomes as a table, and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::accuracy::Score;
use super::{Accuracy, Outcome};

/// Writes the outcomes and their score as one JSON document; `seconds` is what the run took.
pub fn write_json(outcomes: &[Outcome], seconds: f64, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        outcomes: &'a [Outcome],
        accuracy: Accuracy,
        seconds: f64,
    }
    let accuracy = Accuracy::of(outcomes);
    serde_json::to_writer_pretty(&mut *out, &Document { outcomes, accuracy, seconds })?;
    writeln!(out)
}

/// Writes the outcomes as a table, then what was wrong, then the score; `seconds` is what the run
/// took.
///
/// ```text
/// scenario              expected                          got       packets  left  seconds
/// accept-queue-stopped  accept-queue-full (stopped) in b  the same  69 = 69     0      3.1  ok
/// healthy-idle          clean                             the same  -           0      2.9  ok
///
///          right  wrong  skipped
/// fault        1      0        0
/// healthy      1      0        0
/// all          2      0        0
///
/// 69 packets expected, 69 found; 3.4 s (6.0 s one after the other)
/// ```
pub fn write_table(outcomes: &[Outcome], seconds: f64, out: &mut dyn Write) -> io::Result<()> {
    let head = ["scenario", "expected", "got", "packets", "left", "seconds", ""].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(outcomes.iter().map(row)).collect();
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
    write_score(outcomes, seconds, out)
}

fn row(outcome: &Outcome) -> [String; 7] {
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    let packets = match (outcome.packets_expected, outcome.packets_got) {
        (None, None) => "-".into(),
        (expected, got) if expected == got => format!("{0} = {0}", number(got)),
        (expected, got) => format!("{} not {}", number(got), number(expected)),
    };
    let sorted = |list: &str| {
        let mut causes: Vec<String> = list.split(", ").map(str::to_owned).collect();
        causes.sort();
        causes
    };
    let same = sorted(&outcome.got) == sorted(&outcome.expected);
    [
        outcome.title(),
        brief(&outcome.expected),
        if same { "the same".into() } else { brief(&outcome.got) },
        packets,
        number(outcome.ledger_remainder),
        format!("{:.1}", outcome.seconds),
        match &outcome.skipped {
            Some(why) => format!("skipped: {why}"),
            None if outcome.pass => "ok".into(),
            None => "WRONG".into(),
        },
    ]
}

/// The first causes of a list, and how many more there are.
fn brief(list: &str) -> String {
    let causes: Vec<_> = list.split(", ").collect();
    match causes.as_slice() {
        [first, second, _, ..] => format!("{first}, {second} and {} more", causes.len() - 2),
        _ => list.to_owned(),
    }
}

fn write_score(outcomes: &[Outcome], seconds: f64, out: &mut dyn Write) -> io::Result<()> {
    let accuracy = Accuracy::of(outcomes);
    writeln!(out, "\n{:8}  right  wrong  skipped", "")?;
    let mut line = |what: &str, Score { right, wrong, skipped }: Score| {
        writeln!(out, "{what:8}  {right:>5}  {wrong:>5}  {skipped:>7}")
    };
    for (kind, score) in &accuracy.kinds {
        line(&kind.to_string(), *score)?;
    }
    line("all", accuracy.all)?;
    let Accuracy { packets_expected, packets_got, .. } = accuracy;
    let sum: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    writeln!(
        out,
        "\n{packets_expected} packets expected, {packets_got} found; \
         {seconds:.1} s ({sum:.1} s one after the other)"
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Spent, Unplayed};
    use super::*;
    use crate::Job;

    fn outcome(name: &str) -> Outcome {
        Outcome {
            name: name.into(),
            kind: Kind::Fault,
            expected: "accept-queue-full (stopped) in b".into(),
            got: "accept-queue-full (stopped) in b".into(),
            packets_expected: Some(69),
            packets_got: Some(69),
            ledger_remainder: Some(0),
            seconds: 3.06,
            spent: Spent::default(),
            pass: true,
            ..Outcome::unplayed(&Job::one(name), Unplayed::Failed(String::new()))
        }
    }

    fn written(outcomes: &[Outcome]) -> String {
        let mut text = Vec::new();
        write_table(outcomes, 5.0, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn table() {
        let wrong = Outcome {
            remedied: true,
            kind: Kind::Remedied,
            expected: "clean".into(),
            got: "no report".into(),
            packets_expected: None,
            packets_got: None,
            ledger_remainder: None,
            pass: false,
            failures: vec!["the diagnosis printed no report".into()],
            ..outcome("two")
        };
        let short = Outcome {
            packets_got: Some(68),
            pass: false,
            failures: Vec::new(),
            ..outcome("three")
        };
        let expected = "\
scenario      expected                          got        packets    left  seconds
one           accept-queue-full (stopped) in b  the same   69 = 69       0      3.1  ok
two + remedy  clean                             no report  -             -      3.1  WRONG
three         accept-queue-full (stopped) in b  the same   68 not 69     0      3.1  WRONG

two + remedy:
  the diagnosis printed no report

three:

          right  wrong  skipped
fault         1      1        0
remedied      0      1        0
all           1      2        0

138 packets expected, 137 found; 5.0 s (9.2 s one after the other)
";
        assert_eq!(written(&[outcome("one"), wrong, short]), expected);
    }

    #[test]
    fn long_lists_are_cut_short_and_compared_in_any_order() {
        let several = Outcome {
            expected: "a in b, c in d, e in f".into(),
            got: "e in f, a in b, c in d".into(),
            ..outcome("one")
        };
        let text = written(&[several]);
        assert!(text.contains("one       a in b, c in d and 1 more  the same  69 = 69"), "{text}");
    }

    #[test]
    fn what_is_skipped_is_neither_right_nor_wrong() {
        let why = Unplayed::Skipped("this machine has no tbf qdisc".into());
        let skipped = Outcome::unplayed(&Job::one("two"), why);
        assert!(!skipped.pass && !skipped.is_wrong());
        let text = written(&[outcome("one"), skipped]);
        let told = text.lines().find(|line| line.starts_with("two")).unwrap();
        assert!(told.ends_with("skipped: this machine has no tbf qdisc"), "{told}");
        assert!(text.contains("\nall           1      0        1\n"), "{text}");
    }

    #[test]
    fn json_has_outcomes_and_score() {
        let mut text = Vec::new();
        write_json(&[outcome("one")], 3.5, &mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["outcomes"][0]["packets_got"], 69);
        assert!(value["outcomes"][0].get("report").is_none());
        assert_eq!(value["accuracy"]["kinds"]["fault"]["right"], 1);
        assert_eq!(value["seconds"], 3.5);
    }
}
