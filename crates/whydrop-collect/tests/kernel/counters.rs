//! What is read equals what the usual tools say in a quiet namespace.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use whydrop_model::{Link, Namespace, Presence};

use crate::netns::{Netns, find, observe, run, wait_for};
use crate::root;

#[test]
fn counters_devices_and_settings_equal_those_of_the_usual_tools() {
    let Some(_turn) = root() else { return };
    let (a, b) = (Netns::new("same-a"), Netns::new("same-b"));
    for netns in [&a, &b] {
        // No neighbour discovery: nothing may move between this reading and that of the tools.
        netns.exec(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    }
    a.ip(&format!("link add wd0 mtu 1400 type veth peer name wd1 netns {}", b.0));
    for (netns, device, address) in [(&a, "wd0", "192.0.2.1/24"), (&b, "wd1", "192.0.2.2/24")] {
        netns.ip(&format!("addr add {address} dev {device}"));
        netns.ip(&format!("link set {device} up"));
    }
    a.exec(&["sysctl", "-qw", "net.core.somaxconn=77"]);
    let listener = a.inside(|| TcpListener::bind("192.0.2.1:8080").unwrap());

    let observation = observe(&[&a], || {
        b.inside(|| {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            for _ in 0..7 {
                socket.send_to(b"x", "192.0.2.1:9").unwrap();
            }
            // The answer to the connection is also the proof that the datagrams went through.
            TcpStream::connect("192.0.2.1:8080").unwrap();
        });
        drop(listener.accept().unwrap());
        wait_for("the connection to end", Duration::from_secs(5), || {
            a.exec(&["ss", "-Htan"]).lines().count() == 1
        });
        a.inside(|| {
            let socket = UdpSocket::bind("[::1]:0").unwrap();
            socket.send_to(b"x", "[::1]:9").unwrap();
        });
    });

    // Only a connection that still lives could move a counter between our reading and theirs.
    let sockets = a.exec(&["ss", "-Htan"]);
    assert_eq!(sockets.lines().count(), 1, "{sockets}");
    let namespace = find(&observation, a.inode());
    assert_eq!(namespace.presence, Presence::Whole);
    assert_eq!(namespace.name.as_deref(), Some(a.0.as_str()));
    assert_eq!(namespace.delta("Udp.NoPorts"), Some(7));
    assert_eq!(namespace.delta("snmp6.Udp6NoPorts"), Some(1));
    assert_eq!(namespace.delta("Tcp.PassiveOpens"), Some(1));
    assert_eq!(namespace.delta("TcpExt.ListenOverflows"), Some(0));
    assert_eq!(namespace.sysctl("net.core.somaxconn"), Some(77));
    assert_eq!(observation.not_checked, []);
    same_as_nstat(&a, namespace);
    same_as_ip(&a, &namespace.links);
    same_as_ss(&a, namespace);
}

/// Every counter that `nstat` shows. It joins group and name, and shows `snmp6` without its group.
fn same_as_nstat(netns: &Netns, namespace: &Namespace) {
    let output = Command::new("ip")
        .args(["netns", "exec", &netns.0, "nstat", "-aszj"])
        .env("NSTAT_HISTORY", format!("/tmp/{}.nstat", netns.0))
        .output()
        .unwrap();
    let nstat: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nstat = nstat["kernel"].as_object().unwrap();
    assert!(nstat.len() > 250, "{} counters", nstat.len());
    let mut compared = 0;
    for (name, pair) in &namespace.counters {
        let (group, rest) = name.split_once('.').unwrap();
        let theirs = if group == "snmp6" { rest.to_owned() } else { format!("{group}{rest}") };
        // It leaves out what is a setting.
        let Some(value) = nstat.get(&theirs) else { continue };
        assert_eq!(value.as_u64(), Some(pair.after), "{name}");
        compared += 1;
    }
    assert_eq!(compared, nstat.len(), "it shows a counter that was not read");
}

fn same_as_ip(netns: &Netns, links: &[Link]) {
    let shown: Value = serde_json::from_str(&netns.ip("-s -s -d -j link")).unwrap();
    let shown = shown.as_array().unwrap();
    assert_eq!(shown.len(), links.len());
    for (theirs, ours) in shown.iter().zip(links) {
        assert_eq!(theirs["ifname"], ours.name);
        assert_eq!(theirs["ifindex"], ours.ifindex);
        assert_eq!(theirs["mtu"], ours.mtu);
        assert_eq!(theirs["linkinfo"]["info_kind"].as_str(), ours.kind.as_deref());
        let mut compared = 0;
        for direction in ["rx", "tx"] {
            for (field, value) in theirs["stats64"][direction].as_object().unwrap() {
                let name = match field.as_str() {
                    "multicast" => "multicast".to_owned(),
                    "collisions" => "collisions".to_owned(),
                    "otherhost" => "rx_otherhost_dropped".to_owned(),
                    // Shown in this place, but of no field of the kernel's structure.
                    "carrier_changes" => continue,
                    _ => format!("{direction}_{field}"),
                };
                assert_eq!(value.as_u64(), Some(ours.stats[&name].after), "{}: {name}", ours.name);
                compared += 1;
            }
        }
        assert!(compared >= 20, "{compared} fields");
    }
    let veth = links.iter().find(|link| link.name == "wd0").unwrap();
    assert!(veth.up && veth.carrier == Some(true) && veth.mtu == 1400);
    assert_eq!(veth.kind.as_deref(), Some("veth"));
    assert_eq!(veth.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(veth.stats["rx_packets"].delta() >= 10);
}

fn same_as_ss(netns: &Netns, namespace: &Namespace) {
    let shown = netns.exec(&["ss", "-Hlntm"]);
    let [ours] = &namespace.listeners[..] else { panic!("{:?}", namespace.listeners) };
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..4], ["LISTEN", "0", &ours.backlog.after.to_string(), "192.0.2.1:8080"]);
    assert_eq!(ours.backlog.after, 77, "capped by somaxconn");
    let drops = shown.split(",d").last().unwrap().trim_end().trim_end_matches(')');
    assert_eq!(drops, ours.drops.after.to_string());
    assert_eq!(ours.owners[0].pid, std::process::id(), "held by this test, from outside");
}

#[test]
fn softnet_is_that_of_the_host() {
    let watch = whydrop_collect::Watch::open(whydrop_collect::Options::default()).unwrap();
    let softnet = watch.close().softnet;
    let online = run("nproc", &["--all"]).trim().parse::<usize>().unwrap();
    assert_eq!(softnet.len(), online);
    assert!(softnet.iter().all(|cpu| cpu.processed.after >= cpu.processed.before));
}
