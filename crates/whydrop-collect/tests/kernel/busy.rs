//! Field by field, what whydrop reads in a namespace full of traffic equals what the usual tools
//! say: nothing differs by more than what moved between their readings.
//!
//! The tools read first, then the window opens, the tools read again, the window closes, and they
//! read a third time. So every counter of theirs must not be above, and in the next reading not
//! below, the one of ours in between.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use whydrop_collect::Watch;
use whydrop_model::{Counters, Namespace, Pair};

use crate::netns::{Netns, find, only, wait_for};
use crate::root;
use crate::stack::{json, pair, tc};

const SOON: Duration = Duration::from_secs(10);

/// Who tells; the first word of every name below.
const TOOLS: [&str; 7] = ["nstat", "ip", "ethtool", "ss", "tc", "nft", "conntrack"];

/// What it counts is errors alone, and of those nothing here makes any.
const STILL: &str = "conntrack";

const RULES: &str = "table inet t { chain c { type filter hook input priority 0; \
    ct state established counter accept; udp dport 9005 counter drop; ct state new counter; }; }";

/// What tools print, by names that begin with the tool's.
type Values = BTreeMap<String, u64>;

/// What does not only grow: levels, whose value between two readings is anybody's guess.
fn is_level(name: &str) -> bool {
    name == "nstat TcpCurrEstab"
}

fn read(netns: &Netns) -> Values {
    let mut values = Values::new();
    nstat(netns, &mut values);
    ip(netns, &mut values);
    ethtool(netns, &mut values);
    ss(netns, &mut values);
    qdiscs(netns, &mut values);
    rules(netns, &mut values);
    conntrack(netns, &mut values);
    values
}

fn nstat(netns: &Netns, values: &mut Values) {
    let output = Command::new("ip")
        .args(["netns", "exec", &netns.0, "nstat", "-aszj"])
        .env("NSTAT_HISTORY", format!("/tmp/{}.nstat", netns.0))
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, value) in shown["kernel"].as_object().unwrap() {
        values.insert(format!("nstat {name}"), value.as_u64().unwrap());
    }
}

fn ip(netns: &Netns, values: &mut Values) {
    for link in json(&netns.ip("-s -s -j link")) {
        for direction in ["rx", "tx"] {
            for (field, value) in link["stats64"][direction].as_object().unwrap() {
                let name = match field.as_str() {
                    "multicast" | "collisions" => field.clone(),
                    "otherhost" => "rx_otherhost_dropped".to_owned(),
                    "carrier_changes" => continue,
                    _ => format!("{direction}_{field}"),
                };
                let device = link["ifname"].as_str().unwrap();
                values.insert(format!("ip {device} {name}"), value.as_u64().unwrap());
            }
        }
    }
}

fn ethtool(netns: &Netns, values: &mut Values) {
    for line in netns.exec(&["ethtool", "-S", "v0"]).lines() {
        let Some((name, value)) = line.rsplit_once(':') else { continue };
        if let Ok(value) = value.trim().parse() {
            values.insert(format!("ethtool v0 {}", name.trim()), value);
        }
    }
}

/// By address and port, with what the kernel keeps per socket and who holds it.
fn ss(netns: &Netns, values: &mut Values) {
    for line in netns.exec(&["ss", "-HtulnpOm"]).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = format!("ss {} {}", words[0], words[4]);
        let (_, memory) = line.split_once("skmem:(").unwrap();
        let (fields, _) = memory.split_once(')').unwrap();
        for field in fields.split(',') {
            let digits = field.find(|it: char| it.is_ascii_digit()).unwrap();
            let (field, value) = field.split_at(digits);
            // What is charged to the buffers of a socket in use is never the same twice.
            if matches!(field, "d" | "rb" | "tb") && (field == "d" || words[0] == "udp") {
                values.insert(format!("{name} {field}"), value.parse().unwrap());
            }
        }
        if words[0] == "tcp" {
            values.insert(format!("{name} backlog"), words[3].parse().unwrap());
        }
        let (_, holder) = line.split_once(",pid=").unwrap();
        let (pid, _) = holder.split_once(',').unwrap();
        values.insert(format!("{name} pid"), pid.parse().unwrap());
    }
}

