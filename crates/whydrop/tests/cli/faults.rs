//! What goes wrong beside the program: it is stopped, the disk is full, the clock jumps, the things it
//! looks at vanish. No count is lost silently, and nothing hangs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{self, Netns, Run, needs_root, run, scratch, signal, started, whydrop};

/// Sum of the packets in these totals of the evidence.
fn traced(report: &Value, fits: impl Fn(&Value) -> bool) -> u64 {
    let totals = report["tracer"]["totals"].as_array().expect("a list");
    totals.iter().filter(|total| fits(total)).filter_map(|total| total["packets"].as_u64()).sum()
}

fn evidence(path: &Path) -> Value {
    let file = fs::File::open(path).expect("evidence");
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("one JSON document")
}

/// The program stands still while a flood goes on that fills the ring of details many times over: the
/// totals are exact all the same, and what has no details is a number.
#[test]
fn a_reader_that_is_stopped_loses_details_and_no_count() {
    const SENT: u32 = 120_000;
    if needs_root() {
        return;
    }
    let (netns, folder) = (Netns::new("stopped"), scratch());
    let saved = folder.path().join("evidence").display().to_string();
    let watched = ["watch", "--quick", "--all", "--netns", netns.name(), "--format", "ndjson"];
    let recorded = ["record", "--netns", netns.name(), "--duration", "600", "-o", &saved];
    let recorder = started(&recorded, &folder.path().join("recording"));
    let watcher = started(&watched, &folder.path().join("watching"));
    signal(&recorder, Signal::STOP);
    signal(&watcher, Signal::STOP);
    netns.run(&[
        "python3",
        "-c",
        &format!(
            "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range({SENT}): s.sendto(b'x', ('127.0.0.1', 9))"
        ),
    ]);
    for child in [&recorder, &watcher] {
        signal(child, Signal::CONT);
        signal(child, Signal::INT);
    }
    let recorder = recorder.wait_with_output().expect("an end");
    assert_eq!(recorder.status.code(), Some(0), "{recorder:?}");
    let seen = evidence(Path::new(&saved));
    // Where they come faster than the CPU takes them off, some do not get as far as to the port.
    let sent = |total: &Value| total["reason"] == "NO_SOCKET" || total["reason"] == "CPU_BACKLOG";
    assert_eq!(traced(&seen, sent), u64::from(SENT));
    let number = |name: &str| seen["tracer"][name].as_u64().expect("a number");
    assert_eq!(number("lost"), 0);
    let parts = number("sampled") + number("suppressed") + number("ring_full");
    assert_eq!(number("events"), parts, "{}", seen["tracer"]);

    let watcher = watcher.wait_with_output().expect("an end");
    assert_eq!(watcher.status.code(), Some(0), "{watcher:?}");
    let told = String::from_utf8_lossy(&watcher.stderr);
    let ring_full: u64 = told
        .split(" for want of ring space")
        .next()
        .and_then(|before| before.rsplit(", ").next()?.trim().parse().ok())
        .unwrap_or_else(|| panic!("what was not shown is told: {told}"));
    let shown = String::from_utf8_lossy(&watcher.stdout).lines().count() as u64;
    assert!(ring_full > 0 && shown < u64::from(SENT), "{shown} shown; {told}");
    // Others drop packets as well, so it is no less.
    assert!(shown + ring_full >= u64::from(SENT), "{shown} shown; {told}");
}

/// Runs the program with a small file system of its own at `place`.
fn with_disk(options: &str, place: &Path, fill: bool, arguments: &[&str]) -> Run {
    let place = place.display();
    let fill = if fill {
        format!("dd if=/dev/zero of={place}/rest bs=1k 2>/dev/null;")
    } else {
        String::new()
    };
    let script = format!(
        "mount -t tmpfs -o {options} none {place} && {{ {fill} true; }} && \"$@\"; \
                          status=$?; ls -A {place} >&2; exit $status"
    );
    run(Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh", program::path()])
        .args(arguments))
}

