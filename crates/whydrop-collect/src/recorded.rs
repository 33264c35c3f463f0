//! Every parser on what four more kernels than the tests' own said of the same namespace: Debian's
//! kernels for virtual machines, 5.10, 6.1, 6.12 and 7.2, in qemu. What differs between them is said here.
//!
//! The answers of netlink are those that `strace -e trace=sendto,recvfrom -e read=all` saw of
//! `whydrop record`, the first of each question; of long ones a part. The files are as `cat` showed them in
//! the same namespace.

use std::collections::BTreeMap;

use whydrop_model::{Qdisc, RuleVerdict, Socket, SocketProtocol, SocketState};

use crate::collector::{Facts, LinkFacts};
use crate::collectors::{
    addresses, filters, interface_settings, interrupts, links, listeners, neighbour_tables,
    neighbours, netlink_sockets, packet_queues, packet_sockets, pressure, protocol_memory, qdiscs,
    routes, snmp, snmp6, sockstat, softirqs, softnet_stat, standard_stats, stat, unix_listeners,
    xfrm,
};
use crate::nftables::{self, Named};
use crate::{cpu_rows, fixture, genetlink, inet_diag, socket_table};

const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

fn payloads(kernel: &str, name: &str) -> Vec<Vec<u8>> {
    fixture::netlink(&format!("linux-{kernel}-{name}.bin"))
}

/// What a parser makes of a dump, none of whose messages it may leave out.
fn all<T>(kernel: &str, name: &str, parse: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let payloads = payloads(kernel, name);
    assert!(!payloads.is_empty(), "{kernel}: no {name}");
    let one = |(at, payload): (usize, &Vec<u8>)| {
        parse(payload).unwrap_or_else(|| panic!("{kernel}: {name} {at} was not understood"))
    };
    payloads.iter().enumerate().map(one).collect()
}

fn file(kernel: &str, name: &str) -> String {
    String::from_utf8(fixture::bytes(&format!("proc/linux-{kernel}/{name}"))).unwrap()
}

