//! Devices, their drivers and the CPUs behind them, as the usual tools see them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;
use whydrop_collect::{Options, Watch};
use whydrop_model::{Counters, Link, Namespace};

use crate::netns::{Netns, find, observe, run, wait_for};
use crate::root;

fn link<'a>(namespace: &'a Namespace, name: &str) -> &'a Link {
    namespace.links.iter().find(|link| link.name == name).unwrap()
}

#[test]
fn devices_of_many_kinds_equal_those_of_ip() {
    let Some(_turn) = root() else { return };
    let (a, b) = (Netns::new("kinds-a"), Netns::new("kinds-b"));
    for command in [
        "link add br0 type bridge",
        "link add p0 mtu 1300 txqueuelen 77 type veth peer name p1",
        &format!("link add p2 numtxqueues 3 numrxqueues 2 type veth peer name far netns {}", b.0),
        "link add mv0 link p1 type macvlan mode bridge",
        "tuntap add tp0 mode tap",
        "link set p0 master br0",
        "link set p2 master br0",
        "link set p0 type bridge_slave isolated on learning off flood off hairpin on",
        "link set p1 promisc on",
        "link set br0 up",
        "link set p0 up",
        "link set p1 up",
        "link set p2 up",
        "link set mv0 up",
    ] {
        a.ip(command);
    }
    b.ip("link set far up");
    // The bridge lets its ports forward some time after they came up.
    wait_for("the devices to settle", Duration::from_secs(10), || {
        let shown = a.ip("-d link show");
        shown.matches("state forwarding").count() == 2
    });
    let observation = observe(&[&a, &b], || {});
    let namespace = find(&observation, a.inode());
    assert_eq!(namespace.links.len(), 7);
    same_as_ip(&a, namespace);
    let (p2, far) = (link(namespace, "p2"), link(find(&observation, b.inode()), "far"));
    let (to_far, to_p2) = (p2.lower.unwrap(), far.lower.unwrap());
    assert_eq!((to_far.ifindex, to_far.netns), (far.ifindex, Some(b.inode())));
    assert_eq!((to_p2.ifindex, to_p2.netns), (p2.ifindex, Some(a.inode())));
    let within = link(namespace, "p0").lower.unwrap();
    assert_eq!((within.netnsid, within.netns), (None, None));
    assert_eq!(link(namespace, "mv0").macvlan_bc_queue_len, Some(1000));
}

fn same_as_ip(netns: &Netns, namespace: &Namespace) {
    let shown: Value = serde_json::from_str(&netns.ip("-s -s -d -j link")).unwrap();
    let index = |name: &Value| name.as_str().map(|name| u64::from(link(namespace, name).ifindex));
    for theirs in shown.as_array().unwrap() {
        let name = theirs["ifname"].as_str().unwrap();
        let ours = link(namespace, name);
        let number = |field: &str| theirs[field].as_u64();
        let operstate = ours.operstate.as_deref().unwrap();
        assert_eq!(theirs["operstate"].as_str(), Some(operstate.to_uppercase().as_str()), "{name}");
        assert_eq!(number("txqlen"), ours.tx_queue_len.map(u64::from), "{name}");
        assert_eq!(theirs["qdisc"].as_str(), ours.qdisc.as_deref(), "{name}");
        assert_eq!(number("num_tx_queues"), ours.tx_queues.map(u64::from), "{name}");
        assert_eq!(number("num_rx_queues"), ours.rx_queues.map(u64::from), "{name}");
        assert_eq!(number("promiscuity"), Some(ours.promiscuity.into()), "{name}");
        let has_promisc =
            theirs["flags"].as_array().unwrap().iter().any(|flag| flag.as_str() == Some("PROMISC"));
        assert_eq!(has_promisc, ours.flags & 0x100 != 0, "{name}");
        let address = theirs["address"].as_str().filter(|it| *it != "00:00:00:00:00:00");
        assert_eq!(address, ours.mac.as_deref(), "{name}");
        assert_eq!(index(&theirs["master"]), ours.master.map(u64::from), "{name}");
        // By name if it is in the same namespace, else by index.
        let lower = index(&theirs["link"]).or(number("link_index"));
        assert_eq!(lower, ours.lower.map(|lower| lower.ifindex.into()), "{name}");
        let nsid = ours.lower.and_then(|lower| lower.netnsid);
        assert_eq!(theirs["link_netnsid"].as_i64(), nsid.map(i64::from), "{name}");
        let changes = &theirs["stats64"]["tx"]["carrier_changes"];
        assert_eq!(changes.as_u64(), ours.carrier_changes.map(|pair| pair.after), "{name}");
        let info = &theirs["linkinfo"];
        let stp = info["info_data"]["stp_state"].as_u64();
        assert_eq!(stp, ours.bridge.map(|bridge| bridge.stp_state.into()), "{name}");
        let port = &info["info_slave_data"];
        assert_eq!(port.is_object(), ours.bridge_port.is_some(), "{name}");
        let Some(ours) = &ours.bridge_port else { continue };
        assert_eq!(port["state"], ours.state, "{name}");
        for (field, value) in [
            ("isolated", ours.isolated),
            ("locked", ours.locked),
            ("learning", ours.learning),
            ("flood", ours.unicast_flood),
            ("mcast_flood", ours.mcast_flood),
            ("bcast_flood", ours.bcast_flood),
            ("hairpin", ours.hairpin),
        ] {
            assert_eq!(port[field], value, "{name}: {field}");
        }
    }
}

