//! What fuzzers call, and the tests that replay what they kept. Not in any other build.

use std::collections::BTreeMap;

use whydrop_model::{Process, SocketProtocol};

use crate::collector::Facts;
use crate::collectors::interrupts::Known;
use crate::collectors::{
    addresses, conntrack, ethtool, filters, interface_settings, interrupts, links, listeners,
    local_ports, neighbour_tables, neighbours, netlink_sockets, nft, packet_queues, packet_sockets,
    pressure, protocol_memory, qdiscs, routes, sockstat, softirqs, softnet_stat, standard_stats,
    stat, unix_listeners, xfrm,
};
use crate::netlink::{self, Dump, text, u32_at};
use crate::nftables::legacy::{self, Family};
use crate::nftables::{self, Named};
use crate::process::membership::Membership;
use crate::process::program;
use crate::{
    cgroups, cpu_rows, genetlink, host, inet_diag, line_pairs, namespaces, peers, process,
    socket_table,
};

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// What looks at the payloads of one answer of the kernel.
type Walker = fn(&[Vec<u8>]);
/// What looks at the text of one file.
type Reader = fn(&str);

/// The first byte of an input is a place in this list: add at the end.
const WALKERS: &[Walker] = &[
    |dump| each(dump, addresses::parse),
    |dump| {
        let flows: Vec<_> = dump.iter().map(|it| conntrack::flow(it)).collect();
        conntrack::summary(&flows);
        let rows: Vec<_> = dump.iter().map(|it| conntrack::row(it)).collect();
        conntrack::sum(&rows);
    },
    |dump| each(dump, filters::parse),
    |dump| {
        let devices: Vec<_> = dump.iter().filter_map(|it| interface_settings::parse(it)).collect();
        let queues = dump.iter().filter_map(|it| interface_settings::parse_queue(it));
        interface_settings::differing(&devices, &queues.collect::<Vec<_>>(), &BTreeMap::new());
    },
    |dump| each(dump, links::parse),
    |dump| each(dump, listeners::parse),
    |dump| each(dump, neighbour_tables::parse),
    |dump| {
        let seen: Vec<_> = dump.iter().filter_map(|it| neighbours::parse(it)).collect();
        let told = neighbours::summary(seen, 6, 3);
        assert!(told.troubled.len() <= 3);
    },
    |dump| each(dump, packet_sockets::parse),
    |dump| each(dump, |it| qdiscs::parse(it, false)),
    |dump| each(dump, |it| qdiscs::parse(it, true)),
    |dump| each(dump, |it| (routes::route(it, 2), routes::route(it, 10), routes::rule(it))),
    |dump| each(dump, standard_stats::groups),
    |dump| each(dump, |it| (standard_stats::pause(it), standard_stats::qstats(it))),
    |dump| each(dump, unix_listeners::parse),
    |dump| each(dump, |it| (xfrm::states(it), xfrm::policies(it))),
    |dump| each(dump, |it| (genetlink::family_id(it), peers::id(it))),
    |dump| {
        for protocol in [SocketProtocol::Tcp, SocketProtocol::Udp, SocketProtocol::Raw] {
            each(dump, |it| inet_diag::parse(it, protocol));
        }
        each(dump, |it| (inet_diag::port(it), inet_diag::parse_queue(it)));
    },
    ruleset,
    |dump| each(dump, driver),
    |dump| {
        for family in [Family::Ip, Family::Ip6] {
            each(dump, |it| legacy::chains(family, "filter", it, it.get(84..).unwrap_or_default()));
        }
    },
];

