//! What lies between devices and sockets, as whydrop reads it, equals what `tc`, `nft`,
//! `iptables-legacy`, `ip` and `conntrack` say once the traffic has stopped.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use whydrop_collect::Observation;
use whydrop_model::{Chain, Counters, Namespace, Qdisc, Rule, RuleVerdict, TcHandle};

use crate::netns::{Netns, find, observe, wait_for};
use crate::root;

const SOON: Duration = Duration::from_secs(10);

/// Two namespaces joined by as many links as asked for: `v0` with 192.0.2.1, `v1` with 198.51.100.1
/// and `v2` with 203.0.113.1 in the first, with 2 at the end in the second. Nothing is sent unasked:
/// no neighbour discovery and no ARP.
pub(crate) fn pair(tag: &str, links: usize) -> (Netns, Netns) {
    let (a, b) = (Netns::new(&format!("{tag}-a")), Netns::new(&format!("{tag}-b")));
    for netns in [&a, &b] {
        netns.exec(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    }
    for (at, network) in ["192.0.2", "198.51.100", "203.0.113"].iter().take(links).enumerate() {
        a.ip(&format!(
            "link add v{at} address 02:00:00:00:0{at}:01 type veth peer name w{at} \
             address 02:00:00:00:0{at}:02 netns {}",
            b.0
        ));
        for (netns, device, own, other) in [(&a, "v", 1, 2), (&b, "w", 2, 1)] {
            netns.ip(&format!("addr add {network}.{own}/24 dev {device}{at}"));
            netns.ip(&format!("link set {device}{at} up"));
            netns.ip(&format!(
                "neigh add {network}.{other} lladdr 02:00:00:00:0{at}:0{other} dev {device}{at} \
                 nud permanent"
            ));
        }
    }
    (a, b)
}

/// Sends datagrams to nobody's port; refusals on the way do not matter.
fn send(netns: &Netns, address: &str, count: usize, length: usize) {
    netns.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..count {
            let _ = socket.send_to(&vec![b'x'; length], address);
        }
    });
}

pub(crate) fn tc(netns: &Netns, arguments: &str) -> String {
    let mut all = vec!["tc"];
    all.extend(arguments.split(' '));
    netns.exec(&all)
}

pub(crate) fn json(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap().as_array().unwrap().clone()
}

fn after(counters: &Counters, name: &str) -> u64 {
    counters.get(name).unwrap_or_else(|| panic!("no {name} in {counters:?}")).after
}

/// A namespace with every queueing discipline that this test knows to ask for, read while they drop.
fn shaped(a: &Netns, b: &Netns) -> Observation {
    tc(a, "qdisc add dev v0 root handle 1: tbf rate 1mbit burst 2000 limit 10000");
    tc(a, "qdisc add dev v1 root handle 1: htb default 10");
    tc(a, "class add dev v1 parent 1: classid 1:1 htb rate 10mbit");
    tc(a, "class add dev v1 parent 1:1 classid 1:10 htb rate 1mbit ceil 2mbit burst 2k");
    tc(a, "qdisc add dev v1 parent 1:10 handle 10: pfifo limit 5");
    tc(a, "qdisc add dev v2 clsact");
    tc(
        a,
        "filter add dev v2 ingress protocol ip prio 7 u32 match ip protocol 17 0xff \
         action mirred egress mirror dev v2 drop",
    );
    observe(&[a], || {
        send(a, "192.0.2.2:9", 60, 1000);
        send(a, "198.51.100.2:9", 60, 1000);
        send(b, "203.0.113.1:9", 7, 10);
        wait_for("the queues to drain", SOON, || {
            json(&tc(a, "-s -j qdisc")).iter().all(|it| it["qlen"] == 0)
        });
    })
}

