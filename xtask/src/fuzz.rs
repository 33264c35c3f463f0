//! `cargo xtask fuzz`: lets libFuzzer look for inputs that break what reads bytes of others' making.
//!
//! The coverage that guides it comes from flags that the stable compiler takes; there is no sanitizer,
//! because almost nothing of ours is unsafe. Targets are the files of `fuzz/targets`, each one line
//! that calls the `fuzz` module of a crate. What a target has learnt stays in `target/fuzz/corpus`;
//! what everybody starts from, and what tests replay, is `fuzz/corpus`.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::Usage;
use crate::command::{self, cargo};
use crate::debian::{self, Tool};

const TOOLS: &[Tool] =
    &[Tool { program: "c++", package: "g++", purpose: "libFuzzer, which is C++" }];

/// Where the compiler counts: every edge, and both sides of comparisons.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Seconds for each target if nothing else is said.
const USUAL: u64 = 600;
/// Seconds after which one input is a finding, and MiB.
const LIMITS: &[&str] = &["-timeout=10", "-rss_limit_mb=2048"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    targets: Vec<String>,
    seconds: u64,
    minimise: bool,
}

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let known = targets(root)?;
    let call = call(arguments, &known)?;
    if let Some(tool) = debian::ensure(TOOLS)?.first() {
        bail!("{} is missing", tool.program);
    }
    let programs = build(root, &call.targets)?;
    let mut findings = Vec::new();
    for target in &call.targets {
        let place = Place::new(root, &programs, target)?;
        if call.minimise {
            place.minimise()?;
        } else if !place.fuzz(call.seconds)? {
            findings.push(place.found.display().to_string());
        }
    }
    if !findings.is_empty() {
        bail!(
            "findings in {}: repair what they show, and keep each input as fuzz/corpus/TARGET/found-WHAT",
            findings.join(", ")
        );
    }
    Ok(())
}

/// The targets there are.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let names = files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

fn call(arguments: &[String], known: &[String]) -> Result<Call> {
    let mut call = Call { targets: Vec::new(), seconds: USUAL, minimise: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minimise" => call.minimise = true,
            "--seconds" => {
                let seconds = words.next().and_then(|number| number.parse().ok());
                // libFuzzer takes 0 for "without end".
                let seconds = seconds.filter(|seconds| *seconds > 0);
                call.seconds = seconds.ok_or_else(|| Usage("`--seconds` needs a number".into()))?;
            }
            target if known.iter().any(|one| one == target) => call.targets.push(target.into()),
            other => {
                let known = known.join(", ");
                return Err(
                    Usage(format!("no target is called `{other}`: there are {known}")).into()
                );
            }
        }
    }
    if call.targets.is_empty() {
        call.targets = known.to_vec();
    }
    Ok(call)
}

/// Builds the targets; gives the folder with their programs.
fn build(root: &Path, targets: &[String]) -> Result<PathBuf> {
    // The dependencies of the product, as locked for it; cargo adds libFuzzer.
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock")).context("fuzz/Cargo.lock")?;
    let about = command::output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV")?;
    let mut build = cargo();
    build.current_dir(root).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    // With a target named, the flags are not for build scripts and macros.
    build.args(["build", "--release", "--manifest-path=fuzz/Cargo.toml"]);
    build.args(["--target-dir=target/fuzz", "--target", host]);
    for target in targets {
        build.args(["--bin", target]);
    }
    command::run(&mut build)?;
    Ok(root.join("target/fuzz").join(host).join("release"))
}

/// What belongs to a target.
struct Place {
    name: String,
    program: PathBuf,
    /// In the repository.
    seeds: PathBuf,
    /// What was learnt here.
    corpus: PathBuf,
    /// Inputs that are findings.
    found: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(root: &Path, programs: &Path, name: &str) -> Result<Self> {
        let ours = root.join("target/fuzz");
        let place = Self {
            name: name.to_owned(),
            program: programs.join(name),
            seeds: root.join("fuzz/corpus").join(name),
            corpus: ours.join("corpus").join(name),
            found: ours.join("found").join(name),
            log: ours.join(format!("{name}.log")),
        };
        for folder in [&place.seeds, &place.corpus, &place.found] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(place)
    }

