//! `cargo xtask ci`: all that must pass before a merge. `.ci/run` runs exactly this.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::command::{self, cargo};
use crate::{bench, bpf, deny, dist, docs, matrix, test, tidy};

/// One step: its name and what it does at the root of the repository.
type Step = (&'static str, fn(&Path) -> Result<()>);

/// The steps, the quick ones first.
const STEPS: &[Step] = &[
    ("format", |root| command::run(cargo().current_dir(root).args(["fmt", "--all", "--check"]))),
    ("tidy", |root| tidy::run(root, &[])),
    ("bpf", |root| bpf::run(root, &["--check".into()])),
    ("clippy", |root| {
        command::run(cargo().current_dir(root).args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny=warnings",
        ]))
    }),
    ("test", |root| test::run(root, &[])),
    // After the tests, which build the program.
    ("docs", |root| docs::run(root, &["--check".into()])),
    ("rustdoc", |root| {
        let mut cargo = cargo();
        cargo.current_dir(root).args(["doc", "--workspace", "--no-deps", "--locked"]);
        command::run(cargo.env("RUSTDOCFLAGS", "--deny=warnings"))
    }),
    ("deny", |root| deny::run(root, &[])),
    ("bench", |root| bench::check(root)),
    ("matrix", matrix::check),
    // After the matrix, which builds the static program.
    ("dist", dist::check),
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("ci", arguments)?;
    let start = Instant::now();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let began = Instant::now();
        step(root).with_context(|| format!("step {name}"))?;
        println!("== {name}: passed in {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("== all {} steps passed in {:.1} s", STEPS.len(), start.elapsed().as_secs_f64());
    Ok(())
}
