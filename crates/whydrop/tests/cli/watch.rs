//! `whydrop watch` shows the drops asked for, and counts them exactly.

use rustix::process::Signal;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{Netns, Run, needs_root, run, scratch, signal, started, whydrop};

/// Watches a namespace while datagrams are sent to a closed port in it.
fn watched(role: &str, datagrams: u32, arguments: &[&str]) -> Run {
    watched_while(role, arguments, |netns| netns.send_to_closed_port(datagrams))
}

/// Watches a namespace during some traffic in it.
fn watched_while(role: &str, arguments: &[&str], traffic: impl FnOnce(&Netns)) -> Run {
    let netns = Netns::new(role);
    let folder = scratch();
    let arguments = [&["watch", "--netns", netns.name()], arguments].concat();
    let child = started(&arguments, &folder.path().join("ready"));
    traffic(&netns);
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
    let lines: Vec<_> = run.stdout.lines().filter(|line| line.contains(" UDP ")).collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    for line in lines {
        for word in ["UDP 127.0.0.1:", "> 127.0.0.1:9 ", "dev lo ", "netns whydrop-cli-"] {
            assert!(line.contains(word), "{word:?} in {line}");
        }
    }
    // The stack begins where the packet was freed, not in the tracer; it is written once.
    let mut lines = run.stdout.lines();
    let first = lines.next().expect("a line");
    let site = first.split_whitespace().nth(2).expect("a call site");
    assert_eq!(lines.next().expect("its number").trim(), "stack 1:", "{run:?}");
    assert_eq!(lines.next().expect("a frame").trim(), site, "{run:?}");
    assert_eq!(run.stdout.matches("stack 1, as above").count(), 2, "{run:?}");
    let folds = run.stdout.split("SHOWN").nth(1).expect("the folds");
    assert!(folds.contains(&format!("3      1  NO_SOCKET {site}")), "{run:?}");
}

#[test]
fn json_is_one_object_per_line() {
    if needs_root() {
        return;
    }
    let run = watched("json", 2, &["--reason", "NO_SOCKET", "--format", "ndjson"]);
    let lines: Vec<Value> =
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
    let totals: Vec<Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let packets: u64 = totals.iter().filter_map(|total| total["packets"].as_u64()).sum();
    assert_eq!(packets, 257, "{run:?}");
}

/// Datagrams to closed ports over IPv4 and IPv6, and connections that a rule drops.
fn mixed(netns: &Netns) {
    const RULES: &str = "table inet t {
        chain c {
            type filter hook input priority 0; policy accept
            tcp dport 7777 counter drop
        }
    }";
    const TRAFFIC: &str = "for i in 1 2 3; do echo x > /dev/udp/127.0.0.1/9; done
        for i in 1 2; do echo x > /dev/udp/::1/53; done
        timeout 0.2 bash -c 'echo x > /dev/tcp/127.0.0.1/7777' 2> /dev/null; true";
    netns.run(&["nft", RULES]);
    netns.run(&["bash", "-c", TRAFFIC]);
}

