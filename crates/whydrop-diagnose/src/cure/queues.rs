//! Longer queues on the way out: qdisc limits, `txqueuelen`.
//!
//! A longer queue in front of a rate is delay. It is only proposed where the worst burst seen drains
//! within a tolerable delay (a threshold); else the rate is what is short.

use std::time::Duration;

use whydrop_model::{
    Answer, Link, LinkAttribute, Proposal, Qdisc, Shortage, Target, TcHandle, Write,
};

use super::{Patient, left_out, measured, rounded_up, with_half};
use crate::receive;

/// Kinds whose limit can be changed while packets wait in them.
const SETTABLE: &[&str] = &["bfifo", "fq", "fq_codel", "pfifo", "tbf"];

/// The limit of the queue that dropped.
pub(super) fn limit(patient: &Patient<'_>) -> Option<Answer> {
    let device = patient.finding.site.device.as_deref()?;
    let link = patient.namespace.links.iter().find(|link| link.name == device)?;
    let qdisc = dropping(patient, link)?;
    let drops = qdisc.stats.get("drops").map_or(0, |pair| pair.delta());
    let length = sent_length(qdisc);
    if let Some((shaper, rate)) = rate(patient, link) {
        let bytes = drops.saturating_mul(length);
        let drains = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        if drains > patient.thresholds.queue_delay() {
            return Some(Answer::Capacity(too_slow(patient, shaper, rate, bytes, drains)));
        }
    }
    let (target, now, unit) = limit_of(link, settable(patient, qdisc))?;
    let each = if unit == "bytes" { length } else { 1 };
    let needed = now.saturating_add(drops.saturating_mul(each));
    let proposed = rounded_up(with_half(needed));
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let {target} be {proposed} {unit} instead of {now}"),
        writes: vec![Write {
            netns: patient.netns(),
            target,
            old: Some(now.to_string()),
            new: proposed.to_string(),
        }],
        measured: vec![
            measured(format!("limit in {unit}"), now),
            measured("packets dropped by it in the window", drops),
            measured("bytes of a packet on average", length),
        ],
        sizing: Some(format!(
            "1.5 x ({now} + {drops} packets{}) = {}, rounded up to {proposed}; all drops of the window \
             count as one burst",
            if each > 1 { format!(" x {each} bytes") } else { String::new() },
            with_half(needed)
        )),
        risk: "A longer queue is delay for everything behind it".into(),
        weakens: None,
        interrupts: None,
        permanent: vec![format!(
            "Set it where {device} gets its queue: TransmitQueueLength= or the qdisc section of networkd, or \
             the script that runs tc"
        )],
        left_out: left_out(patient.finding),
    })))
}

/// The queue itself, or the token bucket around one that nobody configured.
fn settable<'e>(patient: &Patient<'e>, qdisc: &'e Qdisc) -> &'e Qdisc {
    let around = |one: &&Qdisc| {
        one.ifindex == qdisc.ifindex
            && one.kind == "tbf"
            && one.handle.major() == qdisc.parent.major()
    };
    let outer = patient.namespace.qdiscs.iter().find(around);
    outer.filter(|_| qdisc.handle == TcHandle(0)).unwrap_or(qdisc)
}

/// What sets a queue's limit, the limit, and what it counts.
fn limit_of(link: &Link, qdisc: &Qdisc) -> Option<(Target, u64, &'static str)> {
    let device = link.name.clone();
    if qdisc.kind == "pfifo_fast" {
        let target = Target::Link { device, attribute: LinkAttribute::TxQueueLen };
        return Some((target, u64::from(link.tx_queue_len?), "packets"));
    }
    // A default queue has no handle by which it could be told what to do.
    if qdisc.handle == TcHandle(0) || !SETTABLE.contains(&qdisc.kind.as_str()) {
        return None;
    }
    let limits = ["limit_packets", "limit_bytes"].map(|name| qdisc.options.get(name).copied());
    let (limit, unit) = match limits {
        [Some(packets), _] => (packets, "packets"),
        [None, bytes] => (bytes?, "bytes"),
    };
    let target = Target::QdiscLimit {
        device,
        qdisc: qdisc.kind.clone(),
        handle: qdisc.handle.to_string(),
        parent: qdisc.parent.to_string(),
    };
    Some((target, limit, unit))
}

/// As the rule has it: of the queues that dropped, the one furthest from the root.
fn dropping<'e>(patient: &Patient<'e>, link: &Link) -> Option<&'e Qdisc> {
    let dropped = |qdisc: &&Qdisc| {
        qdisc.ifindex == link.ifindex
            && !qdisc.class
            && qdisc.parent != TcHandle::INGRESS
            && qdisc.stats.get("drops").is_some_and(|pair| pair.delta() > 0)
    };
    let all = patient.namespace.qdiscs.iter().filter(dropped);
    all.max_by_key(|qdisc| qdisc.parent != TcHandle::ROOT)
}

/// Mean length of what left the queue, in bytes.
fn sent_length(qdisc: &Qdisc) -> u64 {
    let grown = |name: &str| qdisc.stats.get(name).map_or(0, |pair| pair.delta());
    grown("bytes").checked_div(grown("packets")).filter(|length| *length > 0).unwrap_or(
        // Headers of a full frame.
        receive::USUAL_LENGTH + 42,
    )
}

/// The lowest rate on a device, in bytes per second, and who has it: a shaper or one of its classes.
fn rate<'e>(patient: &Patient<'e>, link: &Link) -> Option<(&'e Qdisc, u64)> {
    let here = patient.namespace.qdiscs.iter().filter(|qdisc| qdisc.ifindex == link.ifindex);
    let ceiling = |qdisc: &Qdisc| {
        let option = |name: &str| qdisc.options.get(name).copied();
        option("ceil_bytes").or_else(|| option("rate_bytes")).filter(|rate| *rate > 0)
    };
    here.filter_map(|qdisc| Some((qdisc, ceiling(qdisc)?))).min_by_key(|(_, rate)| *rate)
}

fn too_slow(
    patient: &Patient<'_>,
    shaper: &Qdisc,
    rate: u64,
    bytes: u64,
    drains: Duration,
) -> Shortage {
    Shortage {
        resource: format!(
            "rate of {} {}: {:.1} Mbit/s",
            shaper.kind,
            shaper.handle,
            rate as f64 * 8.0 / 1e6
        ),
        why: format!(
            "the {bytes} bytes that were dropped would take {:.2} s at this rate: a queue that holds them \
             is delay, not delivery",
            drains.as_secs_f64()
        ),
        advice: "Raise the rate if it is yours to raise, or let the senders send less".into(),
        left_out: left_out(patient.finding),
    }
}
