//! What the program may do while it observes, and what it can do with less than root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{self, Netns, needs_root, run, scratch, signal, started, whydrop};

/// Numbers of capabilities (`include/uapi/linux/capability.h`).
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const FOWNER: u32 = 3;
const NET_ADMIN: u32 = 12;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const SYSLOG: u32 = 34;

/// What `diagnose` and its kin keep to the end.
pub(crate) const OBSERVING: [u32; 5] = [SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH, NET_ADMIN, SYSLOG];

const NOBODY: u32 = 65534;

fn status(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("a running thread");
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    u64::from_str_radix(value.trim_start_matches(':').trim(), 16).expect("a number")
}

/// Checks all threads of a process: these capabilities are in effect, as far as this test has them,
/// no others, and none can be had again. How many threads there are.
#[track_caller]
pub(crate) fn keeps_only(pid: u32, kept: &[u32]) -> usize {
    let own = status("/proc/thread-self/status", "CapEff");
    let kept = kept.iter().fold(0, |all, number| all | 1 << number) & own;
    let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("a running process")
        .map(|thread| thread.expect("an entry").path().join("status").display().to_string())
        .collect();
    for thread in &threads {
        for name in ["CapEff", "CapPrm"] {
            let has = status(thread, name);
            assert_eq!(has, kept, "{name} of {thread}: {has:x} and not {kept:x}");
        }
        for name in ["CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(status(thread, name), 0, "{name} of {thread}");
        }
        assert_eq!(status(thread, "NoNewPrivs"), 1, "{thread}");
    }
    threads.len()
}

/// What a command has left while its window is open.
#[track_caller]
fn has_left(arguments: &[&str], kept: &[u32]) {
    let folder = scratch();
    let child = started(arguments, &folder.path().join("ready"));
    keeps_only(child.id(), kept);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("an end");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
}

#[test]
fn every_thread_has_given_up_what_its_window_does_not_need() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let file = folder.path().join("x").display().to_string();
    let long = ["--duration", "60"];
    let none: [&str; 0] = [];
    for command in [&["diagnose"][..], &["diagnose", "--save", &file], &["record", "-o", &file]] {
        has_left(&[command, &long].concat(), &OBSERVING);
    }
    has_left(&[&["fix"][..], &long].concat(), &OBSERVING);
    has_left(&[&["watch", "-w", &file][..], &none].concat(), &OBSERVING);
    has_left(&["watch", "--quick"], &[SYSLOG]);
    let counters = [SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH, NET_ADMIN];
    has_left(&[&["sockets"][..], &long].concat(), &counters);
}

/// Root writes where it was told to also without its rights over other users' files: those it keeps
/// are the ones this takes.
#[test]
fn a_file_among_another_users() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    chown(folder.path(), Some(NOBODY), None).expect("given away");
    let file = folder.path().join("theirs");
    let path = file.display().to_string();
    has_left(
        &["record", "-o", &path, "--duration", "60"],
        &[&OBSERVING[..], &[DAC_OVERRIDE]].concat(),
    );
    assert!(file.exists());

    // As in /tmp: nobody replaces another user's file.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("opened");
    chown(&file, Some(NOBODY - 1), None).expect("given away");
    has_left(
        &["diagnose", "--save", &path, "--duration", "60"],
        &[&OBSERVING[..], &[DAC_OVERRIDE, FOWNER]].concat(),
    );
    let read = whydrop(&["diagnose", "--format", "json", &path]);
    assert!(matches!(read.status, Some(0 | 1)), "{read:?}");
}

/// Runs as nobody with these capabilities.
fn with(capabilities: &str, arguments: &[&str]) -> program::Run {
    let (inherited, ambient) =
        (format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}"));
    let wrapper =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", &inherited, &ambient];
    program::under(&wrapper, arguments)
}

fn report(run: &program::Run) -> Value {
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    serde_json::from_str(&run.stdout).expect("one JSON document")
}