/// A full disk, and one that nobody may write to: it says so, with nothing half written left behind.
#[test]
fn a_full_disk_and_one_that_cannot_be_written() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let place = folder.path().join("disk");
    fs::create_dir(&place).expect("a folder");
    let file = place.join("file").display().to_string();
    for command in [&["record", "-o", &file][..], &["diagnose", "--save", &file]] {
        let arguments = [command, &["--duration", "0.2"]].concat();
        let full = with_disk("size=64k", &place, true, &arguments);
        assert_eq!(full.status, Some(2), "{full:?}");
        assert!(full.stderr.contains("No space left on device"), "{full:?}");
        // The report is not lost with the file.
        assert_eq!(full.stdout.starts_with("whydrop: "), command[0] == "diagnose", "{full:?}");
        assert!(full.stderr.ends_with("\nrest\n"), "nothing else is left: {full:?}");
        let closed = with_disk("size=64k,ro", &place, false, &arguments);
        assert_eq!(closed.status, Some(2), "{closed:?}");
        assert!(closed.stderr.contains("Read-only file system"), "{closed:?}");
    }
    let closed = with_disk("size=64k,ro", &place, false, &["watch", "-w", &file]);
    assert_eq!(closed.status, Some(2), "{closed:?}");
    assert!(closed.stderr.contains("Read-only file system"), "{closed:?}");
}

/// A capture file that stops growing ends the watch with the reason.
#[test]
fn a_disk_that_fills_while_drops_are_captured() {
    if needs_root() {
        return;
    }
    let (netns, folder) = (Netns::new("disk"), scratch());
    let place = folder.path().join("disk");
    fs::create_dir(&place).expect("a folder");
    let file = place.join("drops.pcapng").display().to_string();
    let over = std::sync::atomic::AtomicBool::new(false);
    let full = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                netns.send_to_closed_port(200);
            }
        });
        let arguments =
            ["watch", "--quick", "--all", "--netns", netns.name(), "--duration", "60", "-w", &file];
        let full = with_disk("size=64k", &place, false, &arguments);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        full
    });
    assert_eq!((full.status, full.stdout.as_str()), (Some(2), ""), "{full:?}");
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
}

/// A clock of the day that jumps by a year at each look, for whoever asks the C library.
const JUMPING: &str = r"
#define _GNU_SOURCE
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long looks;
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += (++looks % 2 ? 1 : -1) * looks * 31536000L;
    return result;
}
";

#[test]
fn a_clock_that_jumps_changes_no_duration() {
    if needs_root() {
        return;
    }
    let (netns, folder) = (Netns::new("clock"), scratch());
    let source = folder.path().join("clock.c");
    let library = folder.path().join("clock.so").display().to_string();
    fs::write(&source, JUMPING).expect("written");
    let compiler =
        Command::new("cc").args(["-shared", "-fPIC", "-o", &library]).arg(&source).status();
    if !compiler.is_ok_and(|status| status.success()) {
        writeln!(std::io::stderr(), "skipped: needs a C compiler").expect("told");
        return;
    }
    let jumping = |arguments: &[&str]| {
        run(Command::new(program::path()).args(arguments).env("LD_PRELOAD", &library))
    };
    let diagnosed = jumping(&["--netns", netns.name(), "--duration", "1", "--format", "json"]);
    let report: Value = serde_json::from_str(&diagnosed.stdout).expect("a report");
    let plain = whydrop(&["--netns", netns.name(), "--duration", "0.2", "--format", "json"]);
    let plain: Value = serde_json::from_str(&plain.stdout).expect("a report");
    let year = |report: &Value| report["window"]["start"].as_str().expect("a time")[..4].to_owned();
    assert_ne!(year(&report), year(&plain), "the clock did jump");
    let seconds = report["window"]["seconds"].as_f64().expect("a number");
    assert!((1.0..3600.0).contains(&seconds), "{seconds}");

    // Times of drops follow each other, however often anybody looks at the clock.
    let watched = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            jumping(&["watch", "--netns", netns.name(), "--duration", "3", "--format", "ndjson"])
        });
        while !watching.is_finished() {
            netns.send_to_closed_port(5);
        }
        watching.join().expect("no panic")
    });
    let times: Vec<jiff::Timestamp> = watched
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .map(|line| line["time"].as_str().expect("a time").parse().expect("a time"))
        .collect();
    assert!(times.len() > 1, "{watched:?}");
    let (first, last) = (times.iter().min().expect("one"), times.iter().max().expect("one"));
    assert!(last.duration_since(*first) < jiff::SignedDuration::from_mins(60), "{first} to {last}");
}

