//! Room for packets that wait for a neighbour, and for neighbours.

use whydrop_model::{Answer, Proposal};

use super::{Patient, left_out, measured, rounded_up, sysctl, with_half};
use crate::receive;

/// More bytes may wait on a device for each neighbour; not for one that never answers.
pub(super) fn queue(patient: &Patient<'_>) -> Option<Answer> {
    let device = patient.finding.site.device.as_deref()?;
    let setting = patient.finding.site.object.as_deref()?;
    let family = if setting.starts_with("net.ipv6") { "ipv6" } else { "ipv4" };
    let link = patient.namespace.links.iter().find(|link| link.name == device)?;
    let troubled = patient.namespace.neighbours.iter().flat_map(|all| &all.troubled);
    let dead = |state: &str| matches!(state, "FAILED" | "INCOMPLETE");
    if troubled.into_iter().any(|one| one.ifindex == link.ifindex && dead(&one.state)) {
        return None;
    }
    let now = patient.device_setting(family, "neigh", device, "unres_qlen_bytes")?;
    let length = patient.mean_length("NEIGH_QUEUEFULL").unwrap_or(receive::USUAL_LENGTH);
    let charged = receive::truesize(length);
    let lost = patient.finding.packets;
    let needed = now.saturating_add(lost.saturating_mul(charged));
    let proposed = rounded_up(with_half(needed));
    let mut write = patient.sysctl(setting, proposed);
    write.old = Some(now.to_string());
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Let {proposed} bytes instead of {now} wait for each neighbour on {device} while it is resolved"
        ),
        writes: vec![write],
        measured: vec![
            measured("bytes that may wait now", now),
            measured("packets dropped from the queue", lost),
            measured("bytes charged for each (truesize)", charged),
        ],
        sizing: Some(format!(
            "1.5 x ({now} + {lost} packets x {charged} bytes) = {}, rounded up to {proposed}",
            with_half(needed)
        )),
        risk: "The memory may be taken once for every address that does not answer".into(),
        weakens: None,
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}

/// A larger table. One serves all namespaces; its limits are set in the first.
pub(super) fn table(patient: &Patient<'_>) -> Option<Answer> {
    let (table, family) = match patient.variant() {
        "arp" => ("arp_cache", "ipv4"),
        "ndisc" => ("ndisc_cache", "ipv6"),
        _ => return None,
    };
    let host = patient.host()?;
    let table = patient.evidence.neighbour_tables.iter().find(|one| one.name == table)?;
    let now = u64::from(table.gc_thresh3);
    let wanted = table.entries.max(now).saturating_add(patient.finding.packets);
    let third = rounded_up(wanted.saturating_mul(2));
    let name = |number: u8| format!("net.{family}.neigh.default.gc_thresh{number}");
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let the neighbour table hold {third} entries instead of {now}"),
        writes: vec![
            sysctl(host, name(3), third),
            sysctl(host, name(2), (third / 2).max(table.gc_thresh2.into())),
            sysctl(host, name(1), (third / 4).max(table.gc_thresh1.into())),
        ],
        measured: vec![
            measured("entries of all namespaces", table.entries),
            measured("most entries allowed (gc_thresh3)", now),
            measured("packets lost for want of an entry", patient.finding.packets),
        ],
        sizing: Some(format!(
            "gc_thresh3 = 2 x ({} + {}) rounded up, gc_thresh2 half of it, gc_thresh1 a quarter, none less \
             than now",
            table.entries.max(now),
            patient.finding.packets
        )),
        risk: "A scan of the local network fills a larger table as well: look whether the entries answer"
            .into(),
        weakens: None,
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}