fn newer(kernel: &str, than: (u32, u32)) -> bool {
    let (major, minor) = kernel.split_once('.').unwrap();
    (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= than
}

#[test]
fn links_with_all_their_statistics() {
    for kernel in KERNELS {
        let links: BTreeMap<String, LinkFacts> = all(kernel, "links", links::parse)
            .into_iter()
            .map(|link| (link.about.name.clone(), link))
            .collect();
        let of = |name: &str| &links[name].about;
        let index = |name: &str| Some(of(name).ifindex);
        // rx_otherhost_dropped is the last of 25, since 5.19.
        let fields = if newer(kernel, (5, 19)) { 25 } else { 24 };
        assert!(links.values().all(|link| link.stats.len() == fields), "{kernel}");
        let v0 = &links["v0"];
        let moved = |name: &str| v0.stats.iter().find(|it| it.0 == name).unwrap().1;
        assert!(moved("tx_packets") > 0 && moved("tx_bytes") > 0, "{kernel}: {:?}", v0.stats);
        assert!(v0.carrier_changes.is_some_and(|changes| changes > 0), "{kernel}");
        let v0 = &v0.about;
        assert_eq!((v0.mtu, v0.kind.as_deref(), v0.up), (1500, Some("veth"), true), "{kernel}");
        assert_eq!((v0.qdisc.as_deref(), v0.operstate.as_deref()), (Some("htb"), Some("up")));
        assert!(v0.tx_queues.is_some() && v0.rx_queues.is_some() && v0.mac.is_some());
        assert_eq!(v0.lower.as_ref().map(|lower| lower.ifindex), index("w0"), "{kernel}");
        assert_eq!(of("w0").master, index("br0"));
        let port = of("w0").bridge_port.as_ref().unwrap();
        assert!(port.state == "forwarding" && port.learning, "{kernel}: {port:?}");
        assert!(of("br0").bridge.is_some());
        assert_eq!(of("v0.7").vlan.map(|vlan| (vlan.id, vlan.protocol)), Some((7, 0x8100)));
        // Since 5.11 (`IFLA_MACVLAN_BC_QUEUE_LEN_USED`).
        assert_eq!(of("mv0").macvlan_bc_queue_len.is_some(), newer(kernel, (5, 11)), "{kernel}");
        let remote = |name: &str| of(name).tunnel.as_ref().unwrap().remote.unwrap().to_string();
        assert_eq!((remote("vx0").as_str(), remote("gr0").as_str()), ("192.0.2.9", "192.0.2.9"));
    }
}

#[test]
fn settings_of_links() {
    for kernel in KERNELS {
        let devices = all(kernel, "link-settings", interface_settings::parse);
        let none = interface_settings::differing(&devices, &[], &BTreeMap::new());
        for setting in
            ["ipv4.conf.v0.rp_filter", "ipv4.conf.v0.forwarding", "ipv6.conf.v0.accept_ra"]
        {
            assert!(
                none.contains_key(&format!("net.{setting}")),
                "{kernel}: {setting} in {none:?}"
            );
        }
        assert_eq!(none["net.ipv4.conf.v0/7.rp_filter"], "0", "{kernel}: {none:?}");
        let tables = payloads(kernel, "neighbour-tables");
        let queues = tables.iter().filter_map(|it| interface_settings::parse_queue(it));
        let queues: Vec<_> = queues.collect();
        let bytes = interface_settings::differing(&devices, &queues, &BTreeMap::new());
        assert!(!queues.is_empty() && bytes.len() >= none.len(), "{kernel}");
        let known: Vec<_> = tables.iter().filter_map(|it| neighbour_tables::parse(it)).collect();
        let arp = known.iter().find(|table| table.name == "arp_cache").unwrap();
        assert_eq!((arp.gc_thresh1, arp.gc_thresh2, arp.gc_thresh3), (128, 512, 1024));
        assert!(arp.stats["allocs"].after > 0 && arp.stats.contains_key("table_fulls"), "{kernel}");
    }
}

#[test]
fn queueing_disciplines_with_their_own_drops() {
    for kernel in KERNELS {
        let qdiscs = all(kernel, "qdiscs", |it| qdiscs::parse(it, false));
        let of = |kind: &str| -> &Qdisc {
            let drops = |it: &&Qdisc| it.stats["drops"].after;
            qdiscs.iter().filter(|it| it.kind == kind).max_by_key(drops).unwrap()
        };
        let count = |kind: &str, name: &str| {
            let stats = &of(kind).stats;
            stats
                .get(name)
                .unwrap_or_else(|| panic!("{kernel}: {kind} has no {name}: {stats:?}"))
                .after
        };
        for (kind, own) in [
            ("pie", &["overlimit"][..]),
            ("fq_pie", &["overlimit", "overmemory"]),
            ("hhf", &["drop_overlimit"]),
            ("sfb", &["earlydrop", "penaltydrop", "bucketdrop", "queuedrop", "childdrop"]),
            ("red", &["early", "pdrop", "other"]),
            // One that meets another of its flow takes it along.
            ("choke", &["early", "pdrop", "other", "matched", "matched"]),
        ] {
            let sum: u64 = own.iter().map(|name| count(kind, name)).sum();
            assert_eq!((sum, sum > 0), (count(kind, "drops"), true), "{kernel}: {kind}");
        }
        assert_eq!(count("pie", "dropped"), count("pie", "drops"));
        assert!(count("gred", "prob_drop") + count("gred", "forced_drop") > 0, "{kernel}");
        for kind in ["tbf", "fq", "netem", "pfifo", "bfifo", "sfq", "codel"] {
            let known = qdiscs.iter().any(|it| it.kind == kind);
            assert!(known, "{kernel}: {kind} in {:?}", qdiscs.iter().map(|it| &it.kind));
        }
        assert!(count("tbf", "drops") > 0 && count("netem", "drops") > 0, "{kernel}");
        assert_eq!(of("netem").options["loss_ppm"], 100_000);
        assert!(qdiscs.iter().any(|it| it.kind == "pfifo" && it.options["limit_packets"] == 2));
        assert_eq!(of("fq").options["limit_packets"], 2);
        assert_eq!(of("cake").options["rate_bytes"], 125_000);
        assert!(count("codel", "drop_overlimit") > 0, "{kernel}");
        assert!(qdiscs.iter().any(|it| it.kind == "clsact"));
        let classes = all(kernel, "classes", |it| qdiscs::parse(it, true));
        let rates: Vec<_> = classes.iter().filter_map(|it| it.options.get("rate_bytes")).collect();
        assert_eq!(rates, [&1_250_000, &12_500], "{kernel}");
    }
}

#[test]
fn filters_with_their_actions() {
    for kernel in KERNELS {
        let found = payloads(kernel, "filters");
        let found: Vec<_> = found.iter().filter_map(|it| filters::parse(it)).collect();
        let kinds: Vec<_> = found.iter().map(|it| it.kind.as_str()).collect();
        for kind in ["u32", "bpf", "matchall", "flower"] {
            assert!(kinds.contains(&kind), "{kernel}: {kinds:?}");
        }
        let action = |kind: &str| &found.iter().find(|it| it.kind == kind).unwrap().actions[0];
        assert_eq!(action("matchall").verdict.as_deref(), Some("shot"), "{kernel}");
        let police = action("flower");
        assert_eq!(
            (police.kind.as_str(), police.options["rate_bytes"]),
            ("police", 1000),
            "{kernel}"
        );
    }
}

#[test]
fn neighbours_routes_and_addresses() {
    for kernel in KERNELS {
        let seen = payloads(kernel, "neighbours");
        // Those of multicast need nobody.
        let seen = seen.iter().filter_map(|it| neighbours::parse(it)).collect();
        let known = neighbours::summary(seen, 1000, 10);
        assert!(known.counts.iter().any(|it| it.state == "PERMANENT" && it.count > 0), "{kernel}");
        for (name, family) in [("routes4", 2), ("routes6", 10)] {
            let found = payloads(kernel, name);
            assert!(found.iter().any(|it| routes::route(it, family).is_some()), "{kernel}: {name}");
        }
        let rules = payloads(kernel, "policy-rules");
        let rules = rules.iter().filter_map(|it| routes::rule(it)).count();
        assert!(rules > 0, "{kernel}");
        let addresses: Vec<_> = all(kernel, "addresses", addresses::parse);
        assert!(addresses.iter().any(|it| it.1.to_string() == "192.0.2.1"), "{kernel}");
    }
}

#[test]
fn rules_of_nftables() {
    for kernel in KERNELS {
        let mut named = Named::default();
        named.sets.extend(all(kernel, "nft-sets", nftables::set));
        named.counters.extend(all(kernel, "nft-counters", nftables::counter));
        assert!(
            payloads(kernel, "nft-elements").iter().any(|it| !nftables::elements(it).is_empty())
        );
        let chains = all(kernel, "nft-chains", nftables::chain);
        let input = chains.iter().find(|(key, _)| key.2 == "input").unwrap();
        assert!(input.1.hook.as_ref().unwrap().policy_drop, "{kernel}");
        let rules = all(kernel, "nft-rules", |it| nftables::rule(it, &named));
        let texts: Vec<_> = rules.iter().map(|(_, rule)| rule.text.as_str()).collect();
        for text in [
            "ct state established,related accept",
            "ip saddr 10.0.0.0/8 counter drop",
            "ip6 saddr 2001:db8::/32 counter drop",
            "tcp dport 9000 counter drop",
            "ip dscp cs1 drop",
        ] {
            assert!(texts.contains(&text), "{kernel}: {text} in {texts:#?}");
        }
        let closed = rules.iter().find(|(_, rule)| rule.comment.as_deref() == Some("closed port"));
        let (_, closed) = closed.unwrap();
        assert!(closed.handle > 0 && closed.packets.is_some(), "{kernel}: {closed:?}");
        assert_eq!(closed.verdicts, [RuleVerdict::Drop]);
    }
}

#[test]
fn sockets() {
    for kernel in KERNELS {
        let inet = |name: &str, protocol| -> Vec<Socket> {
            all(kernel, name, |it| inet_diag::parse(it, protocol))
        };
        let [listener] = &all(kernel, "listeners", listeners::parse)[..] else {
            panic!("{kernel}")
        };
        let told = (listener.port, listener.queued, listener.backlog, listener.cookie > 0);
        assert_eq!(told, (8080, 3, 2, true), "{kernel}");
        assert!(listener.drops > 0, "{kernel}");
        let tcp = inet("tcp-sockets", SocketProtocol::Tcp);
        assert!(tcp.iter().any(|it| it.state == SocketState::Established && it.tcp.is_some()));
        let udp = inet("udp-sockets", SocketProtocol::Udp);
        let full = udp.iter().find(|it| it.local.unwrap().port == Some(5000)).unwrap();
        assert!(full.drops.after > 0 && full.recv_queue > 0, "{kernel}: {full:?}");
        assert_eq!(full.memory.unwrap().rcvbuf, 4096, "{kernel}");
        // `INET_DIAG_CGROUP_ID` came with 5.9.
        assert!(udp.iter().all(|it| it.uid == Some(0) && it.cgroup.is_some()), "{kernel}");
        let raw = inet("raw-sockets", SocketProtocol::Raw);
        assert_eq!(raw.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 58], "{kernel}");
        let [unix] = &all(kernel, "unix-listeners", unix_listeners::parse)[..] else { panic!() };
        assert_eq!(
            (unix.name.as_deref(), unix.recv_queue),
            (Some("/tmp/listening"), 1),
            "{kernel}"
        );

        // The tables tell the same sockets.
        for (files, protocol, told) in [
            (["udp", "udp6"], SocketProtocol::Udp, &udp),
            (["raw", "raw6"], SocketProtocol::Raw, &raw),
        ] {
            let mut listed = Vec::new();
            for name in files {
                let text = file(kernel, &format!("thread-self/net/{name}"));
                socket_table::internet(&text, protocol, &mut |it| listed.push(it));
            }
            let inodes = |sockets: &[Socket]| {
                let mut inodes: Vec<u64> = sockets.iter().map(|it| it.inode).collect();
                inodes.sort_unstable();
                inodes
            };
            assert_eq!(inodes(&listed), inodes(told), "{kernel}: {protocol:?}");
        }
        let told = all(kernel, "packet-sockets", packet_sockets::parse);
        assert_eq!(told.iter().map(|it| it.number).collect::<Vec<_>>(), [3], "{kernel}");
        assert!(told.iter().all(|it| it.memory.is_some()), "{kernel}: {told:?}");
        let mut packet = Vec::new();
        let text = file(kernel, "thread-self/net/packet");
        packet_sockets::list_table(&text, &mut |it| packet.push(it));
        assert_eq!(packet.iter().map(|it| it.number).collect::<Vec<_>>(), [3], "{kernel}");
        // The only ones are the kernel's own.
        let text = file(kernel, "thread-self/net/netlink");
        netlink_sockets::parse(&text, &mut |it| assert_eq!(it.inode, 0, "{kernel}: {it:?}"));
        assert!(text.lines().count() > 1, "{kernel}");
    }
}

