//! `cargo xtask bench`: what tracing costs, measured in one run on this machine, as ratios.
//!
//! A flood of frames is dropped for one reason in a namespace of its own while nothing, an empty
//! program on the same attach point, whydrop, or bpftrace's one-line count watches. Time per drop is
//! the kernel's own account (`BPF_ENABLE_STATS`, which ends with this process however that ends);
//! throughput is measured with that account off, each round beside the empty program's.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

mod flood;
mod limits;
mod observers;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::sys::{Stats, enable_stats};

use crate::command::{self, cargo};
use crate::debian::{self, Tool};
use flood::Stage;
use observers::{Kind, Observer};

pub(crate) use flood::play as flood;

/// What the comparison needs beyond the Rust toolchain.
const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", purpose: "the namespaces of the flood" },
    Tool { program: "bpftrace", package: "bpftrace", purpose: "the comparison" },
];

/// Rounds of throughput; each has every observer once.
const ROUNDS: usize = 9;
/// Length of one flood in a throughput round.
const BRIEF: Duration = Duration::from_millis(700);
/// Length of the flood that takes the time per drop.
const LONG: Duration = Duration::from_secs(2);

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("bench", arguments)?;
    if !debian::is_root() {
        bail!("measuring needs root: it attaches BPF programs and makes network namespaces");
    }
    if let Some(tool) = debian::ensure(TOOLS)?.first() {
        bail!("{} is missing", tool.program);
    }
    command::run(cargo().current_dir(root).args(["build", "--release", "--package", "whydrop"]))?;
    let program = root.join("target/release/whydrop");
    let stage = Stage::build()?;
    machine();
    cost_per_drop(&program, &stage)?;
    throughput(&program, &stage)?;
    limits::measure(&program)
}

/// What the figures were taken on.
fn machine() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let kernel = read("/proc/sys/kernel/osrelease");
    println!("\nLinux {}, {cpus} CPUs{model}", kernel.trim());
}

/// Nanoseconds per drop, by the kernel's account.
fn cost_per_drop(program: &Path, stage: &Stage) -> Result<()> {
    println!("\nTime per drop under flood (one drop reason, one call site)");
    println!("{:<34} {:>12} {:>9} {:>12}", "", "drops", "ns/drop", "above empty");
    let mut empty = None;
    for kind in [Kind::Empty, Kind::Whydrop, Kind::Filtered, Kind::Bpftrace] {
        let _account = enable_stats(Stats::RunTime).context("the kernel keeps no account")?;
        let observer = Observer::start(kind, program)?;
        let before = observer.runs()?;
        let sent = stage.flood(LONG)?;
        let after = observer.runs()?;
        let runs = after.run_count - before.run_count;
        if runs < sent.packets {
            bail!("{}: saw {runs} drops of {} frames", kind.name(), sent.packets);
        }
        let cost = (after.run_time_ns - before.run_time_ns) as f64 / runs as f64;
        let base = *empty.get_or_insert(cost);
        println!("{:<34} {runs:>12} {cost:>9.1} {:>12.1}", kind.name(), cost - base);
    }
    Ok(())
}

/// Frames per second that the sender gets through, against the empty program's in the same round.
fn throughput(program: &Path, stage: &Stage) -> Result<()> {
    let kinds = [Kind::Nothing, Kind::Empty, Kind::Whydrop, Kind::Filtered, Kind::Bpftrace];
    let mut rates = kinds.map(|_| Vec::new());
    for round in 0..ROUNDS {
        // Each round starts with another one, so that none always comes first.
        for turn in 0..kinds.len() {
            let which = (round + turn) % kinds.len();
            let observer = Observer::start(kinds[which], program)?;
            rates[which].push(stage.flood(BRIEF)?.per_second());
            observer.stop()?;
        }
    }
    println!("\nThroughput kept under flood ({ROUNDS} rounds; ratio within each round, median)");
    println!("{:<34} {:>14} {:>10} {:>17}", "", "frames/s", "of empty", "(least to most)");
    for (kind, rate) in kinds.iter().zip(&rates) {
        let mut ratios: Vec<f64> =
            rate.iter().zip(&rates[1]).map(|(one, base)| one / base).collect();
        let (least, middle, most) = spread(&mut ratios);
        let (_, usual, _) = spread(&mut rate.clone());
        println!(
            "{:<34} {usual:>14.0} {:>9.1}% {:>7.1}% to {:.1}%",
            kind.name(),
            middle * 100.0,
            least * 100.0,
            most * 100.0
        );
    }
    Ok(())
}

/// Least, median and most; all zero of nothing.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(least), Some(middle), Some(most)) => (*least, *middle, *most),
        _ => (0.0, 0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(&mut [3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(spread(&mut []), (0.0, 0.0, 0.0));
    }
}