#[test]
fn queues_classes_and_filters_equal_those_of_tc() {
    let Some(_turn) = root() else { return };
    let (a, b) = pair("tc", 3);
    let observation = shaped(&a, &b);
    let namespace = find(&observation, a.inode());
    assert_eq!(observation.not_checked, []);
    let device = |ifindex| {
        namespace.links.iter().find(|link| link.ifindex == ifindex).unwrap().name.as_str()
    };
    let mut shown = json(&tc(&a, "-s -j qdisc show invisible"));
    shown.retain(|it| it["kind"] != "noqueue");
    let (classes, qdiscs): (Vec<_>, Vec<_>) = namespace.qdiscs.iter().partition(|it| it.class);
    assert_eq!(shown.len(), qdiscs.len());
    for (theirs, ours) in shown.iter().zip(&qdiscs) {
        assert_eq!(
            (&theirs["kind"], &theirs["dev"]),
            (&ours.kind.as_str().into(), &device(ours.ifindex).into())
        );
        let handle = if ours.handle.0 == 0 { "0:".into() } else { ours.handle.to_string() };
        assert_eq!(theirs["handle"], handle);
        assert_eq!(theirs["root"] == true, ours.parent == TcHandle::ROOT);
        if let Some(parent) = theirs["parent"].as_str() {
            assert_eq!(parent, ours.parent.to_string());
        }
        for name in ["bytes", "packets", "drops", "overlimits", "requeues"] {
            assert_eq!(theirs[name], after(&ours.stats, name), "{name} of {ours:?}");
        }
        assert_eq!(
            (&theirs["qlen"], &theirs["backlog"]),
            (&ours.qlen.after.into(), &ours.backlog.after.into())
        );
        for (their_name, name) in [("rate", "rate_bytes"), ("burst", "burst_bytes")] {
            if let Some(value) = theirs["options"][their_name].as_u64() {
                assert_eq!(ours.options[name], value, "{ours:?}");
            }
        }
    }
    let drops = |kind: &str| {
        let of = |it: &&&Qdisc| it.kind == kind;
        qdiscs.iter().find(of).unwrap().stats["drops"].delta()
    };
    assert!(drops("tbf") >= 40 && drops("pfifo") >= 40, "{qdiscs:?}");
    assert_eq!(drops("clsact"), 7);
    same_classes(&a, &classes);

    let [filter] = &namespace.filters[..] else { panic!("{:?}", namespace.filters) };
    assert_eq!((device(filter.ifindex), filter.parent), ("v2", TcHandle::CLSACT_INGRESS));
    let shown = json(&tc(&a, "-s -j filter show dev v2 ingress"));
    let theirs = &shown.last().unwrap()["options"]["actions"][0];
    let [ours] = &filter.actions[..] else { panic!("{filter:?}") };
    assert_eq!(
        (shown[0]["pref"].as_u64(), &theirs["kind"]),
        (Some(filter.priority.into()), &ours.kind.as_str().into())
    );
    for name in ["bytes", "packets", "drops", "overlimits"] {
        assert_eq!(theirs["stats"][name], after(&ours.stats, name), "{name}");
    }
    assert_eq!(ours.stats["packets"].delta(), 7);
    assert_eq!(ours.verdict.as_deref(), Some("shot"));
    assert_eq!(device(ours.mirred.as_ref().unwrap().ifindex), "v2");
}

/// In words, because the JSON of `tc class` is broken in Debian 12.
fn same_classes(netns: &Netns, classes: &[&Qdisc]) {
    let shown = tc(netns, "-s class show dev v1");
    assert_eq!(classes.len(), 2);
    for class in classes {
        let name = format!("class htb {} ", class.handle);
        let text = &shown[shown.find(&name).unwrap()..];
        let sent = text[text.find("Sent ").unwrap()..].lines().next().unwrap();
        let [bytes, packets, drops, overlimits, requeues] =
            ["bytes", "packets", "drops", "overlimits", "requeues"]
                .map(|name| after(&class.stats, name));
        let ours = format!(
            "Sent {bytes} bytes {packets} pkt (dropped {drops}, overlimits {overlimits} requeues \
             {requeues}) "
        );
        assert_eq!(sent, ours);
    }
    let leaf = classes.iter().find(|class| class.handle == TcHandle(0x1_0010)).unwrap();
    assert_eq!((leaf.options["rate_bytes"], leaf.options["ceil_bytes"]), (125_000, 250_000));
    assert_eq!(leaf.options["burst_bytes"], 2048);
}

