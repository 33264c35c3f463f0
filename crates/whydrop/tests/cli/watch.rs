//! `whydrop watch` shows the drops asked for, and counts them exactly.

use rustix::process::Signal;

use crate::program::{Netns, Run, needs_root, scratch, signal, started};

/// Watches a namespace while datagrams are sent to a closed port in it.
fn watched(role: &str, datagrams: u32, arguments: &[&str]) -> Run {
    let netns = Netns::new(role);
    let folder = scratch();
    let arguments = [&["watch", "--netns", netns.name()], arguments].concat();
    let child = started(&arguments, &folder.path().join("ready"));
    netns.send_to_closed_port(datagrams);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[test]
fn each_drop_is_a_line_with_its_flow_device_and_namespace() {
    if needs_root() {
        return;
    }
    let run = watched("lines", 3, &["--reason", "NO_SOCKET", "--stack"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    let lines: Vec<_> = run.stdout.lines().filter(|line| line.contains("NO_SOCKET")).collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    for line in lines {
        for word in ["UDP 127.0.0.1:", "> 127.0.0.1:9 ", "dev lo ", "netns whydrop-cli-"] {
            assert!(line.contains(word), "{word:?} in {line}");
        }
    }
    // The stack begins where the packet was freed, not in the tracer.
    let mut lines = run.stdout.lines();
    let first = lines.next().expect("a line");
    let site = first.split_whitespace().nth(2).expect("a call site");
    assert_eq!(lines.next().expect("a frame").trim(), site, "{run:?}");
}

#[test]
fn json_is_one_object_per_line() {
    if needs_root() {
        return;
    }
    let run = watched("json", 2, &["--reason", "NO_SOCKET", "--format", "json"]);
    let lines: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert_eq!(lines[0]["reason"], "NO_SOCKET");
    assert_eq!(lines[0]["flow"]["destination"]["port"], 9);
    assert!(lines[0]["time"].as_str().expect("a time").ends_with('Z'), "{run:?}");
}

#[test]
fn counts_are_exact() {
    if needs_root() {
        return;
    }
    let arguments = ["--count", "--reason", "NO_SOCKET", "--format", "json"];
    let run = watched("count", 257, &arguments);
    let totals: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let packets: u64 = totals.iter().filter_map(|total| total["packets"].as_u64()).sum();
    assert_eq!(packets, 257, "{run:?}");
}
