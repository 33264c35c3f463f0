//! The page that tells what came of a run of all kernels: docs/compatibility.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::answers::{Answers, Played, Reasons};
use super::loads::Load;
use super::{Outcome, Row};

const HEAD: &str = "\
<!-- Made by `cargo xtask matrix`; run that instead. -->

# Kernels

What the release binary did on Debian's kernels for virtual machines (`-cloud-amd64`), booted in qemu by
software emulation with two CPUs, and on the host that wrote this page. Every kernel is asked the same
[questions](../xtask/src/matrix/questions.sh); `cargo xtask matrix KERNEL...` asks some of them again, and
CI asks 6.1 and 6.12.

- *tp_btf*, *raw_tp*, *tp*: asked to attach in this way alone, it does, and the scenarios below that are
  played with each way are right.
- *reasons*: the reasons for a drop that the kernel's BTF names. Each has a meaning in whydrop, and those that
  the tracepoint's own description has too were compared with it and are named the same. Kernels before 5.17
  give none: whydrop then tells causes by call site and by what was counted beside.
- *collectors*: how many read all that they wanted, in a namespace with devices, a queueing discipline with a
  filter, and a firewall.
- *scenarios*: those of the lab that came out right, to the packet.

";

/// The head of the first table.
const COLUMNS: [&str; 9] = [
    "kernel",
    "release",
    "tracepoint",
    "tp_btf",
    "raw_tp",
    "tp",
    "reasons",
    "collectors",
    "scenarios",
];

/// The page for these kernels. `collectors` are what each collector reads.
pub(super) fn write(rows: &[Row], collectors: &[String]) -> String {
    let mut page = HEAD.to_owned();
    let mut table = vec![COLUMNS.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| [vec![row.line()], cells(row, collectors)].concat()));
    page += &lines(&table);
    let answered: Vec<(&Row, &Answers)> = rows
        .iter()
        .filter_map(|row| match &row.outcome {
            Outcome::Answered(answers) => Some((row, answers)),
            _ => None,
        })
        .collect();
    page += "\n## Scenarios\n\nIn brackets, the way to attach where it was forced; otherwise whydrop chose it.\n\n";
    page += &lines(&scenarios(&answered));
    page += "\n## What was read\n\nHow many of each kind the evidence holds. It depends on the machine: a guest has no \
             network card.\n\n";
    page += &lines(&read(&answered));
    page += "\n## What the verifier checks\n\nInstructions that the verifier went through, and milliseconds for the \
             load, by the kernel's and strace's account. Kernels before 5.16 do not tell the former: there it is the \
             size of the program, in brackets. Software emulation takes many times as long as a processor: compare guests with each \
             other.\n\n";
    page += &lines(&loads(&answered));
    page += &notes(rows);
    page
}

/// Kernels that gave answers, with those.
type Answered<'r> = [(&'r Row, &'r Answers)];