/// It traces, and of all that it cannot do it says which capability is missing.
#[test]
fn three_capabilities_instead_of_root() {
    if needs_root() {
        return;
    }
    let closed = Netns::new("closed");
    let capabilities = "-all,+bpf,+perfmon,+net_admin";
    let seen = report(&with(capabilities, &["--duration", "0.2", "--format", "json"]));
    assert_eq!(seen["tracer"]["attach"], "tp_btf", "{seen}");
    let why = |what: &str| program::not_checked(&seen, what);
    assert!(why("names of the functions").contains("CAP_SYSLOG"), "{seen}");
    assert!(why("everything in network namespace").contains("CAP_SYS_ADMIN"), "{seen}");
    let told = seen["not_checked"].to_string();
    assert!(!told.contains("skb:kfree_skb") && !told.contains("nftables"), "{told}");

    let facts = with(capabilities, &["kernel", "--format", "json"]);
    let facts: Value = serde_json::from_str(&facts.stdout).expect("one JSON document");
    let held = |facts: &Value| -> Vec<String> {
        let all = facts["capabilities"].as_array().expect("a list");
        let held = all.iter().filter(|one| one["held"] == true);
        held.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(held(&facts), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    let missing = facts["missing"].to_string();
    for name in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYSLOG"] {
        assert!(missing.contains(name), "{name} in {missing}");
    }
    assert!(!missing.contains("CAP_BPF"), "{missing}");

    // With the names of functions nothing is missing but what is of others.
    let seen = report(&with(
        "-all,+bpf,+perfmon,+net_admin,+syslog",
        &["--duration", "0.2", "--format", "json"],
    ));
    assert!(!seen["not_checked"].to_string().contains("CAP_SYSLOG"), "{seen}");
    closed.run(&["true"]);
}

/// Less and less, in named steps: without what reads firewall rules, without what traces.
#[test]
fn fewer_capabilities_cost_what_they_are_for() {
    if needs_root() {
        return;
    }
    let arguments = ["--duration", "0.2", "--format", "json"];
    let seen = report(&with("-all,+bpf,+perfmon", &arguments));
    assert_eq!(seen["tracer"]["attach"], "tp_btf", "{seen}");
    assert!(program::not_checked(&seen, "firewall rules").contains("CAP_NET_ADMIN"), "{seen}");
    for capabilities in ["-all,+bpf,+net_admin", "-all,+perfmon,+net_admin", "-all"] {
        let seen = report(&with(capabilities, &arguments));
        assert_eq!(seen["tracer"]["attach"], "none", "{capabilities}: {seen}");
        assert_ne!(seen["verdict"], "clean", "{capabilities}: {seen}");
        let why = program::not_checked(&seen, "skb:kfree_skb");
        assert!(why.contains("CAP_BPF and CAP_PERFMON"), "{capabilities}: {why}");
    }
}

/// Without a tracer, what a counter of the own namespace tells is told, and that it is not all.
#[test]
fn a_counter_alone_names_its_cause() {
    if needs_root() {
        return;
    }
    let here = Netns::new("counted");
    let folder = scratch();
    let within = ["ip", "netns", "exec", here.name()];
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let wrapper = [&within[..], &nobody].concat();
    let window = ["diagnose", "--duration", "60", "--format", "json"];
    let child = program::started_under(&wrapper, &window, &folder);
    here.send_to_closed_port(30);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("an end");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let found = &seen["findings"][0];
    assert_eq!(
        (&found["cause"], &found["packets"]),
        (&"udp-port-closed".into(), &30.into()),
        "{seen}"
    );
    assert_eq!(seen["ledger"]["lost"], 30, "{seen}");
    assert!(program::not_checked(&seen, "skb:kfree_skb").contains("CAP_BPF"), "{seen}");
}

/// A program file with capabilities of its own may not read some of its own files in `/proc`.
#[test]
fn capabilities_of_the_file() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let copy = program::copy(&folder);
    let given = run(std::process::Command::new("setcap")
        .arg("cap_bpf,cap_perfmon,cap_net_admin,cap_syslog+ep")
        .arg(&copy));
    assert_eq!(given.status, Some(0), "{given:?}");
    let run = run(std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--duration", "0.2", "--format", "json"]));
    assert_eq!(report(&run)["tracer"]["attach"], "tp_btf", "{run:?}");
}
