//! How long `diagnose` takes to start and to end, and how much memory it takes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Length of the window measured.
const WINDOW: Duration = Duration::from_secs(1);
/// Runs; the table shows the least, the median and the most.
const RUNS: usize = 7;

/// Measures and prints.
pub(super) fn measure(program: &Path) -> Result<()> {
    let (mut start, mut overtime, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let one = once(program)?;
        start.push(one.start.as_secs_f64() * 1000.0);
        overtime.push(one.overtime.as_secs_f64() * 1000.0);
        memory.push(one.peak_kib / 1024.0);
    }
    println!("\n`whydrop diagnose` ({RUNS} runs)");
    println!("{:<34} {:>9} {:>9} {:>9}", "", "least", "median", "most");
    for (name, values) in [
        ("from start to window open, ms", &mut start),
        ("beyond its duration, whole run, ms", &mut overtime),
        ("peak memory, MiB", &mut memory),
    ] {
        let (least, middle, most) = super::spread(values);
        println!("{name:<34} {least:>9.1} {middle:>9.1} {most:>9.1}");
    }
    Ok(())
}

struct Once {
    start: Duration,
    overtime: Duration,
    peak_kib: f64,
}

fn once(program: &Path) -> Result<Once> {
    let ready = std::env::temp_dir().join(format!("whydrop-limits-{}", std::process::id()));
    let _ = fs::remove_file(&ready);
    let seconds = WINDOW.as_secs_f64().to_string();
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["diagnose", "--duration", &seconds, "--ready-file"])
        .arg(&ready)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut start = None;
    let mut peak_kib = 0.0_f64;
    while child.try_wait()?.is_none() {
        if start.is_none() && ready.exists() {
            start = Some(began.elapsed());
        }
        peak_kib = peak_kib.max(peak(child.id()).unwrap_or(0.0));
        thread::sleep(Duration::from_millis(1));
    }
    let overtime = began.elapsed().saturating_sub(WINDOW);
    let _ = fs::remove_file(&ready);
    Ok(Once { start: start.context("its window never opened")?, overtime, peak_kib })
}

/// Peak resident memory so far, in KiB.
fn peak(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
