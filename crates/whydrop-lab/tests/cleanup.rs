//! Nothing stays behind, however a run ends.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests panic, and say why they skip")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use whydrop_lab::{Runner, sweep};

const STANDIN: &str = env!("CARGO_BIN_EXE_whydrop-lab-standin");

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Names of the namespaces that a process made.
fn namespaces_of(pid: u32) -> Vec<String> {
    left_in("/run/netns", pid)
}

/// What a process left in a folder.
fn left_in(folder: &str, pid: u32) -> Vec<String> {
    let prefix = format!("whydrop-lab-{pid}-");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

/// Processes that live in a namespace.
fn pids_in(netns: &str) -> Vec<u32> {
    let output = Command::new("ip").args(["netns", "pids", netns]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|pid| pid.parse().unwrap()).collect()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Processes that diagnose the namespaces of this runner.
fn diagnoses_of(pid: u32) -> Vec<u32> {
    let prefix = format!("whydrop-lab-{pid}-");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let diagnoses = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("\0diagnose\0") && line.contains(&prefix)
    };
    pids.filter(diagnoses).collect()
}

/// A runner in the middle of a scenario, with its children: server, clients and diagnosis.
fn runner_at_work() -> (Child, Vec<u32>) {
    let runner = Command::new(STANDIN)
        .args(["run", "accept-queue-app-backlog"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let actors = until("server, clients and diagnosis at work", || {
        let namespaces = namespaces_of(runner.id());
        let mut actors: Vec<u32> = namespaces.iter().flat_map(|name| pids_in(name)).collect();
        actors.extend(diagnoses_of(runner.id()));
        (actors.len() == 3).then_some(actors)
    });
    (runner, actors)
}

fn end(mut runner: Child, signal: Signal) -> (u32, ExitStatus) {
    kill_process(Pid::from_child(&runner), signal).unwrap();
    let status = runner.wait().unwrap();
    (runner.id(), status)
}

fn assert_gone(actors: &[u32]) {
    until("actors gone", || {
        actors.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

#[test]
fn a_finished_run_leaves_nothing() {
    if !is_root() {
        return;
    }
    let runner = Runner::new(PathBuf::from(STANDIN)).unwrap();
    runner.provoke("accept-queue-third-ack", false).unwrap();
    // Tests of one file share a process, but no other of this one plays in it.
    assert_eq!(namespaces_of(std::process::id()), [""; 0]);
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    if !is_root() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let (runner, actors) = runner_at_work();
        let (pid, status) = end(runner, signal);
        assert_eq!(status.code(), Some(2));
        assert_eq!(namespaces_of(pid), [""; 0]);
        assert_eq!(left_in("/run", pid), [""; 0]);
        assert_gone(&actors);
    }
}

#[test]
fn what_a_killed_run_leaves_is_swept_and_nothing_else() {
    if !is_root() {
        return;
    }
    let (alive, _) = runner_at_work();
    let (killed, actors) = runner_at_work();
    let (killed, _) = end(killed, Signal::KILL);
    assert_gone(&actors);
    // Another run, of another test, may have swept already: that is its task.
    let removed = sweep().unwrap();
    assert_eq!(namespaces_of(killed), [""; 0], "removed {removed:?}");
    assert_eq!(left_in("/run", killed), [""; 0], "removed {removed:?}");
    assert_eq!(namespaces_of(alive.id()).len(), 2, "removed {removed:?}");
    let (alive, _) = end(alive, Signal::INT);
    assert_eq!(namespaces_of(alive), [""; 0]);
}
