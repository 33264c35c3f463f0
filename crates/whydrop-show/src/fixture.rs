//! One report that every format is tested on.

use whydrop_model::{
    Attach, Class, Confidence, EvidenceItem, EvidenceKind, Finding, HostFacts, LayerState,
    LayerVerdict, Ledger, LedgerEntry, NetnsRef, NotChecked, ProcessRef, REPORT_SCHEMA, Remedy,
    Report, ReportWindow, Severity, Site, TracerFacts, Verdict,
};

/// A full accept queue in namespace `b`, some noise, and something that could not be checked. The
/// process has a hostile name.
pub(crate) fn report() -> Report {
    let netns = Some(NetnsRef { inode: Some(4_026_532_000), name: Some("b".into()) });
    let site = Site {
        netns: netns.clone(),
        device: None,
        socket: Some("tcp 10.99.0.2:9000".into()),
        process: Some(ProcessRef { pid: 77, comm: "ser\x1b[2Jver".into() }),
        object: Some("listen() backlog of 10.99.0.2:9000".into()),
    };
    Report {
        schema: REPORT_SCHEMA.into(),
        host: HostFacts { kernel: "6.18.44".into(), hostname: "lab".into(), cpus: 2 },
        window: ReportWindow { start: "2026-01-01T00:00:00Z".into(), seconds: 10.004 },
        verdict: Verdict::Loss,
        findings: vec![finding(site.clone())],
        ledger: ledger(site, netns),
        tracer: TracerFacts { attach: Attach::TpBtf, events: 20, sampled: 20, lost: 0 },
        not_checked: vec![NotChecked {
            what: "half-open connections in namespace c".into(),
            why: "it vanished".into(),
        }],
        layers: layers(),
    }
}

fn finding(site: Site) -> Finding {
    Finding {
        cause: "accept-queue-full".into(),
        variant: Some("app-backlog".into()),
        class: Class::Fault,
        layer: "tcp-listen".into(),
        severity: Severity::Critical,
        confidence: Confidence::Confirmed,
        packets: 152,
        site,
        summary: "server (pid 77) asked for a backlog of only 5 on 10.99.0.2:9000; bursts need 64"
            .into(),
        evidence: vec![
            EvidenceItem::new(EvidenceKind::Counter, "TcpExt.ListenOverflows", 152),
            EvidenceItem::new(EvidenceKind::State, "accept queue", "6 of 5".to_string()),
        ],
        remedies: vec![Remedy {
            summary: "Raise the backlog argument of its listen() call to 64".into(),
            commands: vec!["ip netns exec b ss -ltnmp 'sport = :9000'".into()],
            useless: vec!["net.core.somaxconn alone: it already allows 4096".into()],
        }],
        follows: None,
    }
}

fn ledger(site: Site, netns: Option<NetnsRef>) -> Ledger {
    let entry = |cause: &str, packets, traced, site, noise| LedgerEntry {
        cause: cause.into(),
        packets,
        traced,
        counted: packets - traced,
        site,
        noise,
    };
    Ledger {
        lost: 152,
        explained: 152,
        unexplained: 0,
        benign: 20,
        entries: vec![
            entry("accept-queue-full", 152, 0, site, false),
            entry("lan-chatter", 20, 20, Site { netns, ..Site::default() }, true),
        ],
    }
}

fn layers() -> Vec<LayerVerdict> {
    let layer = |layer, state, packets, note: &str| LayerVerdict {
        layer,
        state,
        packets,
        note: note.into(),
    };
    vec![
        layer("nic", LayerState::Clean, 0, "tracer, 2 devices"),
        layer("tcp-listen", LayerState::Loss, 152, "accept queue full"),
        layer("qdisc", LayerState::Unsure, 0, "only the tracer sees this layer"),
    ]
}
