//! `cargo xtask matrix`: whydrop on Debian's own kernels, each booted in qemu by software emulation,
//! and on the host's.
//!
//! Every kernel is asked the same [questions](matrix/questions.sh). docs/compatibility.md tells what
//! they answered. Nothing here knows what a kernel should be able to do: what is wrong is wrong.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

mod answers;
mod kernels;
mod loads;
mod page;
mod visit;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command::{self, cargo};
use crate::debian::{self, Tool};
use crate::dist;
use answers::{Answers, Played};
use kernels::{LINES, Line};

/// What it needs beyond the Rust toolchain.
const TOOLS: &[Tool] = &[
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "booting kernels" },
    Tool { program: "busybox", package: "busybox-static", purpose: "the guest" },
    Tool { program: "dash", package: "dash", purpose: "the guest" },
    Tool { program: "cpio", package: "cpio", purpose: "the guest's file system" },
    Tool { program: "depmod", package: "kmod", purpose: "the guest's modules" },
    Tool { program: "strace", package: "strace", purpose: "what loading a program takes" },
    Tool { program: "ip", package: "iproute2", purpose: "the lab" },
    Tool { program: "nft", package: "nftables", purpose: "the lab" },
];

/// The kernel that runs here, as on the command line.
const HOST: &str = "host";
/// Scenarios for every way to attach: dropped by the protocol, and by a rule.
const BRIEF: &[&str] = &["udp-port-closed", "netfilter-input-rule"];
/// Scenarios for the way that the program chooses itself.
const LONG: &[&str] = &[
    "accept-queue-app-backlog",
    "udp-receive-buffer-stopped",
    "ttl-expired",
    "blackhole-route",
    "reverse-path-strict",
    "qdisc-limit-tbf",
    "neighbour-unreachable",
    "wrong-destination-mac",
    "tc-filter-ingress",
    "healthy-udp-request",
];
/// What cannot come out right: line of kernels, scenario and why.
const EXPLAINED: &[(&str, &str, &str)] = &[(
    "5.10",
    "wrong-destination-mac",
    "the cause is told, but the scenario counts its frames by rx_otherhost, which Linux has since 6.0",
)];
/// The kernels that every change is tried on.
const ALWAYS: [&str; 2] = ["6.1", "6.12"];
/// Guests at a time: each has two CPUs, and waits much of its time.
const SIDE_BY_SIDE: usize = 2;

/// What became of one kernel.
struct Row {
    name: &'static str,
    outcome: Outcome,
}

enum Outcome {
    Answered(Answers),
    /// It could not be tried: nothing is known of it, so nothing is wrong.
    NotRun(String),
    /// It was tried and gave no answers.
    Failed(String),
}

/// Runs the task: all kernels, or those that are named. The page is written when every kernel has
/// answered, now or in an earlier run.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let known: Vec<_> = LINES.iter().map(|line| line.name).chain([HOST]).collect();
    if let Some(unknown) = arguments.iter().find(|name| !known.contains(&name.as_str())) {
        let why = format!("no kernel `{unknown}` in the matrix, only {}", known.join(", "));
        return Err(crate::Usage(why).into());
    }
    if let Some(tool) = debian::ensure(TOOLS)?.first() {
        bail!("{} is missing", tool.program);
    }
    let asked = |name: &str| arguments.is_empty() || arguments.iter().any(|it| it == name);
    let rows = visit_all(root, &asked)?;
    let judged = judge(&rows);
    let earlier = known.into_iter().filter(|name| !asked(name)).map(|name| earlier(root, name));
    let Some(earlier) = earlier.collect::<Option<Vec<Row>>>() else {
        println!("docs/compatibility.md stays as it is: not all other kernels were run earlier");
        return judged;
    };
    let mut rows: Vec<Row> = rows.into_iter().chain(earlier).collect();
    rows.sort_by_cached_key(|row| kernels::numbers(row.release()));
    let page = root.join("docs/compatibility.md");
    fs::write(&page, page::write(&rows, &collectors(root)?))
        .with_context(|| page.display().to_string())?;
    judged
}

/// What a kernel answered when it was last run here.
fn earlier(root: &Path, name: &'static str) -> Option<Row> {
    let heard = visit::earlier(&root.join("target/matrix").join(name)).ok()?;
    Some(Row { name, outcome: outcome(Ok(heard)) })
}