#[test]
fn rules_equal_those_of_nft() {
    let Some(_turn) = root() else { return };
    let (a, b) = pair("nft", 1);
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/ruleset.nft");
    a.exec(&["nft", "-f", rules]);
    let observation = observe(&[&a], || {
        send(&b, "192.0.2.1:9005", 5, 10);
        send(&b, "192.0.2.1:77", 3, 10);
    });
    let chains = &find(&observation, a.inode()).netfilter.as_ref().unwrap().chains;
    assert_eq!(observation.not_checked, []);
    let shown: Value =
        serde_json::from_str(&a.exec(&["nft", "-j", "-a", "list", "ruleset"])).unwrap();
    let (mut seen_chains, mut seen_rules) = (0, 0);
    for object in shown["nftables"].as_array().unwrap() {
        if let Some(theirs) = object.get("chain") {
            same_chain(theirs, chain_of(chains, theirs, "name"));
            seen_chains += 1;
        } else if let Some(theirs) = object.get("rule") {
            same_rule(theirs, chain_of(chains, theirs, "chain"));
            seen_rules += 1;
        }
    }
    assert_eq!(seen_chains, chains.len());
    assert_eq!(seen_rules, chains.iter().map(|chain| chain.rules.len()).sum::<usize>());
    let listed = a.exec(&["nft", "-a", "list", "ruleset"]);
    for rule in chains.iter().flat_map(|chain| &chain.rules).filter(|it| it.packets.is_none()) {
        let line = format!("\t\t{} # handle {}\n", rule.text, rule.handle);
        assert!(listed.contains(&line), "{line}{listed}");
    }
    let blocked = chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .find(|rule| rule.text == "udp dport { 9000-9010 } counter drop")
        .unwrap();
    assert_eq!((blocked.packets.unwrap().delta(), blocked.bytes.unwrap().delta()), (5, 190));
}

fn chain_of<'a>(chains: &'a [Chain], theirs: &Value, name: &str) -> &'a Chain {
    chains
        .iter()
        .find(|chain| {
            theirs["family"] == chain.family
                && theirs["table"] == chain.table
                && theirs[name] == chain.name
        })
        .unwrap_or_else(|| panic!("no chain for {theirs}"))
}

fn same_chain(theirs: &Value, ours: &Chain) {
    assert_eq!(theirs["handle"], ours.handle);
    assert_eq!(theirs["hook"].as_str(), ours.hook.as_ref().map(|hook| hook.name.as_str()));
    if let Some(hook) = &ours.hook {
        assert_eq!(theirs["prio"], hook.priority);
        assert_eq!(theirs["type"], hook.kind);
        assert_eq!(theirs["policy"] == "drop", hook.policy_drop);
    }
}

fn same_rule(theirs: &Value, chain: &Chain) {
    let ours = chain.rules.iter().find(|rule| theirs["handle"] == rule.handle).unwrap();
    assert_eq!(theirs["comment"].as_str(), ours.comment.as_deref());
    let expressions = theirs["expr"].as_array().unwrap();
    let of = |name: &str| expressions.iter().find_map(|it| it.get(name));
    // One with a name is shown apart.
    let counter = of("counter").filter(|counter| counter.is_object());
    if of("counter").is_some_and(Value::is_string) {
        assert_eq!(ours.packets.map(|it| it.after), Some(3));
        return;
    }
    assert_eq!(counter.map(|it| it["packets"].as_u64().unwrap()), ours.packets.map(|it| it.after));
    assert_eq!(counter.map(|it| it["bytes"].as_u64().unwrap()), ours.bytes.map(|it| it.after));
    assert_eq!(of("limit").is_some() || of("quota").is_some(), ours.limited);
    if of("vmap").is_none() {
        assert_eq!(of("drop").is_some(), ours.verdicts.contains(&RuleVerdict::Drop), "{ours:?}");
        assert_eq!(of("accept").is_some(), ours.verdicts.contains(&RuleVerdict::Accept));
        assert_eq!(of("reject").is_some(), ours.verdicts.contains(&RuleVerdict::Reject));
    }
}

