//! `cargo xtask bench`: what whydrop costs, measured in one run on this machine.
//!
//! Whoever is compared is compared in the same run, turn by turn: a figure of another day or another
//! machine says nothing. All parts together write docs/benchmarks.md; a part that is named is only
//! printed. `--check` is the part that guards a merge: ratios alone, with wide margins.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

mod check;
mod connections;
mod cost;
mod curve;
mod document;
mod flood;
mod growth;
mod janitor;
mod load;
mod observers;
mod process;
mod start;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::Usage;
use crate::command::{self, cargo};
use crate::debian::{self, Tool};
use document::Findings;
use flood::Stage;

pub(crate) use check::run as check;
pub(crate) use connections::play as connections;
pub(crate) use flood::play as flood;

/// What the comparison needs beyond the Rust toolchain.
const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", purpose: "the namespaces of the flood" },
    Tool { program: "bpftrace", package: "bpftrace", purpose: "the comparison" },
    Tool { program: "perf", package: "linux-perf", purpose: "the comparison" },
    Tool { program: "setpriv", package: "util-linux", purpose: "an end with no process left" },
];

/// What is measured, and where.
struct Ground {
    program: PathBuf,
    stage: Stage,
}

impl Ground {
    fn new(program: PathBuf) -> Result<Self> {
        if !debian::is_root() {
            bail!("measuring needs root: it attaches BPF programs and makes network namespaces");
        }
        if let Some(tool) = debian::ensure(TOOLS)?.first() {
            bail!("{} is missing", tool.program);
        }
        Ok(Self { program, stage: Stage::build()? })
    }
}

/// A part: its name, and what measures it.
type Part = (&'static str, fn(&Ground, &mut Findings) -> Result<()>);

/// All parts, in the order of the document.
const PARTS: &[Part] = &[
    ("drops", cost::measure),
    ("start", start::measure),
    ("load", load::measure),
    ("namespaces", growth::namespaces),
    ("sockets", growth::sockets),
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--check") {
        if arguments.len() > 1 {
            return Err(Usage("`bench --check` takes nothing else".into()).into());
        }
        return check(root);
    }
    let known = |name: &String| PARTS.iter().any(|(part, _)| part == name);
    if let Some(unknown) = arguments.iter().find(|name| !known(name)) {
        let parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        let why = format!("`bench` has no part `{unknown}`, only {}", parts.join(", "));
        return Err(Usage(why).into());
    }
    command::run(cargo().current_dir(root).args(["build", "--release", "--package", "whydrop"]))?;
    let ground = Ground::new(root.join("target/release/whydrop"))?;
    let mut findings = Findings::default();
    let began = Instant::now();
    for (name, measure) in PARTS {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            println!("\n== {name}");
            measure(&ground, &mut findings)?;
        }
    }
    findings.print_targets();
    if arguments.is_empty() {
        findings.write(root)?;
    }
    println!("\n== measured in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Least, median and most; all zero of nothing.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(least), Some(middle), Some(most)) => (*least, *middle, *most),
        _ => (0.0, 0.0, 0.0),
    }
}

/// The middle one of the values.
fn median(values: &[f64]) -> f64 {
    spread(values).1
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(spread(&[]), (0.0, 0.0, 0.0));
    }
}
