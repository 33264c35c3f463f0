//! Small pieces of evidence for the tests of this crate.

use std::collections::BTreeMap;

use whydrop_model::{
    Attach, CallSite, DropTotal, EVIDENCE_SCHEMA, Endpoint, Evidence, Exemplar, Flow, Host,
    Listener, Marks, Namespace, ObservedWindow, Pair, Process, QueueStep, Route, Scope,
    TracerEvidence,
};

/// Inode of the sample's only namespace.
pub(crate) const INODE: u64 = 4_026_532_000;

/// Ten seconds of one named namespace in which nothing happened, with the tracer attached.
pub(crate) fn evidence() -> Evidence {
    let mut tracer = TracerEvidence::absent(Vec::new());
    tracer.attach = Attach::TpBtf;
    let reasons = include_str!("../knowledge/kernels/6.18.txt").lines();
    tracer.reasons = reasons.filter(|line| !line.starts_with('#')).map(Into::into).collect();
    Evidence {
        schema: EVIDENCE_SCHEMA.into(),
        host: Host {
            kernel: "6.18.0".into(),
            hostname: "lab".into(),
            cpus: 2,
            machine: "x86_64".into(),
            boot_id: None,
        },
        window: ObservedWindow {
            start: "2026-01-01T00:00:00Z".into(),
            seconds: 10.0,
            interrupted: false,
        },
        scope: Scope::default(),
        tracer,
        events: whydrop_model::EventEvidence::default(),
        softnet: Vec::new(),
        cpu_side: whydrop_model::CpuSide::default(),
        protocol_memory: Vec::new(),
        cgroups: Vec::new(),
        neighbour_tables: Vec::new(),
        cgroup_programs: Vec::new(),
        bpf_programs: BTreeMap::new(),
        namespaces: vec![Namespace {
            inode: INODE,
            name: Some("b".into()),
            sysctls: BTreeMap::from([
                ("net.core.somaxconn".into(), "4096".into()),
                ("net.ipv4.tcp_max_syn_backlog".into(), "512".into()),
                ("net.ipv4.tcp_syncookies".into(), "1".into()),
            ]),
            ..Namespace::default()
        }],
        not_checked: Vec::new(),
    }
}

/// Lets a counter of the sample's namespace grow.
pub(crate) fn count(evidence: &mut Evidence, counter: &str, delta: u64) {
    let pair = Pair { before: 100, after: 100 + delta };
    evidence.namespaces[0].counters.insert(counter.into(), pair);
}

/// Drops of IPv4 TCP packets in the sample's namespace.
pub(crate) fn total(reason: &str, symbol: &str, packets: u64) -> DropTotal {
    DropTotal {
        reason: reason.into(),
        site: Some(CallSite { symbol: symbol.into(), offset: 0x10, module: None }),
        netns: Some(INODE),
        ifindex: 2,
        device: Some("veth0".into()),
        l3: 0x0800,
        l4: Some(6),
        marks: Marks::default(),
        packets,
        bytes: packets * 60,
        inferred: false,
    }
}

/// One of these drops in detail: a TCP segment from this port.
pub(crate) fn exemplar(total: &DropTotal, source_port: u16) -> Exemplar {
    let end = |port| Endpoint { address: "192.0.2.1".parse().expect("an address"), port };
    Exemplar {
        at_ns: 1,
        reason: total.reason.clone(),
        site: total.site.clone().expect("a call site"),
        netns: total.netns,
        ifindex: total.ifindex,
        device: None,
        len: 60,
        l3: total.l3,
        ether: None,
        vlan: None,
        vni: None,
        flow: Some(Flow {
            source: end(Some(source_port)),
            destination: end(Some(40000)),
            protocol: 6,
            tcp_flags: Some(0x12),
            icmp: None,
        }),
        socket: None,
        stack: Vec::new(),
    }
}

/// A route of table `main` by this device.
pub(crate) fn route(kind: &str, destination: &str, prefix: u8, device: u32) -> Route {
    Route {
        kind: kind.into(),
        destination: destination.parse().expect("an address"),
        prefix,
        table: 254,
        priority: 0,
        gateway: None,
        devices: vec![device],
    }
}

/// A listener on port 9000 of process 77 with this backlog, refusals and course of its queue
/// (milliseconds, queued, drops).
pub(crate) fn listener(backlog: u64, drops: u64, course: &[(u64, u32, u64)]) -> Listener {
    Listener {
        address: "0.0.0.0".parse().expect("an address"),
        port: 9000,
        ifindex: 0,
        v6only: false,
        inode: 1234,
        uid: 0,
        backlog: Pair { before: backlog, after: backlog },
        drops: Pair { before: 0, after: drops },
        steps: course
            .iter()
            .map(|&(at_ms, queued, drops)| QueueStep { at_ms, queued, drops })
            .collect(),
        looks: 100,
        half_open_peak: None,
        owners: vec![Process {
            pid: 77,
            comm: "server".into(),
            program: Some("server".into()),
            state: 'S',
            ..Process::default()
        }],
    }
}