#[test]
fn families_and_standard_statistics() {
    for kernel in KERNELS {
        let families = all(kernel, "families", genetlink::family_id);
        // `netdev` came with 6.3.
        assert_eq!(families.len(), if newer(kernel, (6, 3)) { 2 } else { 1 }, "{kernel}");
        if newer(kernel, (6, 10)) {
            // virtio_net.
            let [(_, told)] = &all(kernel, "qstats", standard_stats::qstats)[..] else { panic!() };
            assert!(told.iter().any(|it| it.0 == "qstats.rx-packets"), "{kernel}: {told:?}");
        }
        let sizes = (
            all(kernel, "xfrm-states", xfrm::states),
            all(kernel, "xfrm-policies", xfrm::policies),
        );
        assert_eq!(sizes, (vec![1], vec![1]), "{kernel}");
    }
}

#[test]
fn counters_of_the_namespace() {
    for kernel in KERNELS {
        let folder = format!("linux-{kernel}");
        let read = |read: crate::collector::Read| {
            let crate::collector::Read::Namespace(read) = read else {
                panic!("not of a namespace")
            };
            fixture::read(&folder, read).unwrap()
        };
        let count = |facts: &Facts, name: &str| {
            fixture::counter(facts, name).unwrap_or_else(|| panic!("{kernel}: no {name}"))
        };
        let udp = read(snmp::COLLECTOR.read);
        assert!(count(&udp, "Udp.RcvbufErrors") > 0 && count(&udp, "Udp.NoPorts") > 0);
        let memory = fixture::counter(&udp, "Udp.MemErrors");
        assert_eq!(memory.is_some(), newer(kernel, (5, 11)), "{kernel}");
        let tcp = read(crate::collectors::netstat::COLLECTOR.read);
        assert!(count(&tcp, "TcpExt.ListenOverflows") > 0, "{kernel}");
        for (name, since) in [("TcpExt.TSEcrRejected", (6, 15)), ("TcpExt.BeyondWindow", (6, 17))] {
            let known = fixture::counter(&tcp, name).is_some();
            assert_eq!(known, newer(kernel, since), "{kernel}: {name}");
        }
        count(&read(snmp6::COLLECTOR.read), "snmp6.Ip6InReceives");
        let levels = read(sockstat::COLLECTOR.read).stack.gauges;
        for name in ["sockstat.TCP.mem", "sockstat.FRAG.memory", "sockstat6.FRAG6.memory"] {
            assert!(levels.iter().any(|it| it.0 == name), "{kernel}: {name}");
        }
        count(&read(xfrm::COLLECTOR.read), "xfrm.XfrmInNoStates");
        let mut tracked = Facts::default();
        let text = file(kernel, "thread-self/net/stat/nf_conntrack");
        crate::collectors::conntrack::parse(&text, &mut tracked).unwrap();
        for name in ["drop", "early_drop", "insert_failed", "invalid", "clashres"] {
            let name = format!("nf_conntrack.{name}");
            // clashres came with 5.10.
            assert!(
                tracked.stack.narrow_counters.iter().any(|it| it.0 == name),
                "{kernel}: {name}"
            );
        }
        let mut names = Vec::new();
        cpu_rows::for_each(&file(kernel, "thread-self/net/stat/arp_cache"), |name, _, _| {
            names.push(name.to_owned());
        });
        assert!(names.iter().any(|name| name == "unresolved_discards"), "{kernel}: {names:?}");
        let queues = file(kernel, "thread-self/net/netfilter/nfnetlink_queue");
        assert_eq!(queues.lines().filter_map(packet_queues::parse).count(), 0);
        let text = file(kernel, "thread-self/net/sockstat");
        assert!(protocol_memory::pages(&text, "TCP").is_some(), "{kernel}");
    }
}

