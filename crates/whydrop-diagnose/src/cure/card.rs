//! Rings and queues of network cards, and the CPUs that serve them.
//!
//! Whether a card lacks a ring, a queue or a CPU is the rules' to say; here it becomes a change. Most
//! drivers reset the card for a new ring or number of queues, so both need consent; other CPUs do not.

use whydrop_model::{Answer, CardSetting, EvidenceItem, Link, Proposal, Target, Write};

use super::{Patient, left_out, measured};
use crate::case::Case;
use crate::ring::{self, Needed, Overrun};

/// Frames that found no room: a larger ring, or more queues where the CPUs are what is slow.
pub(super) fn overrun(patient: &Patient<'_>) -> Option<Answer> {
    match patient.variant() {
        "ring-small" => larger_ring(patient),
        "cpu-busy" => more_queues(patient),
        _ => None,
    }
}

/// One CPU has all the work: more CPUs by RPS where the card has one queue, else more queues.
pub(super) fn imbalance(patient: &Patient<'_>) -> Option<Answer> {
    match patient.variant() {
        "single-queue" => more_cpus(patient),
        "rss" => more_queues(patient),
        _ => None,
    }
}

fn link<'e>(patient: &Patient<'e>) -> Option<&'e Link> {
    let device = patient.finding.site.device.as_deref()?;
    patient.namespace.links.iter().find(|link| link.name == device)
}

/// Does work with what the rules know about the card.
fn with_overrun<T>(patient: &Patient<'_>, work: impl FnOnce(&Overrun<'_>) -> T) -> Option<T> {
    let link = link(patient)?;
    let case = Case::new(patient.evidence, *patient.thresholds);
    let overruns = ring::overruns(&case);
    let ours = overruns.iter().find(|one| {
        one.namespace.inode == patient.namespace.inode && one.link.ifindex == link.ifindex
    });
    ours.map(work)
}

fn resets(device: &str) -> String {
    format!(
        "most drivers reset {device} for it: what is on its way is lost, and the carrier may go for seconds"
    )
}

fn larger_ring(patient: &Patient<'_>) -> Option<Answer> {
    let link = link(patient)?;
    let device = &link.name;
    let Needed { now, most, lost, size } = ring::needed(link)?;
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Give {device} a receive ring of {size} descriptors instead of {now}"),
        writes: vec![write(patient, device, CardSetting::RxRing, now, size)],
        measured: vec![
            measured("descriptors of a ring", u64::from(now)),
            measured("most descriptors that its driver allows", u64::from(most)),
            measured("packets lost on the worst queue", lost),
        ],
        sizing: Some(format!(
            "{now} + {lost} lost, if they were one burst, as a power of two and no more than {most}"
        )),
        risk: "A large ring costs cache misses, and what waits in it is delivered later".into(),
        weakens: None,
        interrupts: Some(resets(device)),
        permanent: vec![format!(
            "RxBufferSize={size} in the systemd .link file that applies to {device} does the same at boot"
        )],
        left_out: left_out(patient.finding),
    })))
}

fn more_queues(patient: &Patient<'_>) -> Option<Answer> {
    let link = link(patient)?;
    let device = &link.name;
    let of = |name: &str| link.channels.get(name).copied().unwrap_or(0);
    let (now, most) = (of("combined_count"), of("max_combined"));
    let (queues, load, cpus) = with_overrun(patient, |overrun| {
        let load: f64 = overrun.loads.iter().map(|load| load.softirq).sum();
        (overrun.queues_needed().min(most), load, overrun.loads.len())
    })?;
    if now == 0 || queues <= now {
        return None;
    }
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let {device} use {queues} queues instead of {now}, each for a CPU of its own"),
        writes: vec![write(patient, device, CardSetting::CombinedQueues, now, queues)],
        measured: vec![
            measured("queues in use", u64::from(now)),
            measured("most queues that its driver allows", u64::from(most)),
            measured("CPUs", cpus as u64),
            percent("CPUs that softirqs keep busy", load),
        ],
        sizing: Some(format!(
            "{load:.2} CPUs of softirqs at {} of a CPU each, no more than {most} and {cpus} CPUs",
            ring::percent(patient.thresholds.planned_load)
        )),
        risk: "Flows move to other CPUs, and a table that spreads them otherwise (`ethtool -X`) is reset"
            .into(),
        weakens: None,
        interrupts: Some(resets(device)),
        permanent: vec![format!(
            "CombinedChannels={queues} in the systemd .link file that applies to {device} does the same at \
             boot; irqbalance, or the driver, gives each queue its CPU"
        )],
        left_out: left_out(patient.finding),
    })))
}

fn more_cpus(patient: &Patient<'_>) -> Option<Answer> {
    let link = link(patient)?;
    let device = &link.name;
    // Set up by somebody already, and still not enough.
    let queue = "rx-0";
    if link.steering.iter().flatten().any(|one| one.queue == queue && !one.cpus.is_empty()) {
        return None;
    }
    let (hot, mask, cpus) = with_overrun(patient, |overrun| {
        let hot = overrun.busiest()?;
        Some((hot, overrun.others_mask(hot.cpu)?, overrun.loads.len()))
    })??;
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Let the other CPUs do the protocol work of {device}, which has one receive queue (RPS on \
             {queue}: {mask})"
        ),
        writes: vec![Write {
            netns: patient.netns(),
            target: Target::QueueCpus { device: device.clone(), queue: queue.into() },
            old: link.steering.as_ref().map(|_| "0".into()),
            new: mask,
        }],
        measured: vec![
            ring::state_of(&hot),
            measured("CPUs", cpus as u64),
            measured("packets lost", patient.finding.packets),
        ],
        sizing: Some(format!("all CPUs but CPU {}, which takes the interrupts", hot.cpu)),
        risk: "The other CPUs are interrupted for it, and packets of one flow still go to one CPU"
            .into(),
        weakens: None,
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}

fn write(patient: &Patient<'_>, device: &str, setting: CardSetting, old: u32, new: u32) -> Write {
    Write {
        netns: patient.netns(),
        target: Target::Card { device: device.into(), setting },
        old: Some(old.to_string()),
        new: new.to_string(),
    }
}

fn percent(name: &str, share: f64) -> EvidenceItem {
    EvidenceItem::new(whydrop_model::EvidenceKind::State, name, ring::percent(share))
}
