//! Those who watch the flood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use whydrop_probe::{Baseline, RunStats, VMLINUX_BTF};

/// bpftrace's usual one-liner for drops by reason and call site.
const ONE_LINER: &str = "tracepoint:skb:kfree_skb { @[args->reason, args->location] = count(); }";

/// bpftrace reads the tracepoint's format; tracefs is mounted for it alone where it is not.
const WITH_TRACEFS: &str = "test -e /sys/kernel/tracing/events || \
     mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Empty,
    Whydrop,
    Filtered,
    Bpftrace,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nobody",
            Self::Empty => "empty tp_btf program",
            Self::Whydrop => "whydrop, exemplars and stacks on",
            Self::Filtered => "the same with a filter of two tests",
            Self::Bpftrace => "bpftrace count by reason and site",
        }
    }
}

/// A watcher at work.
pub(super) enum Observer {
    Nothing,
    Empty(Baseline),
    Process(Process),
}

/// Another program with BPF programs of its own; ended when dropped.
pub(super) struct Process {
    child: Child,
    ready: Option<PathBuf>,
}

impl Observer {
    /// Starts it and returns once it watches.
    pub(super) fn start(kind: Kind, program: &Path) -> Result<Self> {
        match kind {
            Kind::Nothing => Ok(Self::Nothing),
            Kind::Empty => Ok(Self::Empty(Baseline::attach(Path::new(VMLINUX_BTF))?)),
            Kind::Whydrop => whydrop(program, DIAGNOSE).map(Self::Process),
            Kind::Filtered => whydrop(program, WATCH_FILTERED).map(Self::Process),
            Kind::Bpftrace => bpftrace().map(Self::Process),
        }
    }

    /// What the kernel says of its programs' runs.
    pub(super) fn runs(&self) -> Result<RunStats> {
        match self {
            Self::Nothing => Ok(RunStats::default()),
            Self::Empty(baseline) => Ok(baseline.run_stats()?),
            Self::Process(process) => process_runs(process.child.id()),
        }
    }

    /// Ends it, and makes sure that it had not ended before.
    pub(super) fn stop(self) -> Result<()> {
        if let Self::Process(mut process) = self
            && let Some(status) = process.child.try_wait()?
        {
            bail!("the observer ended during the measurement: {status}");
        }
        Ok(())
    }
}

/// A diagnosis, which traces with exemplars and stacks.
const DIAGNOSE: &[&str] = &["diagnose", "--duration", "600"];

/// A watch that does the same with a filter, which accepts all of the flood.
const WATCH_FILTERED: &[&str] = &["watch", "--quick", "--stack", "udp port 9 and net 10.99.0.0/24"];

/// Starts the program, and returns once its window is open.
fn whydrop(program: &Path, arguments: &[&str]) -> Result<Process> {
    let ready = std::env::temp_dir().join(format!("whydrop-bench-{}-ready", std::process::id()));
    let _ = fs::remove_file(&ready);
    let child = Command::new(program)
        .arg(arguments[0])
        .arg("--ready-file")
        .arg(&ready)
        .args(&arguments[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut process = Process { child, ready: Some(ready.clone()) };
    wait(&mut process.child, "whydrop to open its window", || ready.exists())?;
    Ok(process)
}

fn bpftrace() -> Result<Process> {
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", "bpftrace", "-e", ONE_LINER])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting bpftrace")?;
    let mut process = Process { child, ready: None };
    let pid = process.child.id();
    // Its program is attached through a perf event, which is the last thing it opens.
    wait(&mut process.child, "bpftrace to attach", || {
        perf_events(pid) && process_runs(pid).is_ok_and(|_| !programs(pid).is_empty())
    })?;
    Ok(process)
}

fn wait(child: &mut Child, what: &str, done: impl Fn() -> bool) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(30);
    while !done() {
        if let Some(status) = child.try_wait()? {
            bail!("it ended while we waited for {what}: {status}");
        }
        if Instant::now() > limit {
            bail!("waited 30 s for {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn perf_events(pid: u32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_string_lossy().contains("perf_event"))
}

/// The descriptions of the BPF programs that a process holds.
fn programs(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter(|text| text.contains("prog_type:"))
        .collect()
}

/// `BPF_PROG_TYPE_TRACING` (`include/uapi/linux/bpf.h`): a `tp_btf` program.
const TRACING: u64 = 26;

/// Runs of a process's programs: of its `tp_btf` program if it has one (whydrop's drop tracer; its
/// others sit on other tracepoints), else of all. A program held by two descriptors counts once.
fn process_runs(pid: u32) -> Result<RunStats> {
    let mut seen = Vec::new();
    let mut sum = RunStats::default();
    let mut all = programs(pid);
    let is_tracing = |text: &String| {
        let line = text.lines().find_map(|line| line.strip_prefix("prog_type:"));
        line.and_then(|kind| kind.trim().parse().ok()) == Some(TRACING)
    };
    if all.iter().any(is_tracing) {
        all.retain(is_tracing);
    }
    for text in all {
        let value = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        if seen.contains(&value("prog_id")) {
            continue;
        }
        seen.push(value("prog_id"));
        sum.run_time_ns += value("run_time_ns");
        sum.run_count += value("run_cnt");
        sum.recursion_misses += value("recursion_misses");
    }
    if seen.is_empty() {
        bail!("process {pid} holds no BPF program");
    }
    Ok(sum)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(ready) = &self.ready {
            let _ = fs::remove_file(ready);
        }
    }
}
