//! The program at work under the traffic: one long window, and one long screen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::traffic::Stage;
use super::vitals::{Courses, Vitals};
use crate::command;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Patience with what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of one turn.
pub(super) struct Turn {
    pub(super) name: &'static str,
    pub(super) sent: u64,
    pub(super) traced: u64,
    pub(super) courses: Courses,
}

/// One window that lasts as long as the traffic.
pub(super) fn diagnose(program: &Path, stage: &Stage, length: Duration) -> Result<Turn> {
    let folder = std::env::temp_dir().join(format!("whydrop-soak-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let turn = window(program, stage, length, &folder);
    fs::remove_dir_all(&folder)?;
    turn
}

fn window(program: &Path, stage: &Stage, length: Duration, folder: &Path) -> Result<Turn> {
    let (mut child, saved) = observing(program, &["--netns", stage.lossy()], folder)?;
    let (sent, courses) = look_on(child.0.id(), stage, length)?;
    drained()?;
    command::output(Command::new("kill").args(["-INT", &child.0.id().to_string()]))?;
    until("the report", || Ok(child.0.try_wait()?.is_some()))?;
    let text = command::output(Command::new("zcat").arg(&saved))?;
    let evidence: serde_json::Value = serde_json::from_str(&text).context("the evidence")?;
    let tracer = &evidence["tracer"];
    if tracer["lost"] != 0 {
        bail!("the tracer missed {}", tracer["lost"]);
    }
    let totals = tracer["totals"].as_array().context("totals")?;
    let traced = totals.iter().filter_map(|total| total["packets"].as_u64()).sum();
    Ok(Turn { name: "diagnose", sent, traced, courses })
}

/// A screen in a terminal, which tmux is.
pub(super) fn top(program: &Path, stage: &Stage, length: Duration) -> Result<Turn> {
    let terminal = Terminal::open(program, stage.lossy())?;
    until("the first lap", || Ok(terminal.traced()?.is_some()))?;
    let (sent, courses) = look_on(terminal.pid, stage, length)?;
    let mut traced = 0;
    // A lap shows once it is over.
    let _ = until("all of it on the screen", || {
        traced = terminal.traced()?.unwrap_or(0);
        Ok(traced >= sent)
    });
    terminal.tmux(&["send-keys", "q"])?;
    until("the end of the screen", || Ok(!Path::new(&format!("/proc/{}", terminal.pid)).exists()))?;
    Ok(Turn { name: "top", sent, traced, courses })
}

/// Sends, and looks at the process meanwhile.
fn look_on(pid: u32, stage: &Stage, length: Duration) -> Result<(u64, Courses)> {
    let mut vitals = Vitals::of(pid);
    let mut sender = stage.send(length)?;
    while sender.sends()? {
        vitals.look()?;
        thread::sleep(LOOK);
    }
    Ok((sender.sent()?, vitals.courses(length)))
}

/// Waits until no CPU has packets in its backlog: all that was sent has arrived.
fn drained() -> Result<()> {
    until("the backlog of all CPUs to drain", || {
        let rows = fs::read_to_string("/proc/net/softnet_stat")?;
        let waiting = |row: &str| {
            row.split_whitespace()
                .nth(11)
                .is_some_and(|length| !length.trim_matches('0').is_empty())
        };
        Ok(!rows.lines().any(waiting))
    })
}

/// Waits for something that must come soon.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    within(PATIENCE, what, is_so)
}

/// Waits for something that must come within this time.
pub(crate) fn within(
    patience: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let limit = Instant::now() + patience;
    while !is_so()? {
        if Instant::now() > limit {
            bail!("waited in vain for {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A diagnosis whose window is open, until it is told to end; and the file that it saves then.
pub(crate) fn observing(program: &Path, of: &[&str], folder: &Path) -> Result<(Guard, PathBuf)> {
    let (ready, saved) = (folder.join("ready"), folder.join("evidence"));
    let _ = fs::remove_file(&ready);
    let child = Command::new(program)
        .args(["diagnose", "--duration", "86400", "--save"])
        .arg(&saved)
        .arg("--ready-file")
        .arg(&ready)
        .args(of)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let child = Guard(child);
    until("the window to open", || Ok(ready.exists()))?;
    Ok((child, saved))
}

/// A process that is ended when dropped.
pub(crate) struct Guard(pub(crate) std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tmux server of its own with one screen.
struct Terminal {
    server: String,
    pid: u32,
}

impl Terminal {
    fn open(program: &Path, netns: &str) -> Result<Self> {
        let mut terminal = Self { server: format!("whydrop-soak-{}", std::process::id()), pid: 0 };
        let program = program.to_str().context("a path in UTF-8")?;
        let size = ["-x", "160", "-y", "50"];
        let start = ["-f", "/dev/null", "new-session", "-d"];
        let what = [program, "top", "--interval", "1", "--netns", netns];
        terminal.tmux(&[&start[..], &size, &what].concat())?;
        terminal.pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"])?.trim().parse()?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut tmux = Command::new("tmux");
        tmux.env("LANG", "C.UTF-8").args(["-u", "-L", &self.server]);
        command::output(tmux.args(arguments))
    }

    /// How many drops the screen says were traced; `None` before the first lap.
    fn traced(&self) -> Result<Option<u64>> {
        let screen = self.tmux(&["capture-pane", "-p"])?;
        Ok(traced(&screen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.server, "kill-server"]).output();
    }
}

/// The number before "traced".
fn traced(screen: &str) -> Option<u64> {
    let line = screen.lines().find(|line| line.contains(" traced"))?;
    let before = line.split(" traced").next()?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::traced;

    #[test]
    fn the_headline_tells_what_was_traced() {
        let line =
            "whydrop top\n12 lost (3/s)   0 without explanation   0 noise   1,234,567 traced";
        assert_eq!(traced(line), Some(1_234_567));
        assert_eq!(traced("whydrop top  looking for the first time ..."), None);
    }
}
