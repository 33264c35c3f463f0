//! `cargo xtask soak`: `top` and `diagnose` in turn under mixed traffic, for as long as is asked for.
//!
//! Memory, open files and threads must stay flat, and what was counted must be what was sent; else it
//! fails. What was measured is printed as a table.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

mod traffic;
pub(crate) mod turns;
mod vitals;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, cargo};
use crate::debian::{self, Tool};
use traffic::Stage;
pub(crate) use traffic::{in_namespace, play as traffic};
use turns::Turn;

const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", purpose: "the namespaces of the traffic" },
    Tool { program: "nft", package: "nftables", purpose: "a rule that drops" },
    Tool { program: "tmux", package: "tmux", purpose: "the terminal of top" },
];

/// Turns in all: each command twice, so that a second turn meets what a first one leaves.
const TURNS: u32 = 4;

/// Growth over a turn, after its warm-up, that is still called flat. Memory, in KiB: the allocator takes
/// it from the system in steps, of which 1.7 MiB was the largest seen; to keep the evidence of each lap
/// would be ten times as much. Files and threads come and go with every lap.
const FLAT_KIB: f64 = 2048.0;
const FLAT_COUNT: f64 = 1.0;

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let minutes = minutes(arguments, 20)?;
    let program = program(root, TOOLS)?;
    let stage = Stage::build()?;
    let length = Duration::from_secs(minutes * 60) / TURNS;
    println!("\n{minutes} minutes in {TURNS} turns of {} s", length.as_secs());
    println!(
        "{:<9} {:>9} {:>9}  {:>8} {:>8} {:>8}  {:>6} {:>6} {:>6}  {:>7} {:>6} {:>6}  {:>7}",
        "",
        "sent",
        "counted",
        "RSS KiB",
        "most",
        "growth",
        "files",
        "most",
        "growth",
        "threads",
        "most",
        "growth",
        "samples"
    );
    let mut faults = Vec::new();
    for turn in 0..TURNS {
        let turn = match turn % 2 {
            0 => turns::top(&program, &stage, length)?,
            _ => turns::diagnose(&program, &stage, length)?,
        };
        print(&turn);
        faults.extend(judge(&turn));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    println!("all that was sent was counted, and nothing grew");
    Ok(())
}

/// The number behind `--minutes`.
pub(crate) fn minutes(arguments: &[String], usual: u64) -> Result<u64> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(usual),
        ["--minutes", number] => match number.parse() {
            Ok(0) | Err(_) => bail!("`{number}` is no number of minutes"),
            Ok(minutes) => Ok(minutes),
        },
        _ => bail!("what may follow is `--minutes N`"),
    }
}

/// Builds what will run; the tools for it must be there.
pub(crate) fn program(root: &Path, tools: &[Tool]) -> Result<std::path::PathBuf> {
    if !debian::is_root() {
        bail!("this needs root: it attaches BPF programs and makes network namespaces");
    }
    if let Some(tool) = debian::ensure(tools)?.first() {
        bail!("{} is missing", tool.program);
    }
    command::run(cargo().current_dir(root).args(["build", "--package", "whydrop"]))?;
    let folder = std::env::current_exe().context("the own program")?;
    Ok(folder.with_file_name("whydrop"))
}

fn print(turn: &Turn) {
    let Turn { name, sent, traced, courses } = turn;
    let vitals::Courses { kib, files, threads, samples } = courses;
    println!(
        "{name:<9} {sent:>9} {traced:>9}  {:>8.0} {:>8.0} {:>+8.1}  {:>6.0} {:>6.0} {:>+6.2}  {:>7.0} \
         {:>6.0} {:>+6.2}  {samples:>7}",
        kib.first,
        kib.most,
        kib.growth,
        files.first,
        files.most,
        files.growth,
        threads.first,
        threads.most,
        threads.growth
    );
}

/// What is wrong with a turn.
fn judge(turn: &Turn) -> Vec<String> {
    let mut faults = Vec::new();
    if turn.sent != turn.traced {
        faults.push(format!("{}: {} sent and {} counted", turn.name, turn.sent, turn.traced));
    }
    let courses = turn.courses;
    for (what, growth, flat) in [
        ("memory (KiB)", courses.kib.growth, FLAT_KIB),
        ("open files", courses.files.growth, FLAT_COUNT),
        ("threads", courses.threads.growth, FLAT_COUNT),
    ] {
        if growth > flat {
            faults.push(format!("{}: {what} grew by {growth:.1}", turn.name));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::vitals::{Course, Courses};
    use super::*;

    #[test]
    fn a_turn_is_judged() {
        let flat = Course { first: 1.0, most: 1.0, growth: 0.0 };
        let courses = Courses { kib: flat, files: flat, threads: flat, samples: 9 };
        let turn = |sent, growth| Turn {
            name: "top",
            sent,
            traced: 5,
            courses: Courses { files: Course { growth, ..flat }, ..courses },
        };
        assert!(judge(&turn(5, 0.5)).is_empty());
        assert_eq!(judge(&turn(6, 0.0)), ["top: 6 sent and 5 counted"]);
        assert_eq!(judge(&turn(5, 7.0)), ["top: open files grew by 7.0"]);
    }

    #[test]
    fn minutes_are_a_number() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(minutes(&words(&[]), 20).unwrap(), 20);
        assert_eq!(minutes(&words(&["--minutes", "3"]), 20).unwrap(), 3);
        for wrong in [&["--minutes", "0"][..], &["--minutes"], &["3"], &["--minutes", "x"]] {
            assert!(minutes(&words(wrong), 20).is_err(), "{wrong:?}");
        }
    }
}
