//! Does the lab notice when a diagnosis is wrong? A stand-in diagnoses a real overflow, truthfully
//! or with one flaw.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests panic, and say why they skip")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{fs, process};

use whydrop_lab::{Job, LabError, Outcome, Runner};

/// A stand-in with this flaw: the flaw is the name it is called by.
struct StandIn {
    folder: PathBuf,
    program: PathBuf,
}

impl StandIn {
    fn new(flaw: &str) -> Self {
        let folder = format!("{}-{flaw}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join(flaw);
        symlink(env!("CARGO_BIN_EXE_whydrop-lab-standin"), &program).unwrap();
        Self { folder, program }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn play(flaw: &str, remedy: bool) -> Option<Outcome> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let standin = StandIn::new(flaw);
    let runner = Runner::new(standin.program.clone()).unwrap();
    let name = "accept-queue-third-ack";
    let job = if remedy { Job::remedied(name) } else { Job::one(name) };
    Some(runner.run(&job).unwrap())
}

/// The flaw must be noticed, and nothing else be blamed.
fn notices(flaw: &str, meant: &[&str]) {
    let Some(outcome) = play(flaw, false) else { return };
    assert!(!outcome.pass);
    let failures = &outcome.failures;
    assert_eq!(failures.len(), meant.len(), "{failures:#?}");
    for (failure, meant) in failures.iter().zip(meant) {
        assert!(failure.contains(meant), "`{failure}` should say `{meant}`");
    }
}

#[test]
fn a_true_report_passes() {
    let Some(outcome) = play("true", false) else { return };
    assert_eq!(outcome.failures, [""; 0]);
    assert!(outcome.pass);
    assert_eq!((outcome.packets_expected, outcome.packets_got), (Some(24), Some(24)));
    assert_eq!(outcome.got, "accept-queue-full (app-backlog) in b");
    assert_eq!(outcome.expected, "accept-queue-full (app-backlog|slow-accept) in b");
    assert_eq!(outcome.moved["b:TcpExt.ListenOverflows"], 24);
}

#[test]
fn a_clean_report_after_the_remedy_passes() {
    let Some(outcome) = play("true-again", true) else { return };
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!((outcome.got.as_str(), outcome.packets_expected), ("clean", None));
}

#[test]
fn a_wrong_cause_is_noticed() {
    notices(
        "wrong-cause",
        &["accept-queue-full was not found", "syn-queue-full (app-backlog) in b"],
    );
}

#[test]
fn a_wrong_count_is_noticed() {
    notices("wrong-count", &["24 lost, the findings say 25", "packets is 25, not 24"]);
}

#[test]
fn a_wrong_process_is_noticed() {
    notices("wrong-pid", &["process is lab-server ("]);
}

#[test]
fn a_wrong_exit_status_is_noticed() {
    notices("wrong-exit", &["exit status is 0, not 1"]);
}

#[test]
fn a_report_that_is_none_is_noticed() {
    notices("garbage", &["printed no report"]);
}

#[test]
fn a_program_that_ends_early_is_noticed() {
    notices("ends-early", &["ended before it watched: exit status: 2: no such kernel"]);
}

#[test]
fn a_program_that_does_not_end_is_ended() {
    notices("deaf", &["gave no report within"]);
}

#[test]
fn a_missing_program_is_an_error() {
    let runner = Runner::new("/nonexistent/whydrop".into()).unwrap();
    let error = runner.run(&Job::one("accept-queue-third-ack")).unwrap_err();
    if rustix::process::geteuid().is_root() {
        assert!(matches!(&error, LabError::Program { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot run /nonexistent/whydrop: "), "{error}");
    } else {
        assert!(matches!(&error, LabError::NotRoot), "{error}");
    }
}
