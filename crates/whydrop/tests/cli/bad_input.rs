//! Whatever is wrong with a request or its surroundings is said in one clear line on standard error,
//! with the documented exit status, and nothing on standard output.

use std::fs;
use std::io::Write as _;

use crate::program::{self, Run, scratch, whydrop};

/// Could not run: exit 2, one line on standard error that contains all of `words`, nothing else.
fn refused(run: &Run, words: &[&str]) {
    assert_eq!(run.status, Some(2), "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    assert!(run.stderr.starts_with("whydrop: "), "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} in {run:?}");
    }
}

#[test]
fn a_wrong_command_line() {
    refused(&whydrop(&["--frob"]), &["--frob", "--help"]);
    refused(&whydrop(&["frobnicate"]), &["frobnicate"]);
    refused(&whydrop(&["--format", "xml"]), &["xml", "text, json"]);
    refused(&whydrop(&["--duration", "-3"]), &["-3"]);
    refused(&whydrop(&["--duration", "never"]), &["never", "number of seconds"]);
    refused(&whydrop(&["record"]), &["--output"]);
    refused(&whydrop(&["lab", "run"]), &["NAME"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["watch", "--help"], &["lab", "run", "-h"]]
    {
        let run = whydrop(arguments);
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        assert!(run.stdout.contains("whydrop"), "{run:?}");
    }
}

#[test]
fn an_unknown_namespace() {
    for command in [&["diagnose"][..], &["watch"], &["record", "-o", "/dev/null/x"]] {
        let run = whydrop(&[command, &["--netns", "no-such-namespace"]].concat());
        if command[0] == "record" || !program::is_root() {
            assert_eq!(run.status, Some(2), "{run:?}");
            continue;
        }
        refused(&run, &["no-such-namespace", "ip netns list"]);
    }
}

#[test]
fn a_wrong_configuration() {
    let folder = scratch();
    let file = folder.path().join("whydrop.toml");
    let shown = file.to_str().expect("UTF-8");
    refused(&whydrop(&["--config", shown]), &[shown, "No such file"]);
    fs::write(&file, "[thresholds]\nsteel = 0.1\n").expect("a writable folder");
    refused(&whydrop(&["--config", shown]), &[shown, "line 2", "did you mean steal?"]);
}

#[test]
fn an_unknown_scenario() {
    if program::needs_root() {
        return;
    }
    refused(&whydrop(&["lab", "run", "no-such-scenario"]), &["no-such-scenario", "lab list"]);
    let nearly = whydrop(&["lab", "run", "acept-queue-full"]);
    refused(&nearly, &["acept-queue-full", "did you mean accept-queue-full?"]);
    let a_cause = whydrop(&["lab", "shell", "accept-queue-full", "--", "true"]);
    refused(&a_cause, &["accept-queue-full", "choose one", "accept-queue-stopped"]);
}

#[test]
fn an_unknown_reason() {
    let run = whydrop(&["watch", "--reason", "NO_SUCH_REASON"]);
    refused(&run, &["NO_SUCH_REASON", "whydrop reasons"]);
}

#[test]
fn an_evidence_file_that_cannot_be_used() {
    let folder = scratch();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let gzip = |content: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).expect("compressed");
        gzip.finish().expect("compressed")
    };
    let whole = gzip(&br#"{"schema":"whydrop.evidence/1","host":{}}"#.repeat(40));
    let mut flipped = whole.clone();
    let middle = flipped.len() - 6;
    flipped[middle] ^= 0x55;

    refused(&whydrop(&["diagnose", "/no/such/file"]), &["/no/such/file", "No such file"]);
    refused(&whydrop(&["diagnose", "/"]), &["directory"]);
    refused(&whydrop(&["diagnose", &file("text", b"hello")]), &["not an evidence file"]);
    refused(&whydrop(&["diagnose", &file("empty", b"")]), &["truncated"]);
    refused(&whydrop(&["diagnose", &file("half", &whole[..whole.len() / 2])]), &["truncated"]);
    refused(&whydrop(&["diagnose", &file("flipped", &flipped)]), &["corrupt"]);
    refused(&whydrop(&["diagnose", &file("json", &gzip(b"[1, 2]"))]), &["no schema"]);
    refused(&whydrop(&["diagnose", &file("garbage", &gzip(b"{]"))]), &["not an evidence file"]);
    let newer = gzip(br#"{"schema":"whydrop.evidence/99"}"#);
    refused(&whydrop(&["diagnose", &file("newer", &newer)]), &["whydrop.evidence/99"]);
    let hollow = gzip(br#"{"schema":"whydrop.evidence/1"}"#);
    refused(&whydrop(&["diagnose", &file("hollow", &hollow)]), &["damaged"]);
}

#[test]
fn a_place_that_cannot_be_written() {
    let run = whydrop(&["record", "-o", "/no/such/folder/file", "--duration", "60"]);
    refused(&run, &["/no/such/folder"]);
    refused(&whydrop(&["record", "-o", "/", "--duration", "60"]), &["directory"]);
}

#[test]
fn no_btf() {
    let missing = ["--kernel-btf", "/no/such/btf"];
    refused(
        &whydrop(&[&["reasons"][..], &missing].concat()),
        &["/no/such/btf", "CONFIG_DEBUG_INFO_BTF"],
    );
    refused(&whydrop(&[&["watch"][..], &missing].concat()), &["/no/such/btf"]);

    let report = program::report(&[&missing[..], &["--duration", "0.2"]].concat());
    assert_eq!(report["tracer"]["attach"], "none");
    assert!(program::not_checked(&report, "skb:kfree_skb").contains("/no/such/btf"), "{report}");
    assert_ne!(report["verdict"], "clean");

    let folder = scratch();
    let corrupt = folder.path().join("btf");
    fs::write(&corrupt, [0x9f; 64]).expect("written");
    let corrupt = corrupt.display().to_string();
    refused(&whydrop(&["reasons", "--kernel-btf", &corrupt]), &["not usable"]);
}

/// As root without the capabilities that tracing takes: the kernel refuses, counters go on.
#[test]
fn tracing_refused_by_the_kernel() {
    if program::needs_root() {
        return;
    }
    let without = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"];
    refused(&program::under(&without, &["watch"]), &["permit", "CAP_BPF"]);
    let run = program::under(&without, &["--duration", "0.2", "--format", "json"]);
    // Other things run on this host; what the counters say of them is not this test's business.
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("a report");
    assert_eq!(report["tracer"]["attach"], "none");
    assert_ne!(report["verdict"], "clean");
    assert!(program::not_checked(&report, "skb:kfree_skb").contains("CAP_BPF"), "{report}");
}

/// As an ordinary user: counters alone, and it says what it could not see.
#[test]
fn no_privilege() {
    if program::needs_root() {
        return;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    refused(&program::under(&nobody, &["watch"]), &["permit", "root"]);
    refused(&program::under(&nobody, &["lab", "run", "healthy-idle"]), &["root"]);
    let run = program::under(&nobody, &["--duration", "0.2", "--format", "json"]);
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("a report");
    assert_ne!(report["verdict"], "clean");
    assert!(program::not_checked(&report, "skb:kfree_skb").contains("root"), "{report}");
}

/// Only the classic tracepoint needs tracefs; `whydrop kernel` says what it costs.
#[test]
fn no_tracefs() {
    if program::needs_root() {
        return;
    }
    let hidden = [
        "unshare",
        "-m",
        "sh",
        "-c",
        "for at in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs none $at; done; exec \"$@\"",
        "sh",
    ];
    let run = program::under(&hidden, &["kernel", "--format", "json"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    let facts: serde_json::Value = serde_json::from_str(&run.stdout).expect("facts");
    assert_eq!(facts["tracefs"], serde_json::Value::Null);
    let classic = &facts["attach"].as_array().expect("a list")[2];
    assert_eq!((&classic["kind"], &classic["works"]), (&"tp".into(), &false.into()));
    assert!(classic["why_not"].as_str().expect("a reason").contains("mount"), "{classic}");
}
