//! Devices that are down, and links whose ends disagree.

use whydrop_model::{Answer, Link, LinkAttribute, Namespace, Proposal, Target, Write};

use super::{Patient, left_out, measured, reference};

/// Below this IPv6 leaves a device and takes its addresses along (`IPV6_MIN_MTU`).
const LEAST_FOR_IPV6: u32 = 1280;

fn own<'e>(patient: &Patient<'e>) -> Option<&'e Link> {
    let device = patient.finding.site.device.as_deref()?;
    patient.namespace.links.iter().find(|link| link.name == device)
}

/// The other end of a virtual link, if its namespace was observed.
fn peer<'e>(patient: &Patient<'e>, link: &Link) -> Option<(&'e Namespace, &'e Link)> {
    let lower = link.lower.filter(|_| link.kind.as_deref() == Some("veth"))?;
    let namespace = match (lower.netns, lower.netnsid) {
        (Some(inode), _) => patient.evidence.namespace(inode)?,
        (None, None) => patient.namespace,
        (None, Some(_)) => return None,
    };
    let end = namespace.links.iter().find(|end| end.ifindex == lower.ifindex)?;
    Some((namespace, end))
}

fn write(namespace: &Namespace, link: &Link, attribute: LinkAttribute, new: &str) -> Write {
    let old = match attribute {
        LinkAttribute::State => Some(if link.up { "up" } else { "down" }.to_owned()),
        LinkAttribute::Mtu => Some(link.mtu.to_string()),
        LinkAttribute::TxQueueLen => link.tx_queue_len.map(|length| length.to_string()),
    };
    Write {
        netns: reference(namespace),
        target: Target::Link { device: link.name.clone(), attribute },
        old,
        new: new.to_owned(),
    }
}

/// The sender sends no larger packets than the other end takes, because a smaller MTU is often there
/// for a reason further on; only where that would cost the sender IPv6 the other end is raised.
pub(super) fn mtu(patient: &Patient<'_>) -> Option<Answer> {
    let link = own(patient)?;
    let (elsewhere, end) = peer(patient, link)?;
    if end.mtu >= link.mtu {
        return None;
    }
    let speaks_ipv6 = link.addresses.iter().any(std::net::IpAddr::is_ipv6);
    let lower = end.mtu >= LEAST_FOR_IPV6 || !speaks_ipv6;
    let (namespace, changed, mtu) =
        if lower { (patient.namespace, link, end.mtu) } else { (elsewhere, end, link.mtu) };
    let which = if lower { "the sending end" } else { "the receiving end" };
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Give {which}, {}, the MTU of the other end: {mtu} instead of {}",
            changed.name, changed.mtu
        ),
        writes: vec![write(namespace, changed, LinkAttribute::Mtu, &mtu.to_string())],
        measured: vec![
            measured(format!("MTU of {}", link.name), u64::from(link.mtu)),
            measured(format!("MTU of its other end {}", end.name), u64::from(end.mtu)),
        ],
        sizing: None,
        risk: "Whoever routes through this link learns the smaller size by path MTU discovery; where ICMP \
               is filtered, large packets still hang"
            .into(),
        weakens: None,
        interrupts: None,
        permanent: vec![format!(
            "Set the MTU where {} is created (container runtime, CNI, networkd, ip link add)",
            changed.name
        )],
        left_out: left_out(patient.finding),
    })))
}

/// The other end of a virtual link is down by configuration.
pub(super) fn link_down(patient: &Patient<'_>) -> Option<Answer> {
    let link = own(patient)?;
    let (namespace, end) = peer(patient, link)?;
    (!end.up).then(|| up(patient, namespace, end))
}

/// The device itself is down by configuration.
pub(super) fn interface_down(patient: &Patient<'_>) -> Option<Answer> {
    let link = own(patient)?;
    (!link.up).then(|| up(patient, patient.namespace, link))
}

fn up(patient: &Patient<'_>, namespace: &Namespace, link: &Link) -> Answer {
    let device = &link.name;
    Answer::Change(Box::new(Proposal {
        summary: format!("Take {device} up"),
        writes: vec![write(namespace, link, LinkAttribute::State, "up")],
        measured: vec![measured("packets lost", patient.finding.packets)],
        sizing: None,
        risk: "Somebody took it down, and may have had a reason".into(),
        weakens: Some(format!(
            "{device} carries packets again that it was configured not to carry"
        )),
        interrupts: None,
        permanent: vec![format!(
            "Find out what took {device} down; it stays up until that happens again"
        )],
        left_out: left_out(patient.finding),
    }))
}