/// `name: value` lines of ethtool. A value that is no number is left out.
fn lines(shown: &str) -> BTreeMap<String, u64> {
    shown
        .lines()
        .filter_map(|line| line.rsplit_once(':'))
        .filter_map(|(name, value)| Some((name.trim().to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn after(counters: &Counters) -> BTreeMap<String, u64> {
    counters.iter().map(|(name, pair)| (name.clone(), pair.after)).collect()
}

#[test]
fn what_drivers_say_equals_ethtool() {
    let Some(_turn) = root() else { return };
    let (a, b) = (Netns::new("driver-a"), Netns::new("driver-b"));
    for netns in [&a, &b] {
        netns.exec(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    }
    a.ip(&format!("link add wd0 type veth peer name wd1 netns {}", b.0));
    for (netns, device, address) in [(&a, "wd0", "192.0.2.1/24"), (&b, "wd1", "192.0.2.2/24")] {
        netns.ip(&format!("addr add {address} dev {device}"));
        netns.ip(&format!("link set {device} up"));
    }
    // With GRO, and from a sender that does not segment, the receiving end takes packets through its
    // ring; only then it counts by itself.
    a.exec(&["ethtool", "-K", "wd0", "gro", "on"]);
    b.exec(&["ethtool", "-K", "wd1", "tso", "off"]);
    let receiver = a.inside(|| UdpSocket::bind("192.0.2.1:9000").unwrap());
    let observation = observe(&[&a], || {
        b.inside(|| {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            for _ in 0..50 {
                socket.send_to(b"x", "192.0.2.1:9000").unwrap();
            }
        });
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..50 {
            receiver.recv(&mut [0]).unwrap();
        }
    });
    assert_eq!(observation.not_checked, []);
    let namespace = find(&observation, a.inode());
    let wd0 = link(namespace, "wd0");
    let theirs = lines(&a.exec(&["ethtool", "-S", "wd0"]));
    assert!(theirs.len() >= 10, "{theirs:?}");
    assert_eq!(after(&wd0.ethtool), theirs);
    let received: u64 = wd0
        .ethtool
        .iter()
        .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"))
        .map(|(_, pair)| pair.delta())
        .sum();
    // And at most a question for the hardware address and its answer.
    assert!((50..=52).contains(&received), "{received} received");
    let driver = wd0.driver.as_ref().unwrap();
    let shown = a.exec(&["ethtool", "-i", "wd0"]);
    assert!(shown.contains(&format!("driver: {}\n", driver.name)), "{shown}");
    assert!(shown.contains(&format!("version: {}\n", driver.version)), "{shown}");
    same_features(&a, wd0);
    let shown = a.exec(&["ethtool", "wd0"]);
    assert!(shown.contains(&format!("Speed: {}Mb/s", wd0.speed.unwrap())), "{shown}");
    assert!(shown.contains("Duplex: Full") && wd0.full_duplex == Some(true), "{shown}");
    let shown = a.exec(&["ethtool", "-l", "wd0"]);
    let (most, now) = shown.split_once("Current").unwrap();
    for (part, rx, tx) in [(most, "max_rx", "max_tx"), (now, "rx_count", "tx_count")] {
        let theirs = lines(part);
        assert_eq!(theirs["RX"], u64::from(wd0.channels[rx]), "{shown}");
        assert_eq!(theirs["TX"], u64::from(wd0.channels[tx]), "{shown}");
    }
    let lo = link(namespace, "lo");
    assert!(lo.driver.is_none() && lo.ethtool.is_empty() && lo.features.is_empty());
    assert_eq!(wd0.steering, None, "sysfs shows another namespace");
}

/// ethtool gives some offloads names of its own; those that have the kernel's are compared.
fn same_features(netns: &Netns, link: &Link) {
    let shown = netns.exec(&["ethtool", "-k", &link.name]);
    let ours: BTreeSet<&str> = link.features.iter().map(String::as_str).collect();
    let mut compared = 0;
    for (name, value) in shown.lines().filter_map(|line| line.trim().split_once(": ")) {
        let is_on = value.starts_with("on");
        assert!(!ours.contains(name) || is_on, "{name}: {value}");
        // Names of groups, and those that ethtool made up before the kernel had names.
        let is_kernels = name.starts_with("tx-gso-")
            || name.starts_with("tx-checksum-")
            || name.ends_with("-segmentation") && name.starts_with("tx-");
        if is_on && is_kernels {
            assert!(ours.contains(name), "{name} is on");
            compared += 1;
        }
    }
    assert!(compared >= 5, "{compared} compared in {shown}");
    assert!(ours.contains("rx-gro"), "switched on by this test");
}

#[test]
fn rings_and_names_of_the_hosts_own_devices_equal_ethtool() {
    let Some(_turn) = root() else { return };
    let observation = Watch::open(Options::default()).unwrap().close();
    let own = &observation.namespaces[0];
    assert!(own.own);
    let shown = run("ip", &["-j", "link"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let there: BTreeSet<&str> =
        shown.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap()).collect();
    let mut compared = 0;
    // Those that may be another test's come and go.
    for link in own.links.iter().filter(|link| there.contains(link.name.as_str())) {
        if link.ethtool.is_empty() || link.kind.is_some() {
            continue;
        }
        let theirs = lines(&run("ethtool", &["-S", &link.name]));
        let names: BTreeSet<&String> = theirs.keys().collect();
        assert_eq!(link.ethtool.keys().collect::<BTreeSet<_>>(), names, "{}", link.name);
        if let (Some(now), Some(most)) =
            (link.ring.get("rx_pending"), link.ring.get("rx_max_pending"))
        {
            let shown = run("ethtool", &["-g", &link.name]);
            let (before, after) = shown.split_once("Current").unwrap();
            assert_eq!(lines(before)["RX"], u64::from(*most), "{shown}");
            assert_eq!(lines(after)["RX"], u64::from(*now), "{shown}");
        }
        assert!(link.steering.is_some(), "{} is in the sysfs of this host", link.name);
        compared += 1;
    }
    eprintln!("{compared} devices compared");
}

#[test]
fn the_cpu_side_lies_between_two_readings_of_the_files() {
    let softirqs = || table("/proc/softirqs", "NET_RX:");
    let (before, irqs_before) = (softirqs(), fs::read_to_string("/proc/interrupts").unwrap());
    let observation = Watch::open(Options::default()).unwrap().close();
    let later = softirqs();
    let side = &observation.cpu_side;
    let online = run("nproc", &["--all"]).trim().parse::<usize>().unwrap();
    assert_eq!(side.cpus.len(), online);
    for cpu in &side.cpus {
        let at = cpu.cpu as usize;
        let ours = cpu.softirqs["NET_RX"];
        assert!(before[at] <= ours.before && ours.after <= later[at], "{ours:?}");
        assert_eq!(cpu.time.len(), 8);
        assert!(cpu.time.values().all(|pair| pair.before <= pair.after));
    }
    for interrupt in &side.interrupts {
        let label = format!("{}:", interrupt.irq);
        let row = irqs_before.lines().find(|line| line.trim_start().starts_with(&label)).unwrap();
        assert!(row.ends_with(&interrupt.name), "{row}");
    }
    let looks: Vec<u32> = observation.softnet.iter().map(|cpu| cpu.looks).collect();
    assert!(looks.iter().all(|looks| *looks >= 2), "{looks:?}");
    if let Ok(pressure) = fs::read_to_string("/proc/pressure/cpu") {
        assert_eq!(
            side.pressure.keys().filter(|name| name.starts_with("cpu.")).count(),
            pressure.lines().count()
        );
    }
}

/// The counts of one row.
fn table(path: &str, label: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    let row = text.lines().find_map(|line| line.trim_start().strip_prefix(label)).unwrap();
    row.split_ascii_whitespace().map(|count| count.parse().unwrap()).collect()
}
