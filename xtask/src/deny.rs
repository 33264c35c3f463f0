//! `cargo xtask deny`: what comes in from outside, held against deny.toml by cargo-deny.
//!
//! Licences, sources and bans are decided on this machine. Advisories need the database of RustSec:
//! where that cannot be fetched they are reported as not checked, which is no failure of this tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::command::{self, cargo};

/// The release that this repository is checked with.
const VERSION: &str = "0.20.2";

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("deny", arguments)?;
    let program = program(root)?;
    let deny = |words: &[&str]| {
        let mut command = Command::new(&program);
        // It reads `cargo metadata` of the tree it is started in.
        command.current_dir(root).args(["--locked"]).args(words);
        command
    };
    command::run(&mut deny(&["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    let fetched = deny(&["fetch", "db"]).stdin(Stdio::null()).output().context("cargo-deny")?;
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        let why = why.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason");
        println!("advisories: not checked, because their database cannot be fetched: {why}");
        return Ok(());
    }
    command::run(&mut deny(&["check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]))
}

/// cargo-deny: the one that is installed, or one of our own below `target`, built once.
fn program(root: &Path) -> Result<PathBuf> {
    let works = |program: &Path| {
        let quiet = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let own = root.join("target/tools");
    for program in [PathBuf::from("cargo-deny"), own.join("bin/cargo-deny")] {
        if works(&program) {
            return Ok(program);
        }
    }
    println!("cargo-deny is missing: building {VERSION} in {} (90 s of CPU time)", own.display());
    command::run(
        cargo()
            .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--quiet"])
            .arg("--root")
            .arg(&own)
            .arg("--target-dir")
            .arg(own.join("build")),
    )?;
    // Only the program is needed again.
    let _ = std::fs::remove_dir_all(own.join("build"));
    Ok(own.join("bin/cargo-deny"))
}