fn qdiscs(netns: &Netns, values: &mut Values) {
    for qdisc in json(&tc(netns, "-s -j qdisc")) {
        let (device, kind) = (qdisc["dev"].as_str().unwrap(), qdisc["kind"].as_str().unwrap());
        for field in ["bytes", "packets", "drops", "overlimits", "requeues"] {
            if kind != "noqueue" {
                let value = qdisc[field].as_u64().unwrap();
                values.insert(format!("tc {device} {kind} {field}"), value);
            }
        }
    }
}

fn rules(netns: &Netns, values: &mut Values) {
    let shown = netns.exec(&["nft", "-j", "-a", "list", "ruleset"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for rule in shown["nftables"].as_array().unwrap().iter().filter_map(|it| it.get("rule")) {
        let expressions = rule["expr"].as_array().unwrap();
        let counter = expressions.iter().find_map(|it| it.get("counter")).unwrap();
        for field in ["packets", "bytes"] {
            let value = counter[field].as_u64().unwrap();
            values.insert(format!("nft {} {field}", rule["handle"]), value);
        }
    }
}

fn conntrack(netns: &Netns, values: &mut Values) {
    for word in netns.exec(&["conntrack", "-S"]).split_whitespace() {
        let Some((name, value)) = word.split_once('=') else { continue };
        let name = match name {
            "cpu" => continue,
            "clash_resolve" => "clashres",
            "error" => "icmp_error",
            // In `/proc` it stands under its old name.
            "chaintoolong" => "chainlength",
            name => name,
        };
        *values.entry(format!("conntrack {name}")).or_default() += value.parse::<u64>().unwrap();
    }
}

/// The same from what was observed.
fn observed(namespace: &Namespace) -> BTreeMap<String, Pair> {
    let mut values = BTreeMap::new();
    for (name, pair) in &namespace.counters {
        let (group, rest) = name.split_once('.').unwrap();
        let name = match group {
            "snmp6" => format!("nstat {rest}"),
            "nf_conntrack" => format!("conntrack {rest}"),
            _ => format!("nstat {group}{rest}"),
        };
        values.insert(name, *pair);
    }
    let mut put = |name: &str, counters: &Counters| {
        for (field, pair) in counters {
            values.insert(format!("{name} {field}"), *pair);
        }
    };
    for link in &namespace.links {
        put(&format!("ip {}", link.name), &link.stats);
        put(&format!("ethtool {}", link.name), &link.ethtool);
    }
    for qdisc in &namespace.qdiscs {
        let link = namespace.links.iter().find(|link| link.ifindex == qdisc.ifindex).unwrap();
        put(&format!("tc {} {}", link.name, qdisc.kind), &qdisc.stats);
    }
    for rule in namespace.netfilter.iter().flat_map(|it| &it.chains).flat_map(|it| &it.rules) {
        values.insert(format!("nft {} packets", rule.handle), rule.packets.unwrap());
        values.insert(format!("nft {} bytes", rule.handle), rule.bytes.unwrap());
    }
    let still = |value: u32| Pair { before: value.into(), after: value.into() };
    for listener in &namespace.listeners {
        let name = format!("ss tcp {}", listener.endpoint());
        values.insert(format!("{name} d"), listener.drops);
        values.insert(format!("{name} backlog"), listener.backlog);
        values.insert(format!("{name} pid"), still(listener.owners[0].pid));
    }
    for socket in namespace.sockets.iter().filter(|it| it.remote.is_none()) {
        let Some(local) = socket.local else { continue };
        let (name, memory) = (format!("ss udp {local}"), socket.memory.unwrap());
        values.insert(format!("{name} d"), socket.drops);
        values.insert(format!("{name} rb"), still(memory.rcvbuf));
        values.insert(format!("{name} tb"), still(memory.sndbuf));
        if let Some(owner) = socket.owners.first() {
            values.insert(format!("{name} pid"), still(owner.pid));
        }
    }
    values
}

/// Traffic from `b` that every layer of `a` counts or loses, until it is told to stop.
fn disturb(b: &Netns, stop: &AtomicBool) {
    b.inside(|| {
        let datagrams = UdpSocket::bind("192.0.2.2:0").unwrap();
        let mut half_begun = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            // Nobody's port, a rule's, a socket that is full, and one that answers.
            for port in [9, 9005, 5000, 5001] {
                let _ = datagrams.send_to(&[0; 500], ("192.0.2.1", port));
            }
            // Which may take its time where answers are lost, so nobody waits for it for long.
            let server = ([192, 0, 2, 1], 8081).into();
            drop(TcpStream::connect_timeout(&server, Duration::from_millis(5)));
            // The queue of this one is full: each is refused, and few are kept trying.
            let refused = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            refused.set_nonblocking(true).unwrap();
            let full = std::net::SocketAddr::from(([192, 0, 2, 1], 8080));
            refused.connect(&full.into()).unwrap_err();
            half_begun.push(refused);
            if half_begun.len() > 20 {
                half_begun.remove(0);
            }
        }
    });
}

/// What answers in `a`; each answer is more than the queue of its device lets through.
fn answer(echo: &UdpSocket, accepting: &TcpListener, stop: &AtomicBool) {
    accepting.set_nonblocking(true).unwrap();
    echo.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while !stop.load(Ordering::Relaxed) {
        while accepting.accept().is_ok() {}
        let Ok((_, from)) = echo.recv_from(&mut [0; 600]) else { continue };
        for _ in 0..3 {
            let _ = echo.send_to(&[0; 900], from);
        }
    }
}

#[test]
fn a_busy_namespace_is_told_as_the_usual_tools_tell_it() {
    let Some(_turn) = root() else { return };
    let (a, b) = pair("busy", 1);
    tc(&a, "qdisc add dev v0 root handle 1: tbf rate 20mbit burst 3000 limit 6000");
    a.exec(&["nft", RULES]);
    // With GRO, and from a sender that does not segment, the driver counts by itself.
    a.exec(&["ethtool", "-K", "v0", "gro", "on"]);
    b.exec(&["ethtool", "-K", "w0", "tso", "off"]);
    let (full, echo, refusing, accepting) = a.inside(|| {
        let refusing = TcpListener::bind("192.0.2.1:8080").unwrap();
        rustix::net::listen(&refusing, 2).unwrap();
        (
            UdpSocket::bind("192.0.2.1:5000").unwrap(),
            UdpSocket::bind("192.0.2.1:5001").unwrap(),
            refusing,
            TcpListener::bind("192.0.2.1:8081").unwrap(),
        )
    });
    let stop = AtomicBool::new(false);
    let (readings, observation) = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&b, &stop));
        scope.spawn(|| answer(&echo, &accepting, &stop));
        // Also when this thread panics, or the others would never end.
        let guard = StopOnDrop(&stop);
        wait_for("losses in all layers", SOON, || {
            let now = read(&a);
            ["ss udp 192.0.2.1:5000 d", "ss tcp 192.0.2.1:8080 d", "tc v0 tbf drops"]
                .iter()
                .all(|name| now[*name] > 0)
        });
        let first = read(&a);
        let watch = Watch::open(only(&[&a])).unwrap();
        let second = read(&a);
        let observation = watch.close();
        let mut third = read(&a);
        wait_for("something to move in every tool", SOON, || {
            third = read(&a);
            let moved = |tool: &&str| {
                first.iter().any(|(name, value)| name.starts_with(*tool) && third[name] > *value)
            };
            TOOLS.iter().all(|tool| moved(tool) || *tool == STILL)
        });
        drop(guard);
        ([first, second, third], observation)
    });
    assert_eq!(observation.not_checked, []);
    compare(&readings, &observed(find(&observation, a.inode())));
    drop((full, refusing));
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn compare(readings: &[Values; 3], ours: &BTreeMap<String, Pair>) {
    let [first, second, third] = readings;
    let mut compared: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, first) in first.iter().filter(|(name, _)| !is_level(name)) {
        let (second, third) = (second[name], third[name]);
        let Some(ours) = ours.get(name) else {
            // The owner of a UDP socket that loses nothing is not searched for.
            let drops = name.strip_suffix("pid").and_then(|socket| ours.get(&format!("{socket}d")));
            if drops.is_some_and(|drops| name.starts_with("ss udp") && drops.delta32() == 0) {
                continue;
            }
            wrong.push(format!("{name} was not read"));
            continue;
        };
        let Pair { before, after } = *ours;
        if !(*first <= before && before <= second && second <= after && after <= third) {
            wrong.push(format!("{name}: {first}, ours {before}, {second}, ours {after}, {third}"));
        }
        let counts = compared.entry(name.split(' ').next().unwrap()).or_default();
        counts.0 += 1;
        counts.1 += u32::from(*first < third);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for tool in TOOLS {
        let (fields, moved) = compared.get(tool).copied().unwrap_or_default();
        eprintln!("{tool}: {fields} fields equal, {moved} of them moving");
        assert!(fields > 0, "{tool} showed nothing: {first:?}");
    }
}
