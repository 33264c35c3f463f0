//! Limits that the host has once for all: connection tracking and the receive backlog of a CPU.

use whydrop_model::{Answer, Proposal};

use super::{Patient, left_out, measured, rounded_up, sysctl, with_half};

/// Longest time for which an entry of a connection that is over stays (`tcp_timeouts`,
/// `net/netfilter/nf_conntrack_proto_tcp.c`), where the setting could not be read.
const TIME_WAIT: u64 = 120;

/// A larger connection table, with at least as many buckets for each entry as before.
pub(super) fn conntrack(patient: &Patient<'_>) -> Option<Answer> {
    const MAX: &str = "net.netfilter.nf_conntrack_max";
    const BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";
    if patient.variant() != "load" {
        return None;
    }
    let host = patient.host()?;
    let value = |name: &str| host.sysctl(name).and_then(|value| u64::try_from(value).ok());
    let now = value(MAX)?;
    let lives = value("net.netfilter.nf_conntrack_tcp_timeout_time_wait").unwrap_or(TIME_WAIT);
    let refused = patient.finding.packets as f64 / patient.seconds();
    let millis = (patient.evidence.window.length().as_millis() as u64).max(1);
    let needed = now.saturating_add(
        patient.finding.packets.saturating_mul(lives).saturating_mul(1000).div_ceil(millis),
    );
    let proposed = rounded_up(with_half(needed));
    let mut writes = Vec::new();
    if let Some(buckets) = value(BUCKETS) {
        // A multiple of what is there: the kernel rounds up to whole pages otherwise
        // (`nf_ct_alloc_hashtable()`, `net/netfilter/nf_conntrack_core.c`, 6.18).
        let times = proposed.div_ceil(now.max(1));
        writes.push(sysctl(host, BUCKETS, buckets.saturating_mul(times)));
    }
    writes.push(sysctl(host, MAX, proposed));
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let connection tracking hold {proposed} connections instead of {now}"),
        writes,
        measured: vec![
            measured("connections allowed", now),
            measured("connections refused", patient.finding.packets),
            measured("seconds for which an entry stays after its connection", lives),
        ],
        sizing: Some(format!(
            "1.5 x ({now} + {refused:.1} refused per second x {lives} s) rounded up to {proposed} (Little's \
             law)"
        )),
        risk: "Each entry takes memory; the table is rehashed while packets wait".into(),
        weakens: None,
        interrupts: None,
        permanent: vec![
            "The setting is lost if the module is loaded after sysctl.d was applied: list nf_conntrack in \
             /etc/modules-load.d"
                .into(),
        ],
        left_out: left_out(patient.finding),
    })))
}

/// A longer receive backlog for the bursts of a CPU that keeps up otherwise.
pub(super) fn cpu_backlog(patient: &Patient<'_>) -> Option<Answer> {
    const BACKLOG: &str = "net.core.netdev_max_backlog";
    if patient.variant() != "burst" {
        return None;
    }
    let host = patient.host()?;
    let now = host.sysctl(BACKLOG).and_then(|value| u64::try_from(value).ok())?;
    let worst = patient.evidence.softnet.iter().max_by_key(|cpu| cpu.dropped.delta32())?;
    let dropped = worst.dropped.delta32();
    let needed = now + dropped;
    let proposed = rounded_up(with_half(needed));
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let {proposed} packets instead of {now} wait for each CPU ({BACKLOG})"),
        writes: vec![sysctl(host, BACKLOG, proposed)],
        measured: vec![
            measured("packets that may wait now", now),
            measured(format!("packets dropped on CPU {}, the worst", worst.cpu), dropped),
            measured("packets it processed in the window", worst.processed.delta32()),
        ],
        sizing: Some(format!(
            "1.5 x ({now} + {dropped} dropped) = {}, rounded up to {proposed}; all drops of the window count \
             as one burst",
            with_half(needed)
        )),
        risk: "What waits longer is delivered later".into(),
        weakens: None,
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}
