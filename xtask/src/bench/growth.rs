//! How the cost of looking at a host grows with what there is to look at.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::connections;
use super::curve::{Point, draw, exponent, growth};
use super::document::{Findings, Table};
use super::janitor::Janitor;
use super::process::diagnose;
use super::{Ground, median};
use crate::command;

/// Length of the window; its own cost is not what is measured here.
const WINDOW: Duration = Duration::from_millis(500);
/// Runs at each size; the median counts. One must do where it takes long.
const RUNS: usize = 3;
const LONG: Duration = Duration::from_secs(3);

/// Sizes up to this one can be had everywhere.
const FEW: usize = 1000;

/// With more and more network namespaces.
pub(super) fn namespaces(ground: &Ground, findings: &mut Findings) -> Result<()> {
    let janitor = Janitor::hire("growth")?;
    let mut there = 0;
    measure(
        ground,
        findings,
        ("Cost of a snapshot with more network namespaces", "namespaces", "network namespaces"),
        "Namespaces as `ip netns add` makes them, beside those that the machine has.",
        &[1, 10, 100, 1000],
        &mut |wanted| {
            janitor.add(there..wanted)?;
            there = wanted;
            Ok(())
        },
    )
}

/// With more and more TCP sockets.
pub(super) fn sockets(ground: &Ground, findings: &mut Findings) -> Result<()> {
    let janitor = Janitor::hire("sockets")?;
    let name = janitor.name("a");
    for line in [format!("netns add {name}"), format!("-n {name} link set lo up")] {
        command::output(Command::new("ip").args(line.split(' ')))?;
    }
    let mut held = Vec::new();
    measure(
        ground,
        findings,
        ("Cost of a snapshot with more sockets", "sockets", "sockets"),
        "Established TCP connections over the loopback of one namespace, both ends of each, 2,000 \
         of them in each process.",
        &[100, 1000, 10_000, 100_000],
        &mut |wanted| {
            held.clear();
            held = connections::open(&name, wanted)?;
            Ok(())
        },
    )
}

/// Runs at each size that can be had, and names the growth.
fn measure(
    ground: &Ground,
    findings: &mut Findings,
    (title, name, unit): (&'static str, &'static str, &'static str),
    about: &str,
    sizes: &[usize],
    make: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut table = Table::new(
        title,
        format!(
            "{about} A snapshot is all that `diagnose` does beside its window: it attaches, reads \
             everything twice and reports. Medians of {RUNS} runs; one run where it takes longer \
             than {} s.",
            LONG.as_secs()
        ),
        &["", "time, ms", "CPU, ms", "at most, MiB"],
    );
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    let mut take = |what: String, size: Option<usize>| -> Result<()> {
        println!("{what}");
        let mut runs = vec![diagnose(&ground.program, WINDOW)?];
        while runs.len() < RUNS && runs[0].beside < LONG {
            runs.push(diagnose(&ground.program, WINDOW)?);
        }
        let middle = |figure: &dyn Fn(&super::process::Run) -> f64| {
            median(&runs.iter().map(figure).collect::<Vec<_>>())
        };
        let time = middle(&|run| run.beside.as_secs_f64() * 1000.0);
        let cpu = middle(&|run| run.cpu * 1000.0);
        let peak = middle(&|run| run.peak);
        let size = size.unwrap_or(0) as f64;
        times.push(Point { size, cost: time });
        cpus.push(Point { size, cost: cpu });
        table.row(vec![what, format!("{time:.0}"), format!("{cpu:.0}"), format!("{peak:.1}")]);
        Ok(())
    };
    take("the machine as it is".to_owned(), None)?;
    let mut refused = None;
    for &size in sizes {
        if let Err(why) = make(size) {
            if size <= FEW {
                return Err(why);
            }
            refused = Some(format!("With {size} {unit} it could not be measured: {why:#}. "));
            break;
        }
        take(format!("{size} {unit} more"), Some(size))?;
    }
    let named = [("Time", &times), ("CPU time", &cpus)].map(|(what, points)| {
        let grown = match exponent(points) {
            Some(exponent) => {
                let last = points
                    .last()
                    .map_or(0.0, |last| (last.cost - points[0].cost) / last.size * 1000.0);
                format!(
                    "grows with the power {exponent:.2} of their number, {}, by {last:.0} µs each",
                    growth(exponent)
                )
            }
            None => "does not grow enough to name how".to_owned(),
        };
        format!("{what} above that of the machine as it is {grown}.")
    });
    let drawing = draw(title, unit, &[("time", &times[1..]), ("CPU time", &cpus[1..])]);
    table.conclude(format!("{}{}", refused.unwrap_or_default(), named.join(" ")), name, drawing);
    findings.add(table);
    Ok(())
}
