//! The same drops as the tools people know: bpftrace's one-line count and `perf record`.
//!
//! Other things run on this kernel, so the traffic has an EtherType of its own, and each observer is
//! told to look at nothing else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Netns, WITH_TRACEFS, needs_root, scratch, signal, started};

/// An EtherType that nobody uses; another for each process of the test.
fn ethertype() -> u16 {
    0x9a00 | (std::process::id() & 0xff) as u16
}

/// Frames from one end of a veth pair, dropped at three places: for want of a protocol, by a rule
/// at the device, and by the other end that is down.
fn traffic(netns: &Netns) {
    const RULES: &str = "table netdev t {
        chain c {
            type filter hook ingress device v1 priority 0; policy accept
            ether saddr 02:00:00:00:00:02 drop
        }
    }";
    let send = |source: u8, frames: u32| {
        let script = format!(
            "import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('v0', 0))
head = b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0' + bytes([{source}]) + ({}).to_bytes(2, 'big')
for i in range({frames}): s.send(head + bytes(50))",
            ethertype()
        );
        netns.run(&["python3", "-c", &script]);
    };
    netns.run(&["nft", RULES]);
    send(1, 300);
    send(2, 200);
    netns.run(&["ip", "link", "set", "v1", "down"]);
    send(1, 100);
}

/// Drops by reason and function.
type Counts = BTreeMap<(String, String), u64>;

/// Another observer at work.
struct Other(Child);

impl Other {
    /// Starts it with tracefs where it expects it, and waits until it observes.
    fn start(program: &str, arguments: &[&str], output: &Path) -> Option<Self> {
        if Command::new(program).arg("--version").output().is_err() {
            writeln!(std::io::stderr(), "no {program} here, so it is not compared").expect("told");
            return None;
        }
        let file = std::fs::File::create(output).expect("a file");
        let child = Command::new(WITH_TRACEFS[0])
            .args(&WITH_TRACEFS[1..])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut other = Self(child);
        let limit = Instant::now() + Duration::from_secs(60);
        while !other.observes() {
            assert!(Instant::now() < limit, "{program} never observed");
            assert!(other.0.try_wait().expect("a child").is_none(), "{program} ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(other)
    }

    /// An event of each CPU is open and switched on: the last thing that both do.
    fn observes(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())) else {
            return false;
        };
        let events = entries.flatten().filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|link| link.to_string_lossy().contains("perf_event"))
        });
        let polls = std::fs::read_to_string(format!("/proc/{}/wchan", self.0.id()));
        events.count() > 0 && polls.is_ok_and(|wchan| wchan.contains("poll"))
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("signalled");
        self.0.wait().expect("ended");
    }
}

/// What differs, line by line; empty if nothing does.
fn differences(name: &str, theirs: &Counts, ours: &Counts) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let (one, other) = (theirs.get(key).unwrap_or(&0), ours.get(key).unwrap_or(&0));
            let (reason, function) = key;
            (one != other).then(|| format!("{reason} {function}: {name} {one}, whydrop {other}"))
        })
        .collect()
}

/// The lines of `whydrop watch --count --format ndjson`.
fn whydrop_counts(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines() {
        let total: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&total["reason"]), text(&total["site"]["symbol"]));
        *counts.entry(key).or_default() += total["packets"].as_u64().expect("packets");
    }
    counts
}

/// Lines like `@[74, __netif_receive_skb_core.constprop.0]: 50`.
fn bpftrace_counts(text: &str, names: &BTreeMap<u64, String>) -> Counts {
    let line = |line: &str| {
        let (key, packets) = line.strip_prefix("@[")?.split_once("]: ")?;
        let (reason, function) = key.split_once(", ")?;
        let reason = names.get(&reason.parse().ok()?)?.clone();
        let function = function.split('.').next()?.to_owned();
        Some(((reason, function), packets.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Lines with `location=FUNCTION+0x12` that end in `reason: NAME`.
fn perf_counts(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines() {
        let function =
            line.split("location=").nth(1).and_then(|rest| rest.split(['.', '+']).next());
        let (Some(function), Some(reason)) = (function, line.split("reason: ").nth(1)) else {
            continue;
        };
        *counts.entry((reason.trim().to_owned(), function.to_owned())).or_default() += 1;
    }
    counts
}

/// The kernel's numbers of drop reasons.
fn reason_numbers() -> BTreeMap<u64, String> {
    let run = crate::program::whydrop(&["reasons", "--format", "json"]);
    let list: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let list = list.as_array().or_else(|| list["reasons"].as_array()).expect("a list");
    list.iter()
        .filter_map(|one| Some((one["value"].as_u64()?, one["name"].as_str()?.to_owned())))
        .collect()
}

#[test]
fn the_tools_people_know_see_the_same_drops() {
    if needs_root() {
        return;
    }
    let netns = Netns::new("beside");
    netns.run(&["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
    for device in ["v0", "v1"] {
        netns.run(&["ip", "link", "set", device, "up"]);
    }
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let protocol = format!("{:#x}", ethertype());
    let script = format!(
        "tracepoint:skb:kfree_skb /args->protocol == {protocol}/ \
         {{ @[args->reason, ksym(args->location)] = count(); }}"
    );
    let bpftrace = Other::start("bpftrace", &["-e", &script], &path("bpftrace"));
    let (data, only) = (path("perf.data"), format!("protocol == {protocol}"));
    let data = data.display().to_string();
    let record = ["record", "-q", "-a", "-e", "skb:kfree_skb", "--filter", &only, "-o", &data];
    let perf = Other::start("perf", &record, &path("perf"));
    let arguments = ["watch", "--count", "--format", "ndjson", "ether", "proto", &protocol];
    let whydrop = started(&arguments, &path("ready"));
    traffic(&netns);
    signal(&whydrop, Signal::INT);
    let output = whydrop.wait_with_output().expect("ended");
    let ours = whydrop_counts(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(ours.values().sum::<u64>(), 600, "{ours:?}");
    assert_eq!(ours.len(), 3, "{ours:?}");
    if let Some(bpftrace) = bpftrace {
        bpftrace.stop();
        let text = std::fs::read_to_string(path("bpftrace")).expect("its output");
        let theirs = bpftrace_counts(&text, &reason_numbers());
        let differences = differences("bpftrace", &theirs, &ours);
        assert!(differences.is_empty(), "{}\n{text}", differences.join("\n"));
    }
    if let Some(perf) = perf {
        perf.stop();
        let output = Command::new("perf")
            .args(["script", "-i", &data, "-F", "trace"])
            .output()
            .expect("perf runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let differences = differences("perf", &perf_counts(&text), &ours);
        assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), text.lines().count());
    }
}