fn objects(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// How many lines there are for each destination port.
fn ports(lines: &[Value]) -> BTreeMap<u64, usize> {
    let mut ports = BTreeMap::new();
    for line in lines {
        let port = line["flow"]["destination"]["port"].as_u64().unwrap_or(0);
        *ports.entry(port).or_default() += 1;
    }
    ports
}

#[test]
fn a_filter_is_decided_before_anything_is_counted() {
    if needs_root() {
        return;
    }
    for (role, filter, expected) in [
        ("f-4", "ip and udp dst port 9", &[(9, 3)][..]),
        ("f-6", "ip6 host ::1 and port 53", &[(53, 2)]),
        ("f-tcp", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", &[(7777, 1)]),
        ("f-not", "udp and not (port 53 or net 10.0.0.0/8)", &[(9, 3)]),
        ("f-len", "udp and greater 60", &[(53, 2)]),
    ] {
        let arguments = ["--format", "ndjson", "--reason", "!TCP_OLD_DATA", "--", filter];
        let run = watched_while(role, &arguments, mixed);
        let expected: BTreeMap<u64, usize> = expected.iter().copied().collect();
        assert_eq!(ports(&objects(&run)), expected, "{filter}: {run:?}");
        assert!(run.stderr.contains("drops that the filter accepts"), "{run:?}");
    }
}

#[test]
fn a_line_says_what_the_report_would() {
    if needs_root() {
        return;
    }
    let run = watched_while("verdict", &["--format", "ndjson"], mixed);
    let lines = objects(&run);
    let of = |port: u64| {
        let to = |line: &&Value| line["flow"]["destination"]["port"] == port;
        lines.iter().find(to).unwrap_or_else(|| panic!("nothing to {port}: {run:?}"))
    };
    assert_eq!(of(9)["schema"], "whydrop.drop/1");
    assert_eq!(of(9)["verdict"]["cause"], "udp-port-closed");
    assert_eq!(of(9)["verdict"]["class"], "peer");
    assert_eq!(of(7777)["verdict"]["cause"], "netfilter-rule-drop");
    let object = of(7777)["verdict"]["object"].as_str().expect("a rule");
    assert!(object.contains("tcp dport 7777"), "{object}");
    assert!(of(9)["time"].as_str().is_some_and(|time| time.len() == 30), "{run:?}");
}

#[test]
fn conditions_are_combined_and_negated() {
    if needs_root() {
        return;
    }
    for (role, conditions, expected) in [
        ("c-class", &["--class", "policy"][..], &[(7777, 1)][..]),
        ("c-cause", &["--cause", "!netfilter-rule-drop,!udp-port-closed"], &[]),
        ("c-layer", &["--layer", "udp", "--dev", "lo", "--site", "!__udp6_lib_rcv"], &[(9, 3)]),
        ("c-site", &["--site", "__udp6_lib_rcv,nft_do_chain"], &[(53, 2), (7777, 1)]),
        ("c-dev", &["--dev", "!lo"], &[]),
    ] {
        let arguments = [conditions, &["--format", "ndjson"]].concat();
        let run = watched_while(role, &arguments, mixed);
        let mut found = ports(&objects(&run));
        // What the handshake that was cut short leaves behind is not this test's business.
        found.retain(|port, _| [9, 53, 7777].contains(port));
        let expected: BTreeMap<u64, usize> = expected.iter().copied().collect();
        assert_eq!(found, expected, "{conditions:?}: {run:?}");
    }
}

/// A receive buffer of the least size, and nobody who reads.
const FLOOD: &str = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
s.bind(('127.0.0.1', 5000))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(200): c.sendto(b'x' * 1000, ('127.0.0.1', 5000))
import time
time.sleep(2)";

#[test]
fn the_owner_is_named() {
    if needs_root() {
        return;
    }
    let traffic = |netns: &Netns| netns.run(&["python3", "-c", FLOOD]);
    let run = watched_while("owner", &["--reason", "SOCKET_RCVBUFF"], traffic);
    let line = run.stdout.lines().next().unwrap_or_else(|| panic!("{run:?}"));
    assert!(line.contains(" owner python3["), "{line}");
    assert!(line.contains("cause udp-receive-buffer-full"), "{line}");
}

/// What tshark says of a capture file, tab-separated; `None` without tshark.
fn tshark(path: &Path, fields: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Some(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

#[test]
fn wireshark_shows_why_each_packet_died() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let path = folder.path().join("drops.pcapng");
    let shown = path.display().to_string();
    let before = std::time::SystemTime::now();
    let run = watched_while("pcapng", &["-w", &shown, "--snaplen", "64"], mixed);
    assert_eq!((run.status, run.stdout.as_str()), (Some(0), ""), "{run:?}");
    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "frame.interface_description",
        "frame.len",
        "frame.cap_len",
        "ip.dst",
        "tcp.dstport",
        "udp.dstport",
        "frame.comment",
    ];
    let Some(packets) = tshark(&path, &fields) else {
        println!("skipped: no tshark here");
        return;
    };
    let port = |packet: &Vec<String>| packet[6].clone() + &packet[7];
    let of = |wanted: &str| packets.iter().filter(|one| port(one) == wanted).collect::<Vec<_>>();
    assert_eq!((of("9").len(), of("53").len(), of("7777").len()), (3, 2, 1), "{packets:?}");
    let since = |time| std::time::SystemTime::duration_since(&time, std::time::UNIX_EPOCH);
    let (from, to) = (since(before), since(std::time::SystemTime::now()));
    let (from, to) = (from.expect("a time").as_secs_f64(), to.expect("a time").as_secs_f64());
    for packet in &packets {
        let time: f64 = packet[0].parse().expect("a time");
        assert!((from..=to).contains(&time), "{packet:?}");
        assert_eq!(packet[0].split_once('.').expect("a fraction").1.len(), 9, "nanoseconds");
        assert_eq!(packet[1], "lo", "{packet:?}");
        assert!(packet[2].starts_with("netns whydrop-cli-"), "{packet:?}");
        assert!(packet[8].starts_with("dropped: "), "{packet:?}");
    }
    // 14 bytes of Ethernet, 20 of IPv4, 8 of UDP, 2 of data.
    assert_eq!((of("9")[0][3].as_str(), of("9")[0][4].as_str()), ("44", "44"));
    assert!(of("9")[0][8].contains("cause: udp-port-closed"), "{:?}", of("9"));
    // 74 bytes, of which 64 were asked for.
    assert_eq!((of("7777")[0][3].as_str(), of("7777")[0][4].as_str()), ("74", "64"));
    let comment = &of("7777")[0][8];
    assert!(comment.contains("NETFILTER_DROP at nft_do_chain+"), "{comment}");
    assert!(comment.contains("by: rule ") && comment.contains("dport 7777"), "{comment}");

    // whydrop reads it again, and filters what it reads.
    let again = whydrop(&["watch", "-r", &shown, "--format", "ndjson", "udp port 9"]);
    let lines = objects(&again);
    assert_eq!(ports(&lines), BTreeMap::from([(9, 3)]), "{again:?}");
    assert_eq!(lines[0]["verdict"]["cause"], "udp-port-closed");
    assert_eq!(lines[0]["device"], "lo");
    let policy = whydrop(&["watch", "-r", &shown, "--class", "policy"]);
    assert!(policy.stdout.contains("cause netfilter-rule-drop/rule (policy): rule "), "{policy:?}");
    assert_eq!(policy.stdout.lines().count(), 1, "{policy:?}");
}

#[test]
fn a_capture_goes_down_a_pipe() {
    if needs_root() {
        return;
    }
    let netns = Netns::new("pipe");
    let folder = scratch();
    let arguments = ["watch", "--netns", netns.name(), "--quick", "-w", "-"];
    let child = started(&arguments, &folder.path().join("ready"));
    netns.send_to_closed_port(2);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    let path = folder.path().join("piped.pcapng");
    std::fs::write(&path, &output.stdout).expect("written");
    let read = whydrop(&["watch", "-r", &path.display().to_string()]);
    assert_eq!(read.stdout.matches("> 127.0.0.1:9 ").count(), 2, "{read:?}");
}

#[test]
fn the_drops_of_a_recording_are_shown_with_their_causes() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/evidence-1.whydrop");
    let run = whydrop(&["watch", "-r", recording, "--class", "policy,fault"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(run.stdout.contains("cause netfilter-rule-drop"), "{run:?}");
    let refused = whydrop(&["watch", "-r", recording, "tcp"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("holds no packets"), "{refused:?}");
}

#[test]
fn a_namespace_is_named_by_its_inode_too() {
    if needs_root() {
        return;
    }
    let netns = Netns::new("inode");
    let output = run(Command::new("stat").args(["-Lc", "%i"]).arg(netns.path()));
    let folder = scratch();
    let arguments = ["watch", "--netns", output.stdout.trim(), "--reason", "NO_SOCKET"];
    let child = started(&arguments, &folder.path().join("ready"));
    netns.send_to_closed_port(2);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(shown.matches("> 127.0.0.1:9 ").count(), 2, "{output:?}");
    assert!(shown.contains("cause udp-port-closed"), "{output:?}");
}

#[test]
fn stacks_are_drawn_as_a_flame_graph() {
    if needs_root() {
        return;
    }
    let folder = scratch();
    let path = folder.path().join("drops.svg");
    let arguments = ["--flame", &path.display().to_string(), "--reason", "NO_SOCKET"];
    let run = watched("flame", 3, &arguments);
    assert_eq!(run.status, Some(0), "{run:?}");
    let image = std::fs::read_to_string(&path).expect("written");
    assert!(image.contains("<svg") && image.contains("__udp4_lib_rcv"), "{}", image.len());
    assert!(!image.contains("bpf_prog"), "the tracer's own frames are in it");
    assert!(!run.stdout.contains("stack 1"), "stacks were not asked for: {run:?}");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line() {
    for (arguments, words) in [
        (&["tcp port htpp"][..], "at character 10 (htpp): did you mean http?"),
        (&["vlan", "5"], "use --dev"),
        (&["--cause", "udp-port-close"], "did you mean udp-port-closed?"),
        (&["--class", "noise"], "there are fault, policy"),
        (&["--layer", "udpp"], "did you mean udp?"),
        (&["-r", "/no/such/file"], "cannot read /no/such/file"),
        (&["-w", "/no/such/folder/file"], "cannot write /no/such/folder/file"),
        (&["--snaplen", "9", "-w", "x"], "64..=8192"),
        (&["--quick", "--class", "fault"], "cannot be used with"),
    ] {
        if arguments[0] == "-w" && needs_root() {
            continue;
        }
        let run = run(Command::new(crate::program::path()).arg("watch").args(arguments));
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.stderr.contains(words), "{arguments:?}: {run:?}");
    }
}

/// A flood over IPv4, and a few datagrams over IPv6 in the middle of it.
const FLOOD_AND_FEW: &str = "import socket
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
few = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(100000):
    flood.sendto(b'x', ('127.0.0.1', 9))
    if i % 20000 == 10000: few.sendto(b'x', ('::1', 53))";

#[test]
fn a_flood_hides_nothing_and_is_counted_exactly() {
    if needs_root() {
        return;
    }
    let traffic = |netns: &Netns| netns.run(&["python3", "-c", FLOOD_AND_FEW]);
    let filter = ["--quick", "udp", "and", "dst", "port", "9", "or", "53"];
    let run = watched_while("flood", &filter, traffic);
    assert_eq!(run.stdout.matches("> [::1]:53 ").count(), 5, "{}", run.stderr);
    let shown = run.stdout.matches("> 127.0.0.1:9 ").count();
    assert!((1..50_000).contains(&shown), "{shown} of the flood were shown");
    let count = |before: &str, after: &str| {
        let text = run.stderr.split(before).nth(1).and_then(|rest| rest.split(after).next());
        text.and_then(|text| text.trim().parse::<u64>().ok()).expect("a number")
    };
    let missed = count("ring space; ", " missed");
    assert!(count("whydrop: ", " drops that the filter") + missed >= 100_005, "{}", run.stderr);

    // Exactly, where nobody else is counted.
    let counting = [&["--count", "--format", "ndjson"], &filter[1..]].concat();
    let run = watched_while("flood-count", &counting, traffic);
    let packets: u64 = objects(&run).iter().filter_map(|total| total["packets"].as_u64()).sum();
    let text = run.stderr.split("; ").nth(1).and_then(|rest| rest.split(' ').next());
    let missed: u64 = text.and_then(|text| text.parse().ok()).expect("a number");
    assert!(packets <= 100_005 && packets + missed >= 100_005, "{packets}, {missed}: {run:?}");
}
