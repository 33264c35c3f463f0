//! CPU and memory while whydrop runs: at rest and at rates of drops.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

use super::Ground;
use super::document::{Findings, Table};
use super::observers::{process_runs, whydrop};
use super::process::Process;

/// How long at rest: a tenth of a percent of it is sixty milliseconds.
const REST: Duration = Duration::from_secs(60);
/// How long at a rate.
const LENGTH: Duration = Duration::from_secs(5);
/// Drops per second.
const RATES: [u64; 2] = [1_000, 500_000];
/// After the start, so that this is not part of it.
const SETTLE: Duration = Duration::from_secs(1);
/// After the start until what is left is rest: `top` reads everything anew until a second without loss
/// is behind it, and the host counts as at rest after three.
const CALM: Duration = Duration::from_secs(10);
/// Part of a CPU that is wanted at most at rest, in percent.
const IDLE: f64 = 0.1;

/// The commands that people leave running.
const COMMANDS: [(&str, &[&str]); 4] = [
    ("`diagnose`", &["diagnose", "--duration", "600"]),
    ("`watch`", &["watch"]),
    ("`watch --quick --count`", &["watch", "--quick", "--count"]),
    ("`top`", &["top"]),
];

/// A command at work, and what was measured of it.
struct Running {
    name: &'static str,
    process: Process,
}

/// What a process and its programs took since an earlier moment, as parts of one CPU.
struct Taken {
    process: f64,
    program: f64,
}

/// A moment from which is counted.
struct Since {
    cpu: f64,
    programs: f64,
    at: Instant,
}

impl Running {
    fn start(ground: &Ground, name: &'static str, arguments: &[&str]) -> Result<Self> {
        Ok(Self { name, process: whydrop(&ground.program, arguments)? })
    }

    fn now(&self) -> Result<Since> {
        let runs = process_runs(self.process.id()).unwrap_or_default();
        let programs = runs.run_time_ns as f64 / 1e9;
        Ok(Since { cpu: self.process.cpu()?, programs, at: Instant::now() })
    }

    fn taken(&self, since: &Since) -> Result<Taken> {
        let now = self.now()?;
        let seconds = (now.at - since.at).as_secs_f64();
        let part = |time: f64| time / seconds * 100.0;
        let [process, program] = [now.cpu - since.cpu, now.programs - since.programs].map(part);
        Ok(Taken { process, program })
    }

    /// A row of the table: what was taken at so many drops per second.
    fn row(&mut self, rate: f64, taken: &Taken) -> Result<Vec<String>> {
        self.process.must_run("the load was over")?;
        let memory = |what| format!("{:.1}", self.process.memory(what).unwrap_or(0.0));
        Ok(vec![
            self.name.to_owned(),
            format!("{rate:.0}"),
            format!("{:.3} %", taken.process),
            format!("{:.3} %", taken.program),
            memory("VmRSS"),
            memory("VmHWM"),
        ])
    }
}

/// Packets that the CPUs took in so far.
fn arrived() -> Result<u64> {
    let rows = fs::read_to_string("/proc/net/softnet_stat").context("reading softnet_stat")?;
    let first = |row: &str| u64::from_str_radix(row.split(' ').next().unwrap_or_default(), 16);
    rows.lines().map(first).sum::<Result<u64, _>>().context("softnet_stat is not understood")
}

/// Measures.
pub(super) fn measure(ground: &Ground, findings: &mut Findings) -> Result<()> {
    let _account = enable_stats(Stats::RunTime).context("the kernel keeps no account")?;
    println!("at rest");
    let start = |(name, arguments)| Running::start(ground, name, arguments);
    let mut all: Vec<Running> = COMMANDS.into_iter().map(start).collect::<Result<_>>()?;
    thread::sleep(CALM);
    let came = arrived()?;
    let since: Vec<Since> = all.iter().map(Running::now).collect::<Result<_>>()?;
    thread::sleep(REST);
    let taken = all.iter().zip(&since).map(|(running, since)| running.taken(since));
    let taken: Vec<Taken> = taken.collect::<Result<_>>()?;
    let came = arrived()? - came;
    let mut table = Table::new(
        "CPU and memory at rest and at work",
        format!(
            "*Process* is the CPU time of the program in user space and of what the kernel does for \
             it, *program* that of the BPF program by the kernel's account, both as a part of one \
             CPU. At rest over {} s, from {} s after the start: nothing of this benchmark is sent or \
             dropped. What else went on on the machine is in the figures: {came} packets came in.",
            REST.as_secs(),
            CALM.as_secs()
        ),
        &["", "drops/s", "process, CPU", "program, CPU", "resident, MiB", "at most, MiB"],
    );
    for (running, taken) in all.iter_mut().zip(&taken) {
        table.row(running.row(0.0, taken)?);
    }
    // At a rate each is alone, or it would be slowed down by the others.
    drop(all);
    for command in COMMANDS {
        for rate in RATES {
            println!("{} at {rate} drops per second", command.0);
            let mut running = start(command)?;
            thread::sleep(SETTLE);
            let since = running.now()?;
            let sent = ground.stage.flood(LENGTH, Some(rate))?;
            let taken = running.taken(&since)?;
            table.row(running.row(sent.per_second(), &taken)?);
        }
    }
    findings.add(table);
    for ((name, _), taken) in COMMANDS.iter().zip(&taken) {
        findings.target(
            &format!("CPU at rest, {name}"),
            &format!("under {IDLE} % of one"),
            format!("{:.3} %", taken.process),
            taken.process < IDLE,
        );
    }
    Ok(())
}