/// A step of `cargo xtask ci`: facts on two kernels, and no times. Without qemu or the kernels, nothing
/// can be said.
pub(crate) fn check(root: &Path) -> Result<()> {
    let unable = match debian::ensure(TOOLS) {
        Ok(missing) => missing.first().map(|tool| format!("{} is missing", tool.program)),
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(why) = unable {
        println!("NOT RUN, so nothing is known of other kernels: {why}");
        return Ok(());
    }
    judge(&visit_all(root, &|name| ALWAYS.contains(&name))?)
}

/// Visits those kernels that are asked for, in the order of their releases.
fn visit_all(root: &Path, asked: &dyn Fn(&str) -> bool) -> Result<Vec<Row>> {
    let program = program(root)?;
    let cache = root.join("target/matrix");
    let waiting: Vec<&Line> = LINES.iter().filter(|line| asked(line.name)).rev().collect();
    let waiting = Mutex::new(waiting);
    let rows = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let done = |row| rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(line) = next() {
                    let outcome = visit_line(line, &program, &cache.join(line.name));
                    done(Row { name: line.name, outcome });
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Not beside the guests: here times are told.
    if asked(HOST) {
        rows.push(Row { name: HOST, outcome: visit_host(&program, &cache.join(HOST)) });
    }
    rows.sort_by_cached_key(|row| kernels::numbers(row.release()));
    Ok(rows)
}

/// The program as it is delivered: static, unless this toolchain cannot build that.
fn program(root: &Path) -> Result<PathBuf> {
    if dist::can_build(root) {
        return dist::build(root);
    }
    println!("this toolchain cannot build a static program: a dynamic one it is");
    command::run(cargo().current_dir(root).args(dist::RELEASE))?;
    Ok(root.join("target/release/whydrop"))
}

fn visit_line(line: &Line, program: &Path, folder: &Path) -> Outcome {
    match kernels::fetch(line, folder) {
        Ok(kernel) => outcome(visit::guest(line.name, &kernel, program, folder)),
        Err(error) => {
            println!("{}: {error:#}", line.name);
            // The causes have paths of this machine.
            Outcome::NotRun(error.to_string())
        }
    }
}

fn visit_host(program: &Path, folder: &Path) -> Outcome {
    if debian::is_root() {
        outcome(visit::host(program, folder))
    } else {
        Outcome::NotRun("attaching needs root, which the task did not have".to_owned())
    }
}

fn outcome(heard: Result<String>) -> Outcome {
    match heard.and_then(|heard| Answers::read(&heard)) {
        Ok(answers) => Outcome::Answered(answers),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// Tells what came of each, and fails if something is wrong.
fn judge(rows: &[Row]) -> Result<()> {
    let mut wrong = Vec::new();
    for row in rows {
        match &row.outcome {
            Outcome::Answered(answers) => println!("{}: {}", row.name, answers.summary()),
            Outcome::NotRun(why) => {
                println!("{}: NOT RUN, so nothing is known of it: {why}", row.name);
            }
            Outcome::Failed(why) => println!("{}: FAILED: {why}", row.name),
        }
        for fault in row.faults() {
            println!("  {fault}");
            wrong.push(row.name);
        }
    }
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(());
    }
    let heard = "what they said is in target/matrix, in a folder for each";
    Err(anyhow!("not all is right on {}; {heard}", wrong.join(", ")))
}

/// What each collector reads, in its own words.
fn collectors(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("crates/whydrop-collect/src/collectors");
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let file = entry?.path();
        let text = fs::read_to_string(&file)?;
        let what = text.split_once(" what: \"").and_then(|(_, rest)| rest.split('"').next());
        let name = file.file_stem().unwrap_or_default().display().to_string();
        all.push(what.with_context(|| format!("collector {name} does not say what"))?.to_owned());
    }
    all.sort();
    Ok(all)
}

impl Row {
    /// The release as far as it is known.
    fn release(&self) -> &str {
        match &self.outcome {
            Outcome::Answered(answers) => &answers.release,
            _ => self.name,
        }
    }

    /// The release as the page tells it: what follows the numbers of a host's own build says nothing to
    /// others.
    fn told_release(&self) -> &str {
        let release = self.release();
        if self.name == HOST { release.split('-').next().unwrap_or(release) } else { release }
    }

    /// The line of kernels: two numbers.
    fn line(&self) -> String {
        let numbers = kernels::numbers(self.release());
        let numbers: Vec<_> = numbers.iter().take(2).map(ToString::to_string).collect();
        match self.name {
            HOST if numbers.is_empty() => HOST.to_owned(),
            HOST => format!("{} (host)", numbers.join(".")),
            _ => numbers.join("."),
        }
    }

    /// Why a scenario that came out wrong could not come out right.
    fn explained(&self, played: &Played) -> Option<&'static str> {
        let known = |it: &&(&str, &str, &str)| it.0 == self.name && it.1 == played.name;
        EXPLAINED.iter().find(known).filter(|_| !played.wrong.is_empty()).map(|it| it.2)
    }

    fn faults(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Answered(answers) => answers.faults(&|one| self.explained(one).is_some()),
            Outcome::NotRun(_) => Vec::new(),
            Outcome::Failed(why) => vec![why.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HOST, Outcome, Row, answers, collectors, judge, outcome};

    #[test]
    fn what_was_not_run_is_not_wrong_and_what_failed_is() {
        let row = |outcome| Row { name: HOST, outcome };
        assert!(judge(&[row(Outcome::NotRun("no network".to_owned()))]).is_ok());
        assert!(judge(&[row(Outcome::Failed("it died".to_owned()))]).is_err());
        let answered = |pass| row(outcome(Ok(answers::tests::heard(pass))));
        assert!(judge(&[answered(true)]).is_ok());
        let error = judge(&[answered(false)]).unwrap_err().to_string();
        assert!(error.starts_with("not all is right on host;"), "{error}");
        assert_eq!(answered(true).line(), "6.1 (host)");
    }

    #[test]
    fn every_collector_says_what_it_reads() {
        let all = collectors(&crate::repository()).unwrap();
        assert!(all.contains(&"routes".to_owned()), "{all:?}");
    }
}