#[test]
fn neighbours_routes_and_settings_equal_those_of_ip() {
    let Some(_turn) = root() else { return };
    let (a, _b) = pair("ip", 1);
    for command in [
        "route add blackhole 10.1.0.0/16",
        "route add prohibit 10.2.0.0/16 table 77",
        "route add default via 192.0.2.2",
        "rule add from 10.9.0.0/16 unreachable priority 100",
        "link add v0.7 type veth peer name v0.8",
    ] {
        a.ip(command);
    }
    a.exec(&[
        "sysctl",
        "-qw",
        "net.ipv4.conf.v0/7.rp_filter=2",
        "net.ipv4.neigh.v0.unres_qlen_bytes=5000",
    ]);
    let observation = observe(&[&a], || {
        send(&a, "192.0.2.99:9", 3, 10);
        wait_for("the neighbour to fail", SOON, || a.ip("neigh").contains("FAILED"));
    });
    let namespace = find(&observation, a.inode());
    let neighbours = namespace.neighbours.as_ref().unwrap();
    let [failed] = &neighbours.troubled[..] else { panic!("{neighbours:?}") };
    assert_eq!(
        (failed.address.to_string().as_str(), failed.state.as_str()),
        ("192.0.2.99", "FAILED")
    );
    let shown = json(&a.ip("-j neigh"));
    let counted: u32 = neighbours.counts.iter().map(|it| it.count).sum();
    assert_eq!(counted as usize, shown.len());
    let failures = observation.neighbour_tables.iter().find(|it| it.name == "arp_cache").unwrap();
    assert!(failures.stats["res_failed"].delta() >= 1, "{failures:?}");
    assert!(failures.gc_thresh3 >= failures.gc_thresh2 && failures.entries >= 2);

    let routes = namespace.routes.as_ref().unwrap();
    let shown = json(&a.ip("-4 -j route show table all"));
    assert_eq!(routes.counts["ipv4"] as usize, shown.len());
    let kinds: Vec<&str> = routes.discarding.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["prohibit", "blackhole"]);
    assert_eq!(routes.defaults[0].gateway, Some("192.0.2.2".parse().unwrap()));
    assert_eq!(routes.rules[0].action, "unreachable");
    let rules = json(&a.ip("-4 -j rule")).len() + json(&a.ip("-6 -j rule")).len();
    assert_eq!(routes.rule_count as usize, rules);
    same_settings(&a, namespace);
}

/// Every setting that was kept equals what `sysctl` says.
fn same_settings(netns: &Netns, namespace: &Namespace) {
    assert_eq!(namespace.sysctl("net.ipv4.conf.v0/7.rp_filter"), Some(2));
    assert_eq!(namespace.sysctl("net.ipv4.neigh.v0.unres_qlen_bytes"), Some(5000));
    assert_eq!(namespace.sysctl("net.ipv6.conf.v0.disable_ipv6"), Some(1));
    assert_eq!(namespace.sysctl("net.ipv4.conf.v0.rp_filter"), None, "as for all devices");
    let of_devices: Vec<&str> =
        namespace.sysctls.keys().map(String::as_str).filter(|name| name.contains(".v0")).collect();
    assert!(of_devices.len() >= 4, "{of_devices:?}");
    for name in of_devices {
        let theirs = netns.exec(&["sysctl", "-n", name]);
        assert_eq!(theirs.trim(), namespace.sysctls[name], "{name}");
    }
}