#[test]
fn what_the_cpus_did() {
    for kernel in KERNELS {
        let softnet = file(kernel, "thread-self/net/softnet_stat");
        let rows: Vec<_> = softnet
            .lines()
            .enumerate()
            .filter_map(|(row, line)| softnet_stat::parse(row, line))
            .collect();
        assert_eq!(rows.iter().map(|row| row.cpu).collect::<Vec<_>>(), [0, 1], "{kernel}");
        assert!(rows.iter().any(|row| row.processed > 0));
        assert!(rows.iter().all(|row| row.flow_limit.is_some() && row.backlog_len.is_some()));
        let text = file(kernel, "stat");
        let times: Vec<_> = text.lines().filter_map(|line| stat::parse(line, 100)).collect();
        assert!(times.len() == 2 && times.iter().all(|cpu| cpu.counts.len() == 8), "{kernel}");
        let softirqs = softirqs::parse(&file(kernel, "softirqs"));
        assert!(softirqs.len() == 2 && softirqs[0].counts.len() == 3, "{kernel}");
        let known =
            interrupts::Known { names: vec!["virtio0".into()], ..interrupts::Known::default() };
        let found = interrupts::parse(&file(kernel, "interrupts"), &known).unwrap();
        assert!(found.iter().any(|it| it.name == "virtio0-input.0"), "{kernel}: {found:?}");
        if let Ok(text) = std::fs::read_to_string(
            fixture::roots(&format!("linux-{kernel}")).proc.join("pressure/cpu"),
        ) {
            assert!(text.lines().any(|line| pressure::parse("cpu", line).is_some()), "{kernel}");
        }
    }
}

#[test]
fn answers_that_are_cut_off_are_read_as_far_as_they_go() {
    for kernel in KERNELS {
        let of = |name: &str, parse: &dyn Fn(&[u8])| {
            fixture::cut(&format!("linux-{kernel}-{name}.bin"), parse);
        };
        of("links", &|it| drop(links::parse(it)));
        of("qdiscs", &|it| drop(qdiscs::parse(it, false)));
        of("classes", &|it| drop(qdiscs::parse(it, true)));
        of("filters", &|it| drop(filters::parse(it)));
        of("nft-rules", &|it| drop(nftables::rule(it, &Named::default())));
        of("udp-sockets", &|it| drop(inet_diag::parse(it, SocketProtocol::Udp)));
        of("neighbour-tables", &|it| drop(neighbour_tables::parse(it)));
        of("routes4", &|it| drop(routes::route(it, 2)));
        of("nft-tables", &|it| drop(nftables::dormant_table(it)));
        if newer(kernel, (5, 13)) {
            of("standard-groups", &|it| drop(standard_stats::groups(it)));
        }
    }
}
