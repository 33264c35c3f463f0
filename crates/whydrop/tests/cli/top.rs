//! `whydrop top` in a real terminal, which tmux is.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::privilege::{OBSERVING, keeps_only};
use crate::program::{needs_root, path, whydrop};

const SOON: Duration = Duration::from_secs(20);

/// A server of its own, so that no other session or configuration meets it.
pub(crate) struct Terminal(String);

impl Terminal {
    /// Runs a command in a terminal of this size; a shell waits behind it.
    pub(crate) fn open(tag: &str, size: (u16, u16), command: &str) -> Option<Self> {
        let terminal = Self(format!("whydrop-{}-{tag}", std::process::id()));
        let (width, height) = (size.0.to_string(), size.1.to_string());
        // What is typed is echoed only by a terminal that was given back as it was.
        let script = format!("{command}; echo status $?; exec cat");
        let started = terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "sh",
            "-c",
            &script,
        ]);
        started.map(|_| terminal)
    }

    pub(crate) fn tmux(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("tmux")
            .env("LANG", "C.UTF-8")
            .args(["-u", "-L", &self.0])
            .args(arguments)
            .output()
            .ok()?;
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).expect("UTF-8"))
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).expect("tmux")
    }

    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]).expect("tmux");
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(started.elapsed() < SOON, "no {what} on\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}

/// True, and said, if a test of the screen cannot run here.
pub(crate) fn needs_terminal() -> bool {
    let missing = Command::new("tmux").arg("-V").output().is_err();
    if missing {
        writeln!(std::io::stderr(), "skipped: needs tmux").expect("told");
    }
    missing || needs_root()
}

/// The `whydrop top` that looks at this namespace.
pub(crate) fn program_in(netns: &str) -> i32 {
    let pids = Command::new("pgrep").args(["-f", &format!("top .*{netns}$")]).output();
    let pids = String::from_utf8(pids.expect("pgrep").stdout).expect("UTF-8");
    // Of those that match, the shell around it has the longer command line and is the parent.
    let is_program = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "whydrop\n")
    };
    let pid = pids.lines().find(is_program).unwrap_or_else(|| panic!("not among {pids}"));
    pid.parse().expect("a pid")
}

/// `whydrop top` over a namespace without traffic.
fn quiet(tag: &str) -> Option<(Terminal, Netns)> {
    if needs_terminal() {
        return None;
    }
    let netns = Netns::new(tag);
    let command = format!("{} top --interval 0.5 --netns {}", path(), netns.0);
    Some((Terminal::open(tag, (80, 24), &command)?, netns))
}

struct Netns(String);

impl Netns {
    fn new(tag: &str) -> Self {
        let netns = Self(format!("wdcli-{}-{tag}", std::process::id()));
        netns.ip(&["netns", "add", &netns.0]);
        netns
    }

    fn ip(&self, arguments: &[&str]) {
        let output = Command::new("ip").args(arguments).output().expect("ip");
        assert!(output.status.success(), "{}: ip {arguments:?}: {output:?}", self.0);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// The terminal echoes again what is typed, and the shell behind tells how it ended.
#[track_caller]
fn is_given_back(terminal: &Terminal, status: &str) {
    terminal.until("exit status", |screen| screen.contains(status));
    terminal.press("echoed");
    terminal.until("echo", |screen| screen.contains("echoed"));
}

#[test]
fn it_draws_answers_resizes_and_leaves_the_terminal_as_it_was() {
    let Some((terminal, _netns)) = quiet("keys") else { return };
    let all_well =
        |screen: &str| screen.contains("nothing is lost") && screen.contains("tcp-listen");
    let screen = terminal.until("first lap", all_well);
    assert!(screen.starts_with("whydrop top  "), "{screen}");
    assert!(screen.lines().nth(1).is_some_and(|line| line.starts_with("0 lost (0/s)")), "{screen}");
    assert!(
        screen.lines().nth(23).is_some_and(|line| line.starts_with("Enter explain")),
        "{screen}"
    );
    terminal.press("?");
    terminal.until("help", |screen| screen.contains("freeze the screen"));
    terminal.press("Escape");
    terminal.until("lists", all_well);
    terminal.tmux(&["resize-window", "-x", "160", "-y", "50"]).expect("tmux");
    let foot = |screen: &str| screen.lines().nth(49).is_some_and(|line| line.starts_with("Enter"));
    terminal.until("larger screen", foot);
    terminal.press("q");
    is_given_back(&terminal, "status 0");
}

#[test]
fn every_thread_has_given_up_what_a_lap_does_not_need() {
    let Some((terminal, netns)) = quiet("rights") else { return };
    terminal.until("first lap", |screen| screen.contains("nothing is lost"));
    assert!(
        keeps_only(program_in(&netns.0).cast_unsigned(), &OBSERVING) >= 3,
        "the screen, the laps and the counters"
    );
    terminal.press("q");
    is_given_back(&terminal, "status 0");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let Some((terminal, netns)) = quiet("signal") else { return };
    terminal.until("first lap", |screen| screen.contains("nothing is lost"));
    let pid = rustix::process::Pid::from_raw(program_in(&netns.0)).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    is_given_back(&terminal, "status 0");
}

#[test]
fn it_ends_with_its_terminal() {
    let Some((terminal, netns)) = quiet("hangup") else { return };
    terminal.until("first lap", |screen| screen.contains("nothing is lost"));
    let pid = rustix::process::Pid::from_raw(program_in(&netns.0)).expect("a pid");
    let program = pidfd_open(pid, PidfdFlags::empty()).expect("open");
    drop(terminal);
    let limit = Timespec::try_from(SOON).expect("short");
    let ended = poll(&mut [PollFd::new(&program, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "it goes on without a terminal");
}

#[test]
fn a_namespace_that_vanishes_ends_it_with_a_reason() {
    let Some((terminal, netns)) = quiet("vanish") else { return };
    terminal.until("first lap", |screen| screen.contains("nothing is lost"));
    drop(netns);
    is_given_back(&terminal, "status 2");
    assert!(terminal.screen().contains("wdcli-"), "it is named");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let run = whydrop(&["top"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("whydrop diagnose"), "{run:?}");
}
