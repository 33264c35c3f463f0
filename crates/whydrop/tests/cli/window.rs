//! A window ends when it should, says what it saw, and leaves nothing behind.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{needs_root, scratch, signal, started, whydrop};

/// Names of the BPF programs loaded by this process.
fn programs_of(pid: u32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            let line = text.lines().find(|line| line.starts_with("prog_id:"))?;
            Some(line["prog_id:".len()..].trim().to_owned())
        })
        .collect()
}

/// Every program id that some process still holds.
fn held_anywhere(id: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .any(|pid: u32| programs_of(pid).iter().any(|held| held == id))
}

#[test]
fn sigint_reports_on_the_time_so_far() {
    let folder = scratch();
    let ready = folder.path().join("ready");
    let child = started(&["diagnose", "--duration", "600", "--format", "json"], &ready);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(report["window"]["seconds"].as_f64().expect("a number") < 60.0, "{report}");
}

#[test]
fn polls_are_listened_to_only_where_they_are_asked_for() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    for asked in [false, true] {
        let (ready, file) = (folder.path().join("ready"), folder.path().join("recorded"));
        let mut arguments = vec!["record", "--duration", "600", "--output"];
        arguments.push(file.to_str().expect("UTF-8"));
        arguments.extend(asked.then_some("--polls"));
        let child = started(&arguments, &ready);
        signal(&child, Signal::INT);
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{output:?}");
        let compressed = std::fs::File::open(&file).expect("a file");
        let recorded: serde_json::Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(compressed)).expect("evidence");
        let attached = recorded["events"]["attached"].as_array().expect("a list");
        let polls = attached.iter().any(|name| name == "napi:napi_poll");
        assert_eq!(polls, asked, "{attached:?}");
        std::fs::remove_file(&ready).expect("it was there");
    }
}

#[test]
fn sigint_ends_a_watch_with_its_totals() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let ready = folder.path().join("ready");
    let child = started(&["watch", "--count"], &ready);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("PACKETS"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("missed"), "{output:?}");
}

#[test]
fn sigkill_leaves_no_program_attached() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let ready = folder.path().join("ready");
    let mut child = started(&["diagnose", "--duration", "600"], &ready);
    let programs = programs_of(child.id());
    assert!(!programs.is_empty(), "nothing was attached");
    signal(&child, Signal::KILL);
    child.wait().expect("ended");
    // The kernel gives the last reference up after a grace period.
    let limit = Instant::now() + Duration::from_secs(10);
    for id in &programs {
        while held_anywhere(id) {
            assert!(Instant::now() < limit, "program {id} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn no_colours_and_no_countdown_outside_a_terminal() {
    let run = whydrop(&["--duration", "2.2"]);
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    assert!(!run.stdout.contains('\x1b'), "{run:?}");
    assert_eq!(run.stderr, "", "{run:?}");
}