#[test]
fn connection_tracking_equals_that_of_conntrack() {
    let Some(_turn) = root() else { return };
    let (a, b) = pair("ct", 1);
    let listener = a.inside(|| TcpListener::bind("192.0.2.1:8080").unwrap());
    let mut client = b.inside(|| TcpStream::connect("192.0.2.1:8080").unwrap());
    let (server, _) = listener.accept().unwrap();
    // From here on the connection is one that tracking has not seen begin, and may not pick up.
    a.exec(&[
        "nft",
        "table ip t { chain c { type filter hook input priority 0; ct state invalid counter; }; }",
    ]);
    a.exec(&["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"]);
    let observation = observe(&[&a], || {
        client.write_all(b"late").unwrap();
        wait_for("the segment to arrive", SOON, || {
            a.exec(&["ss", "-Htn", "state", "established"]).contains(" 4 ")
                || a.exec(&["ss", "-Htn", "state", "established"]).starts_with('4')
        });
        send(&b, "192.0.2.1:9", 3, 10);
    });
    let namespace = find(&observation, a.inode());
    assert_eq!(observation.not_checked, []);
    assert!(namespace.delta("nf_conntrack.invalid").unwrap() >= 1);
    assert_eq!(namespace.delta("nf_conntrack.drop"), Some(0));
    assert_eq!(namespace.sysctl("net.netfilter.nf_conntrack_tcp_loose"), Some(0));
    assert!(namespace.sysctl("net.netfilter.nf_conntrack_max").unwrap() > 0);
    let entries: u64 =
        a.exec(&["sysctl", "-n", "net.netfilter.nf_conntrack_count"]).trim().parse().unwrap();
    assert_eq!(namespace.gauges["nf_conntrack.entries"].after, entries);
    let shown = a.exec(&["conntrack", "-S"]);
    let mut compared = 0;
    for (theirs, ours) in [
        ("invalid", "invalid"),
        ("insert_failed", "insert_failed"),
        ("drop", "drop"),
        ("early_drop", "early_drop"),
        ("clash_resolve", "clashres"),
        ("found", "found"),
    ] {
        let words = shown.split_whitespace().filter_map(|word| word.split_once('='));
        let sum: u64 =
            words.filter(|word| word.0 == theirs).map(|it| it.1.parse::<u64>().unwrap()).sum();
        assert_eq!(after(&namespace.counters, &format!("nf_conntrack.{ours}")), sum, "{theirs}");
        compared += 1;
    }
    assert_eq!(compared, 6);
    drop(server);
}

#[test]
fn ipsec_policies_are_counted_and_so_is_what_they_block() {
    let Some(_turn) = root() else { return };
    let (a, _b) = pair("xfrm", 1);
    a.ip("xfrm policy add src 0.0.0.0/0 dst 192.0.2.2/32 dir out action block");
    let observation = observe(&[&a], || send(&a, "192.0.2.2:9", 4, 10));
    let namespace = find(&observation, a.inode());
    assert_eq!(observation.not_checked, []);
    assert_eq!(namespace.gauges["xfrm.policies"].after, 1);
    assert_eq!(namespace.gauges["xfrm.states"].after, 0);
    assert_eq!(namespace.delta("xfrm.XfrmInNoStates"), Some(0));
    assert_eq!(namespace.delta("xfrm.XfrmOutPolBlock"), Some(4));
    assert!(a.ip("-s xfrm policy count").contains("OUT 1"));
}

/// Packets and bytes that `iptables-legacy-save -c` shows, in the order of the rules.
fn saved(netns: &Netns, program: &str) -> Vec<(u64, u64)> {
    let text = netns.exec(&[program, "-c"]);
    let counts = text.lines().filter_map(|line| {
        let (counts, _) = line.strip_prefix('[')?.split_once("] -A ")?;
        let (packets, bytes) = counts.split_once(':')?;
        Some((packets.parse().ok()?, bytes.parse().ok()?))
    });
    counts.collect()
}