/// A table in Markdown, its first row the head.
fn lines(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in table.iter().enumerate() {
        let row: Vec<_> = row.iter().map(|cell| cell.replace(['\n', '|'], " ")).collect();
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

fn cells(row: &Row, collectors: &[String]) -> Vec<String> {
    let answers = match &row.outcome {
        Outcome::Answered(answers) => answers,
        Outcome::NotRun(why) => return unknown(format!("not run: {why}")),
        Outcome::Failed(why) => return unknown(format!("**failed**: {why}")),
    };
    let mut cells = vec![format!("`{}`", row.told_release()), answers.arguments.join(", ")];
    cells.extend(answers.ways.iter().map(|way| {
        if way.attached == way.asked { "ok".to_owned() } else { format!("**{}**", way.attached) }
    }));
    let Reasons { named, table, .. } = &answers.reasons;
    cells.push(format!("{named}, {table} compared"));
    let silent = |what: &&String| {
        answers.not_checked.iter().all(|(missing, _)| !missing.starts_with(what.as_str()))
    };
    cells.push(format!("{} of {}", collectors.iter().filter(silent).count(), collectors.len()));
    let (right, all) = answers.score();
    cells.push(format!("{right} of {all}"));
    cells
}

/// The cells of a kernel that nothing is known of.
fn unknown(why: String) -> Vec<String> {
    let mut cells = vec![why];
    cells.resize(COLUMNS.len() - 1, String::new());
    cells
}

fn head(first: &str, answered: &Answered<'_>) -> Vec<String> {
    [first.to_owned()].into_iter().chain(answered.iter().map(|(row, _)| row.line())).collect()
}

/// A row for every scenario, in the order in which they were played.
fn scenarios(answered: &Answered<'_>) -> Vec<Vec<String>> {
    let name = |(way, one): (Option<&str>, &Played)| match way {
        Some(way) => format!("`{}` ({way})", one.name),
        None => format!("`{}`", one.name),
    };
    let mut names = Vec::new();
    for (_, answers) in answered {
        for played in answers.played().map(name) {
            if !names.contains(&played) {
                names.push(played);
            }
        }
    }
    let cell = |row: &Row, answers: &Answers, wanted: &str| {
        let found = answers.played().find(|one| name(*one) == wanted);
        match found {
            Some((_, one)) if one.wrong.is_empty() => "right".to_owned(),
            Some((_, one)) if row.explained(one).is_some() => "explained below".to_owned(),
            Some(_) => "**wrong**".to_owned(),
            None => String::new(),
        }
    };
    let row = |wanted: &String| {
        let cells = answered.iter().map(|(row, answers)| cell(row, answers, wanted));
        [wanted.clone()].into_iter().chain(cells).collect()
    };
    [head("scenario", answered)].into_iter().chain(names.iter().map(row)).collect()
}

fn read(answered: &Answered<'_>) -> Vec<Vec<String>> {
    let kinds: BTreeSet<_> = answered.iter().flat_map(|(_, answers)| answers.read.keys()).collect();
    let row = |kind: &&String| {
        let count =
            |answers: &Answers| answers.read.get(*kind).map_or(String::new(), ToString::to_string);
        let cells = answered.iter().map(|(_, answers)| count(answers));
        [format!("`{kind}`")].into_iter().chain(cells).collect()
    };
    [head("kind", answered)].into_iter().chain(kinds.iter().map(row)).collect()
}

/// A row for every program; those of one kernel are told once, though every way to attach loads most of
/// them.
fn loads(answered: &Answered<'_>) -> Vec<Vec<String>> {
    let of = |answers: &Answers, name: &str| {
        let mut all = answers.ways.iter().flat_map(|way| &way.loads);
        all.find(|load| load.name == name).cloned()
    };
    let names: BTreeSet<_> = answered
        .iter()
        .flat_map(|(_, answers)| &answers.ways)
        .flat_map(|way| &way.loads)
        .map(|load| load.name.as_str())
        .collect();
    let cell = |load: Option<Load>| {
        load.map(|load| {
            let size =
                load.verified.map_or(format!("({})", load.instructions), |it| it.to_string());
            format!("{size} · {:.0} ms", load.seconds * 1000.0)
        })
        .unwrap_or_default()
    };
    let row = |name: &&str| {
        let cells = answered.iter().map(|(_, answers)| cell(of(answers, name)));
        [format!("`{name}`")].into_iter().chain(cells).collect()
    };
    [head("program", answered)].into_iter().chain(names.iter().map(row)).collect()
}

/// What is not as it might be, by kernel.
fn notes(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut notes = Vec::new();
        if let Outcome::Answered(answers) = &row.outcome {
            let missing = answers.not_checked.iter();
            notes.extend(missing.map(|(what, why)| format!("- not checked: {what}: {why}\n")));
            let explained =
                answers.played().filter_map(|(_, one)| Some((one, row.explained(one)?)));
            notes.extend(explained.map(|(one, why)| format!("- `{}`: {why}\n", one.name)));
        }
        notes.extend(row.faults().iter().map(|fault| format!("- **wrong**: {fault}\n")));
        if !notes.is_empty() {
            let _ = write!(text, "\n## {}\n\n{}", row.line(), notes.concat());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Row, answers, outcome};
    use super::write;

    fn row(name: &'static str, outcome: Outcome) -> Row {
        Row { name, outcome }
    }

    #[test]
    fn a_kernel_that_could_not_be_fetched_is_in_the_table() {
        let page = write(&[row("5.10", Outcome::NotRun("no | network\nat all".into()))], &[]);
        assert!(
            page.contains("| 5.10 | not run: no   network at all |  |  |  |  |  |  |  |\n"),
            "{page}"
        );
    }

    #[test]
    fn every_answer_is_on_the_page() {
        let right = row("6.1", outcome(Ok(answers::tests::heard(true))));
        let page = write(&[right], &["queues".to_owned(), "routes".to_owned()]);
        for line in [
            "| 6.1 | `6.1.0` | skbaddr | ok | ok | ok | 2, 1 compared | 1 of 2 | 4 of 4 |\n",
            "| `x` (raw_tp) | right |\n",
            "| `softnet` | 2 |\n",
            "| `drop` | 31 · 500 ms |\n",
            "\n## 6.1\n\n- not checked: queues: no module\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
        let wrong = row("6.1", outcome(Ok(answers::tests::heard(false))));
        let page = write(&[wrong], &[]);
        assert!(page.contains("| `x` | **wrong** |\n"), "{page}");
        assert!(page.contains("- **wrong**: x with tp_btf: expected \"a\", got \"b\"\n"), "{page}");
    }
}
