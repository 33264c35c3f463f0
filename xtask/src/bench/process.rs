//! What a process takes, from `/proc`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Of a terminal that nobody looks at.
const SCREEN: Winsize = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

/// Another program, ended when dropped, and by the kernel when this one ends.
pub(super) struct Process(Child);

impl Process {
    /// Starts it with its output going nowhere.
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_with(program, arguments, || Ok(Stdio::null()))
    }

    /// Starts it on a terminal, where nobody looks at what it draws.
    pub(super) fn start_on_terminal(program: &Path, arguments: &[&str]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let mut screen = File::from(openpt(flags).context("a pseudo-terminal")?);
        unlockpt(&screen).context("a pseudo-terminal")?;
        let path = PathBuf::from(OsString::from_vec(ptsname(&screen, Vec::new())?.into_bytes()));
        tcsetwinsize(&screen, SCREEN).context("the size of a pseudo-terminal")?;
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open(path)?;
        let process = Self::start_with(program, arguments, || Ok(terminal.try_clone()?.into()))?;
        // Ends once the program has closed the terminal.
        thread::spawn(move || io::copy(&mut screen, &mut io::sink()));
        Ok(process)
    }

    fn start_with(
        program: &Path,
        arguments: &[&str],
        stream: impl Fn() -> Result<Stdio>,
    ) -> Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(stream()?)
            .stdout(stream()?)
            .stderr(stream()?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self(child))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `done` says so; an end before that is an error.
    pub(super) fn wait_until(&mut self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(60);
        while !done() {
            self.must_run(what)?;
            if Instant::now() > limit {
                bail!("waited 60 s for {what}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Makes sure that it has not ended.
    pub(super) fn must_run(&mut self, what: &str) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) => bail!("it ended before {what}: {status}"),
            None => Ok(()),
        }
    }

    /// CPU time in seconds, to the nanosecond; threads and the process itself may have ended.
    pub(super) fn cpu(&self) -> Result<f64> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.id().cast_signed()));
        let time = clock.and_then(ClockId::now).context("the CPU time of a process")?;
        Ok(Duration::from(time).as_secs_f64())
    }

    /// A line of `/proc/PID/status`, such as `VmRSS`, in MiB.
    pub(super) fn memory(&self, name: &str) -> Option<f64> {
        memory(self.id(), name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn memory(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// A file that a program makes once its window is open; gone when dropped.
pub(super) struct Ready(PathBuf);

impl Ready {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("whydrop-bench-{}-ready", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// One whole run of whydrop over a window.
pub(super) struct Run {
    /// From the start to the open window.
    pub(super) start: Duration,
    /// All that is not the window.
    pub(super) beside: Duration,
    /// CPU time of all of it, in seconds.
    pub(super) cpu: f64,
    /// Resident memory in MiB: at most, and while the window is open.
    pub(super) peak: f64,
    pub(super) resident: f64,
}

/// Diagnoses over a window of this length.
pub(super) fn diagnose(program: &Path, window: Duration) -> Result<Run> {
    let ready = Ready::new();
    let seconds = window.as_secs_f64().to_string();
    let began = Instant::now();
    let process = Process::start(
        program,
        &["diagnose", "--duration", &seconds, "--ready-file", ready.path()],
    )?;
    let (mut start, mut peak, mut resident) = (None, 0.0_f64, 0.0);
    loop {
        // A process that ended and was not waited for still tells its times.
        if state(process.id()).context("its state")? == 'Z' {
            let cpu = process.cpu()?;
            let beside = began.elapsed().saturating_sub(window);
            let start = start.context("its window never opened")?;
            return Ok(Run { start, beside, cpu, peak, resident });
        }
        if start.is_none() && ready.is_there() {
            start = Some(began.elapsed());
        }
        if start.is_some_and(|start| began.elapsed() < start + window / 2) {
            resident = process.memory("VmRSS").unwrap_or(resident);
        }
        peak = peak.max(process.memory("VmHWM").unwrap_or(0.0));
        thread::sleep(Duration::from_millis(1));
    }
}

/// The scheduler's letter.
fn state(pid: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use super::{Process, memory, state};

    #[test]
    fn a_process_that_ended_still_tells_its_cpu_time() {
        let script = "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done";
        let process = Process::start(Path::new("sh"), &["-c", script]).unwrap();
        // Nobody waits for it, so it stays.
        while state(process.id()) != Some('Z') {
            thread::yield_now();
        }
        let cpu = process.cpu().unwrap();
        assert!(cpu > 0.0 && cpu < 60.0, "{cpu}");
    }

    #[test]
    fn a_process_tells_what_it_takes() {
        assert!("RS".contains(state(std::process::id()).unwrap()));
        let (now, most) =
            ["VmRSS", "VmHWM"].map(|name| memory(std::process::id(), name).unwrap()).into();
        assert!(now > 0.1 && most >= now, "{now} {most}");
    }
}