/// The first byte of an input is a place in this list: add at the end.
const READERS: &[Reader] = &[
    |text| {
        line_pairs::for_each(text, |group, name, _| {
            assert!(text.contains(group) && !name.is_empty());
        });
    },
    |text| cpu_rows::for_each(text, |name, _, _| assert!(!name.is_empty())),
    |text| {
        let _ = conntrack::parse(text, &mut Facts::default());
    },
    |text| {
        let names = ["eth0", "virtio0", "th"].map(str::to_owned).to_vec();
        let by_number = BTreeMap::from([(3, "0000:00:03.0".to_owned())]);
        let _ = interrupts::parse(text, &Known { by_number, names });
    },
    |text| {
        local_ports::range(text);
        local_ports::connections(text);
    },
    |text| netlink_sockets::parse(text, &mut |_| {}),
    |text| lines(text, |line| (packet_queues::parse(line), packet_queues::log_group(line))),
    |text| packet_sockets::list_table(text, &mut |_| {}),
    |text| lines(text, |line| pressure::parse("cpu", line)),
    |text| {
        protocol_memory::pages(text, "TCP");
        protocol_memory::limits(text);
    },
    |text| sockstat::parse("sockstat", text, &mut Vec::new()),
    |text| drop(softirqs::parse(text)),
    |text| lines(text, |line| softnet_stat::parse(0, line)),
    |text| lines(text, |line| stat::parse(line, 100)),
    |text| {
        for protocol in [SocketProtocol::Udp, SocketProtocol::Raw] {
            socket_table::internet(text, protocol, &mut |_| {});
        }
    },
    |text| lines(text, |line| (cgroups::parse_mount(line), namespaces::parse_mount(line))),
    |text| lines(text, |line| (cgroups::table(line).count(), namespaces::parse_link(line))),
    |text| lines(text, |line| (process::parse_limit(line), process::parse_stat(line))),
    |text| Membership::parse(text).tell(&mut Process::default()),
    |text| {
        for executable in ["python3.11", "java", "perl", "bash", "nginx"] {
            assert!(!program::name(executable, text).is_empty());
        }
    },
    |text| lines(text, host::count_cpus),
];

/// The answer of the kernel to a dump, by the framing of netlink; the first byte says what was asked
/// for.
///
/// # Panics
///
/// If more comes out of an answer than is in it.
pub fn netlink(data: &[u8]) {
    let Some((kind, datagram)) = data.split_first() else { return };
    let Some(walker) = WALKERS.get(usize::from(*kind)) else { return };
    let mut dump = Dump { items: Vec::new(), interrupted: false };
    let mut keep = |payload: &[u8]| Some(payload.to_vec());
    let sequence = u32_at(datagram, 8).unwrap_or(0);
    let _ = netlink::read_answer(datagram, sequence, &mut keep, &mut dump);
    assert!(dump.items.iter().map(Vec::len).sum::<usize>() <= datagram.len());
    walker(&dump.items);
}

/// A file of `/proc` or one like them; the first byte says which.
///
/// # Panics
///
/// If a name is told that is none.
pub fn proc(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if let Some(reader) = READERS.get(usize::from(*kind)) {
        reader(&String::from_utf8_lossy(bytes));
    }
}

fn each<T>(dump: &[Vec<u8>], parse: impl Fn(&[u8]) -> T) {
    for payload in dump {
        parse(payload);
    }
}

fn lines<T>(text: &str, parse: impl Fn(&str) -> T) {
    for line in text.lines() {
        parse(line);
    }
}

/// Everything of nftables, the sets first as the collector has it.
fn ruleset(dump: &[Vec<u8>]) {
    let mut named = Named::default();
    for payload in dump {
        named.counters.extend(nftables::counter(payload));
        if let Some((key, mut set)) = nftables::set(payload) {
            set.elements = dump.iter().flat_map(|it| nftables::elements(it)).take(8).collect();
            named.sets.insert(key, set);
        }
        nftables::dormant_table(payload);
    }
    let chains = dump.iter().filter_map(|it| nftables::chain(it)).collect();
    let rules: Vec<_> = dump.iter().filter_map(|it| nftables::rule(it, &named)).collect();
    let count = rules.len();
    let kept = nft::assemble(chains, rules, 4);
    assert!(kept.chains.iter().map(|chain| chain.rules.len()).sum::<usize>() <= count.min(4));
}

/// The answers of a driver by ioctl.
fn driver(answer: &[u8]) {
    let names: Vec<String> = answer.chunks(32).take(40).map(text).collect();
    ethtool::driver(answer);
    ethtool::named(&names, answer);
    ethtool::numbered(answer, &["rx_max", "tx_max"]);
    ethtool::active(answer, &names);
    ethtool::speed_and_duplex(answer);
}

#[test]
fn what_fuzzers_kept_passes() {
    replay::corpus("netlink", netlink);
    replay::corpus("proc", proc);
}
