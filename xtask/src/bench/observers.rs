//! Those who watch the flood.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use whydrop_probe::{Baseline, RunStats, VMLINUX_BTF};

use super::process::{Process, Ready};
use crate::command;

/// What people type to count drops: by reason and call site.
pub(super) const COUNT: &str =
    "tracepoint:skb:kfree_skb { @[args->reason, args->location] = count(); }";

/// What people type to see drops.
pub(super) const PRINT: &str = "tracepoint:skb:kfree_skb \
     { printf(\"%s %d %s\\n\", comm, args->reason, ksym(args->location)); }";

/// bpftrace and perf read the tracepoint's format; tracefs is mounted for them alone where it is not.
const WITH_TRACEFS: &str = "test -e /sys/kernel/tracing/events || \
     mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";

/// As in `include/uapi/asm-generic/fcntl.h`.
const O_NONBLOCK: i32 = 0o4000;

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Nobody,
    Empty,
    Totals,
    Exemplars,
    Stacks,
    Filtered,
    Count,
    Print,
    Perf,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Empty,
        Self::Totals,
        Self::Exemplars,
        Self::Stacks,
        Self::Filtered,
        Self::Count,
        Self::Print,
        Self::Perf,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Empty => "an empty `tp_btf` program",
            Self::Totals => "whydrop, totals only (`watch --count`)",
            Self::Exemplars => "whydrop, with exemplars (`watch`)",
            Self::Stacks => "whydrop, with exemplars and stacks (`diagnose`)",
            Self::Filtered => "whydrop, with exemplars and a filter of two tests",
            Self::Count => "bpftrace, counting",
            Self::Print => "bpftrace, printing",
            Self::Perf => "`perf record -e skb:kfree_skb`",
        }
    }

    /// The arguments of whydrop; `None` for others.
    fn arguments(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Totals => &["watch", "--quick", "--count"],
            Self::Exemplars => &["watch", "--quick"],
            Self::Stacks => &["diagnose", "--duration", "600"],
            // Accepts all of the flood, so that as much is counted as without it.
            Self::Filtered => &["watch", "--quick", "udp port 9 and net 10.99.0.0/24"],
            _ => return None,
        })
    }
}

/// A watcher at work.
pub(super) enum Observer {
    Nobody,
    Empty(Baseline),
    Process(Process),
}

impl Observer {
    /// Starts it and returns once it watches.
    pub(super) fn start(kind: Kind, program: &Path) -> Result<Self> {
        if let Some(arguments) = kind.arguments() {
            return whydrop(program, arguments).map(Self::Process);
        }
        match kind {
            Kind::Empty => Ok(Self::Empty(Baseline::attach(Path::new(VMLINUX_BTF))?)),
            Kind::Count => bpftrace(COUNT).map(Self::Process),
            Kind::Print => bpftrace(PRINT).map(Self::Process),
            Kind::Perf => perf().map(Self::Process),
            _ => Ok(Self::Nobody),
        }
    }

    /// What the kernel says of its programs' runs; `None` if it has no programs.
    pub(super) fn runs(&self) -> Result<Option<RunStats>> {
        match self {
            Self::Nobody => Ok(None),
            Self::Empty(baseline) => Ok(Some(baseline.run_stats()?)),
            Self::Process(process) => Ok(process_runs(process.id())),
        }
    }

    /// CPU time of its process so far, in seconds.
    pub(super) fn cpu(&self) -> Result<f64> {
        if let Self::Process(process) = self { process.cpu() } else { Ok(0.0) }
    }

    /// Ends it, and makes sure that it had not ended before.
    pub(super) fn stop(self) -> Result<()> {
        if let Self::Process(mut process) = self {
            process.must_run("the measurement was over")?;
        }
        Ok(())
    }
}

/// Starts the program, and returns once its window is open.
pub(super) fn whydrop(program: &Path, arguments: &[&str]) -> Result<Process> {
    let ready = Ready::new();
    let mut all = vec![arguments[0], "--ready-file", ready.path()];
    all.extend(&arguments[1..]);
    let start = if arguments[0] == "top" { Process::start_on_terminal } else { Process::start };
    let mut process = start(program, &all)?;
    process.wait_until("whydrop opened its window", || ready.is_there())?;
    Ok(process)
}

fn with_tracefs(arguments: &[&str]) -> Result<Process> {
    let mut all = vec!["--mount", "sh", "-c", WITH_TRACEFS, "sh"];
    all.extend(arguments);
    Process::start(Path::new("unshare"), &all)
}

fn bpftrace(line: &str) -> Result<Process> {
    let mut process = with_tracefs(&["bpftrace", "-e", line])?;
    let pid = process.id();
    // Its program is attached through a perf event, which is the last thing it opens: after those
    // that tell it of output, one for each CPU.
    process.wait_until("bpftrace attached", || {
        perf_events(pid) > cpus() && process_runs(pid).is_some()
    })?;
    Ok(process)
}

/// Two pipes with names; gone when dropped.
struct Pipes(PathBuf);

impl Drop for Pipes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// perf goes through all processes before it looks at events, so it is asked when it does.
fn perf() -> Result<Process> {
    let folder = std::env::temp_dir().join(format!("whydrop-bench-{}-perf", std::process::id()));
    let pipes = Pipes(folder);
    fs::create_dir_all(&pipes.0)?;
    let [orders, answers] = ["orders", "answers"].map(|name| pipes.0.join(name));
    command::output(Command::new("mkfifo").arg(&orders).arg(&answers))?;
    let control = format!("--control=fifo:{},{}", orders.display(), answers.display());
    let mut process = with_tracefs(&[
        "perf",
        "record",
        "-e",
        "skb:kfree_skb",
        "--all-cpus",
        "--delay=-1",
        &control,
        "--output=/dev/null",
    ])?;
    // Opened for both directions, so that neither end waits for the other.
    let open =
        |path: &Path| OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path);
    let answer = open(&answers).context("the answers of perf")?;
    let mut order = open(&orders).context("the orders for perf")?;
    order.write_all(b"enable\n")?;
    process.wait_until("perf answered", || {
        let mut text = [0; 4];
        (&answer).read_exact(&mut text).is_ok() && &text == b"ack\n"
    })?;
    Ok(process)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn perf_events(pid: u32) -> usize {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|target| target.to_string_lossy().contains("perf_event"))
        .count()
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
pub(super) fn process_runs(pid: u32) -> Option<RunStats> {
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
    (!seen.is_empty()).then_some(sum)
}