    /// Runs libFuzzer with its output in the log; false if it failed.
    fn libfuzzer(&self, arguments: &[OsString]) -> Result<bool> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut program = Command::new(&self.program);
        program.args(arguments).args(LIMITS).stdout(log.try_clone()?).stderr(log);
        Ok(program.status().with_context(|| self.program.display().to_string())?.success())
    }

    /// Fuzzes; false if something was found.
    fn fuzz(&self, seconds: u64) -> Result<bool> {
        println!("{}: {seconds} s; its output is in {}", self.name, self.log.display());
        let mut artifacts = OsString::from("-artifact_prefix=");
        artifacts.push(&self.found);
        artifacts.push("/");
        let clean = self.libfuzzer(&[
            self.corpus.clone().into(),
            self.seeds.clone().into(),
            format!("-max_total_time={seconds}").into(),
            "-print_final_stats=1".into(),
            artifacts,
        ])?;
        let log = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        let (executions, edges) = figures(&String::from_utf8_lossy(&log));
        let what = if clean { "no finding" } else { "A FINDING" };
        println!("{}: {executions} executions, {edges} edges covered, {what}", self.name);
        Ok(clean)
    }

    /// Puts into the repository the inputs that cover all that is covered, the short ones first, in
    /// place of those that are there. Findings of the past stay.
    fn minimise(&self) -> Result<()> {
        let least = self.corpus.with_extension("least");
        if least.exists() {
            fs::remove_dir_all(&least)?;
        }
        fs::create_dir_all(&least)?;
        let merged = self.libfuzzer(&[
            "-set_cover_merge=1".into(),
            least.clone().into(),
            self.seeds.clone().into(),
            self.corpus.clone().into(),
        ])?;
        if !merged {
            bail!("{} could not be minimised: see {}", self.name, self.log.display());
        }
        for file in files(&self.seeds)? {
            if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("found-")) {
                fs::remove_file(file)?;
            }
        }
        let (mut count, mut bytes) = (0, 0);
        for file in files(&least)? {
            let name = file.file_name().context("a file without a name")?;
            bytes += fs::copy(&file, self.seeds.join(name))?;
            count += 1;
        }
        println!("{}: {count} inputs of {bytes} bytes", self.name);
        Ok(())
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Executions and edges covered, from libFuzzer's output; 0 for what it does not tell.
fn figures(log: &str) -> (u64, u64) {
    let words: Vec<&str> = log.split_whitespace().collect();
    let after = |name: &str| {
        let found = words.windows(2).rev().find(|pair| pair[0] == name);
        found.and_then(|pair| pair[1].parse().ok()).unwrap_or(0)
    };
    (after("stat::number_of_executed_units:"), after("cov:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_name_targets_that_are_there() {
        let known = ["filter".to_owned(), "proc".to_owned()];
        let said = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            call(&words, &known)
        };
        let all = said(&["--seconds", "5"]).unwrap();
        assert_eq!((all.targets.len(), all.seconds, all.minimise), (2, 5, false));
        assert_eq!(said(&["proc"]).unwrap().targets, ["proc"]);
        for wrong in [&["porc"][..], &["--seconds"], &["--seconds", "0"], &["--seconds", "x"]] {
            assert!(said(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }

    #[test]
    fn figures_are_the_last_ones() {
        let log = "#2\tINITED cov: 10 ft: 11\n#9 NEW    cov: 12 ft: 20 corp: 3\nDone 9 runs\n\
                   stat::number_of_executed_units: 9\nstat::peak_rss_mb: 30\n";
        assert_eq!(figures(log), (9, 12));
        assert_eq!(figures("crashed"), (0, 0));
    }

    #[test]
    fn every_target_is_a_program_of_the_fuzz_crate_and_has_a_corpus() {
        let root = crate::repository();
        let manifest: toml::Table =
            fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap().parse().unwrap();
        let programs = manifest["bin"].as_array().unwrap().iter();
        let mut programs: Vec<_> = programs.map(|bin| bin["name"].as_str().unwrap()).collect();
        programs.sort_unstable();
        assert_eq!(targets(&root).unwrap(), programs);
        for target in programs {
            assert!(!files(&root.join("fuzz/corpus").join(target)).unwrap().is_empty(), "{target}");
        }
    }
}
