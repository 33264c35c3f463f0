//! docs/benchmarks.md: tables and targets as they were measured, and on what.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const FILE: &str = "docs/benchmarks.md";
const DRAWINGS: &str = "docs/benchmarks";

/// A table, as Markdown that reads as well on a terminal.
pub(super) struct Table {
    title: &'static str,
    about: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// What follows from it.
    conclusion: String,
    drawing: Option<(&'static str, String)>,
}

impl Table {
    pub(super) fn new(title: &'static str, about: String, head: &[&'static str]) -> Self {
        let (rows, conclusion, drawing) = (Vec::new(), String::new(), None);
        Self { title, about, head: head.to_vec(), rows, conclusion, drawing }
    }

    /// One cell for each of the head.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Says what follows from the rows, and shows it: the drawing is an SVG of this name.
    pub(super) fn conclude(&mut self, text: String, name: &'static str, drawing: String) {
        self.conclusion = text;
        self.drawing = Some((name, drawing));
    }

    fn markdown(&self) -> String {
        let head: Vec<String> = self.head.iter().map(ToString::to_string).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.about);
        for (number, row) in all.iter().enumerate() {
            for ((column, cell), &width) in row.iter().enumerate().zip(&widths) {
                // What names a row is at the left, figures are at the right.
                let _ = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let end = if column == 0 { "-" } else { ":" };
                    let _ = write!(text, "|{}{end}", "-".repeat(width + 1));
                }
                text.push_str("|\n");
            }
        }
        if !self.conclusion.is_empty() {
            let _ = write!(text, "\n{}\n", self.conclusion);
        }
        if let Some((name, _)) = &self.drawing {
            let _ = write!(text, "\n![{}](benchmarks/{name}.svg)\n", self.title);
        }
        text
    }
}

/// What must hold.
struct Target {
    what: String,
    wanted: String,
    measured: String,
    holds: bool,
}

/// All that was measured so far.
#[derive(Default)]
pub(super) struct Findings {
    tables: Vec<Table>,
    targets: Vec<Target>,
}

impl Findings {
    /// Takes a table and shows it.
    pub(super) fn add(&mut self, table: Table) {
        println!("\n{}", table.markdown());
        self.tables.push(table);
    }

    /// Takes a target, and whether it was met.
    pub(super) fn target(&mut self, what: &str, wanted: &str, measured: String, holds: bool) {
        let (what, wanted) = (what.to_owned(), wanted.to_owned());
        self.targets.push(Target { what, wanted, measured, holds });
    }

    pub(super) fn print_targets(&self) {
        println!("\n{}", self.targets());
    }

    fn targets(&self) -> String {
        let mut table = Table::new("Targets", String::new(), &["", "wanted", "measured", "holds"]);
        for target in &self.targets {
            let holds = if target.holds { "yes" } else { "**no**" };
            table.row(vec![
                target.what.clone(),
                target.wanted.clone(),
                target.measured.clone(),
                holds.to_owned(),
            ]);
        }
        table.markdown().replace("\n\n\n\n", "\n\n")
    }

    /// Writes the document and its drawings.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let mut text = format!(
            "<!-- Made by `cargo xtask bench` on a machine that is described below. -->\n\n\
             # What whydrop costs\n\nMeasured in one run on one machine: {}. Compare within a table, \
             not with other machines; `cargo xtask bench` measures yours.\n\n{}",
            machine(),
            self.targets()
        );
        fs::create_dir_all(root.join(DRAWINGS))?;
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
            if let Some((name, drawing)) = &table.drawing {
                fs::write(root.join(DRAWINGS).join(format!("{name}.svg")), drawing)?;
            }
        }
        fs::write(root.join(FILE), text).context(FILE)?;
        println!("{FILE}");
        Ok(())
    }
}

/// What the figures were taken on.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (info, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = value(&info, "model name").unwrap_or_else(|| "of a model it does not tell".into());
    let virtual_machine =
        value(&info, "flags").is_some_and(|flags| flags.split(' ').any(|it| it == "hypervisor"));
    let total = value(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
    format!(
        "Linux {}, {}{cpus} CPUs ({model}), {:.0} GiB of memory",
        read("/proc/sys/kernel/osrelease").trim(),
        if virtual_machine { "a virtual machine with " } else { "" },
        total.unwrap_or(0.0_f64) / f64::from(1 << 20),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_text_and_as_markdown() {
        let mut table = Table::new("Costs", "Of what.".into(), &["", "ns"]);
        table.row(vec!["nothing".into(), "1.5".into()]);
        table.conclude("It is cheap.".into(), "costs", "<svg/>".into());
        let text = "## Costs\n\nOf what.\n\n|         |  ns |\n|---------|----:|\n| nothing | 1.5 |\n\n\
                    It is cheap.\n\n![Costs](benchmarks/costs.svg)\n";
        assert_eq!(table.markdown(), text);
    }

    #[test]
    fn a_target_that_does_not_hold_is_told() {
        let mut findings = Findings::default();
        findings.target("a drop", "at most 50 ns", "60.0 ns".into(), false);
        assert!(findings.targets().contains(" 60.0 ns | **no** |"), "{}", findings.targets());
    }
}
