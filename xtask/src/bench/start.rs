//! How long `diagnose` takes to start and to end, and how much memory it takes.

use std::time::Duration;

use anyhow::Result;

use super::document::{Findings, Table};
use super::process::{Run, diagnose};
use super::{Ground, spread};

/// Length of the window measured.
const WINDOW: Duration = Duration::from_secs(1);
/// Runs; the table shows the least, the median and the most.
const RUNS: usize = 7;
/// Resident memory that is wanted at most, in MiB.
const RESIDENT: f64 = 24.0;

/// A row: what it is called, and what it is of a run.
type Figure = (&'static str, fn(&Run) -> f64);

/// Measures.
pub(super) fn measure(ground: &Ground, findings: &mut Findings) -> Result<()> {
    let runs: Vec<Run> =
        (0..RUNS).map(|_| diagnose(&ground.program, WINDOW)).collect::<Result<_>>()?;
    let mut table = Table::new(
        "Start, end and memory of `whydrop diagnose`",
        format!(
            "{RUNS} runs over a window of {} s. Resident memory is that of `/proc/PID/status`: the \
             process's own, the rings it has in common with the kernel, and those pages of its file \
             and of the C library that are in memory, which others may share.",
            WINDOW.as_secs()
        ),
        &["", "least", "median", "most"],
    );
    let figures: [Figure; 4] = [
        ("from the start to the open window, ms", |run| run.start.as_secs_f64() * 1000.0),
        ("beside the window, in all, ms", |run| run.beside.as_secs_f64() * 1000.0),
        ("resident while the window is open, MiB", |run| run.resident),
        ("resident at most, MiB", |run| run.peak),
    ];
    for (name, figure) in figures {
        let (least, middle, most) = spread(&runs.iter().map(figure).collect::<Vec<_>>());
        let cells = [least, middle, most].map(|value| format!("{value:.1}"));
        table.row(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let resident = runs.iter().map(|run| run.resident).fold(0.0, f64::max);
    findings.add(table);
    findings.target(
        "resident memory after attach",
        &format!("under {RESIDENT:.0} MiB"),
        format!("{resident:.1} MiB"),
        resident < RESIDENT,
    );
    Ok(())
}