/// In a time namespace `CLOCK_MONOTONIC` is not that of the BPF programs.
#[test]
fn another_monotonic_clock_changes_no_time() {
    if needs_root() {
        return;
    }
    let netns = Netns::new("timens");
    // Back as well as forth, as far as the uptime allows.
    for offset in ["-60", "1000000"] {
        let began = jiff::Timestamp::now();
        let watched = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let wrapper = ["unshare", "--time", "--fork", "--monotonic", offset];
                let arguments =
                    ["watch", "--netns", netns.name(), "--duration", "3", "--format", "ndjson"];
                program::under(&wrapper, &arguments)
            });
            while !watching.is_finished() {
                netns.send_to_closed_port(5);
            }
            watching.join().expect("no panic")
        });
        let ended = jiff::Timestamp::now();
        let lines: Vec<Value> = watched
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        assert!(lines.len() > 1, "{watched:?}");
        let mut earlier = None;
        for line in &lines {
            let time: jiff::Timestamp =
                line["time"].as_str().expect("a time").parse().expect("a time");
            assert!(began <= time && time <= ended, "{offset}: {time} not in {began} to {ended}");
            assert_ne!(earlier, Some(time), "{offset}: no two drops are at one moment");
            earlier = Some(time);
        }
    }
}

/// Namespaces with devices, sockets and processes come and go while everything is read: ten seconds of
/// what `cargo xtask churn` does for minutes.
#[test]
fn namespaces_that_vanish_while_they_are_read() {
    const NAMESPACES: u32 = 34;
    const EACH: u32 = 20;
    if needs_root() {
        return;
    }
    let folder = scratch();
    let saved = folder.path().join("evidence").display().to_string();
    let recorded = ["record", "--duration", "600", "-o", &saved];
    let recorder = started(&recorded, &folder.path().join("ready"));
    let began = std::time::Instant::now();
    for number in 0..NAMESPACES {
        let netns = Netns::new(&format!("churn{number}"));
        netns.run(&["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
        netns.run(&["python3", "-c", &format!("
import socket, struct
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
p = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20, 0, 0, 64, 254, 0, b'\\x7f\\0\\0\\1', b'\\x7f\\0\\0\\1')
for i in range({EACH}): s.sendto(p, ('127.0.0.1', 0))")]);
        // The pace of 200 a minute: as many deaths per look as on a busy host.
        let due = Duration::from_millis(300) * (number + 1);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    signal(&recorder, Signal::INT);
    let recorder = recorder.wait_with_output().expect("an end");
    assert_eq!(recorder.status.code(), Some(0), "{recorder:?}");
    let seen = evidence(Path::new(&saved));
    // Some were seen and some were not; their packets count either way. Nobody else sends this.
    let counted = traced(&seen, |total| total["reason"] == "IP_NOPROTO" && total["l4"] == 254);
    assert_eq!(counted, u64::from(NAMESPACES * EACH), "{}", seen["tracer"]["totals"]);
    assert_eq!(seen["tracer"]["lost"], 0);
    let read = whydrop(&["diagnose", &saved, "--format", "json"]);
    assert!(matches!(read.status, Some(0 | 1)), "{read:?}");
}