#[test]
fn rules_of_iptables_legacy_equal_what_it_shows() {
    let Some(_turn) = root() else { return };
    let (a, b) = pair("legacy", 1);
    let rules = |program: &'static str, rules: &[&str]| {
        for rule in rules {
            let mut all = vec![program];
            all.extend(rule.split(' '));
            a.exec(&all);
        }
    };
    rules(
        "iptables-legacy",
        &[
            "-A INPUT -p udp --dport 9000 -j DROP",
            "-N own",
            "-A INPUT -p udp -g own",
            "-A own -p udp --dport 9001:9002 -j REJECT",
            "-A own ! -s 203.0.113.0/24 -i v+ -j DROP",
            "-P FORWARD DROP",
        ],
    );
    rules("ip6tables-legacy", &["-A OUTPUT -d 2001:db8::/32 -p tcp -j DROP"]);
    send(&b, "192.0.2.1:9000", 3, 100);

    let observation = observe(&[&a], || {
        send(&b, "192.0.2.1:9000", 5, 100);
        send(&b, "192.0.2.1:9002", 2, 100);
        send(&b, "192.0.2.1:9", 4, 100);
    });
    assert_eq!(observation.not_checked, []);
    let namespace = find(&observation, a.inode());
    assert_eq!(namespace.legacy_tables, ["ip filter", "ip6 filter"]);
    let told = |family: &str| -> Vec<_> {
        let chains = namespace.legacy_chains.iter().filter(|chain| chain.family == family);
        chains.flat_map(|chain| &chain.rules).collect()
    };
    let count = |rule: &&Rule| (rule.packets.unwrap().after, rule.bytes.unwrap().after);
    for (family, program) in [("ip", "iptables-legacy-save"), ("ip6", "ip6tables-legacy-save")] {
        assert_eq!(told(family).iter().map(count).collect::<Vec<_>>(), saved(&a, program));
    }
    let moved = |rule: &&Rule| rule.packets.unwrap().delta();
    assert_eq!(told("ip").iter().map(moved).collect::<Vec<_>>(), [5, 6, 2, 4]);
    let texts: Vec<_> = told("ip").into_iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "udp dport 9000 counter drop",
            "meta l4proto udp counter goto own",
            "udp dport 9001-9002 counter reject",
            "ip saddr != 203.0.113.0/24 iifname \"v*\" counter drop",
        ]
    );
    assert_eq!(told("ip6")[0].text, "ip6 daddr 2001:db8::/32 meta l4proto tcp counter drop");
    let forward = namespace.legacy_chains.iter().find(|chain| chain.name == "FORWARD").unwrap();
    assert!(forward.hook.as_ref().unwrap().policy_drop);
}

/// Gives a program what it reads.
fn feed(netns: &Netns, arguments: &[&str], input: &str) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", &netns.0])
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn huge_tables_are_read_in_part_and_that_is_told() {
    let Some(_turn) = root() else { return };
    let (a, _b) = pair("huge", 1);
    let route = |at| format!("route add 10.{}.{}.0/24 dev v0\n", at / 256, at % 256);
    let routes = (0..10_500).map(route).collect::<Vec<_>>().concat();
    feed(&a, &["ip", "-batch", "-"], &routes);
    a.ip("route add default via 192.0.2.2");
    let accepted = "udp dport 1 counter accept; ".repeat(4200);
    let rules = format!(
        "table ip t {{ chain c {{ type filter hook input priority 0; {accepted} udp dport 2 drop; }}; }}"
    );
    feed(&a, &["nft", "-f", "-"], &rules);

    let began = Instant::now();
    let observation = observe(&[&a], || {});
    let lasted = began.elapsed();
    eprintln!("10,500 routes and 4,201 rules, read twice: {lasted:?}");
    let namespace = find(&observation, a.inode());
    let known = namespace.routes.as_ref().unwrap();
    assert_eq!(known.partial, ["ipv4"]);
    assert!((10_000..10_500).contains(&known.counts["ipv4"]), "{:?}", known.counts);
    assert_eq!(known.defaults.len(), 1, "the kernel tells it first");
    let netfilter = namespace.netfilter.as_ref().unwrap();
    assert_eq!((netfilter.rules_left_out, netfilter.dropping_rules_left_out), (4200, 0));
    assert_eq!(netfilter.chains[0].rules[0].text, "udp dport 2 drop");
    let [told] = &observation.not_checked[..] else { panic!("{:?}", observation.not_checked) };
    assert!(told.what.starts_with("further routes"), "{told:?}");
}
