//! What both rules about XDP programs need: where programs ran, what became of packets there, and what
//! the program is called.

use std::collections::BTreeSet;

use whydrop_model::{DropTotal, Evidence, Link};

use crate::nic;
use crate::signature::{Signature, drops};

/// Namespace and index of a device, as the packet told them.
pub(crate) type Place = (Option<u64>, u32);

/// Where packets die of what a program in a driver returned, without a reason (6.18). Only of drivers that
/// make a packet first; with the others it dies untraced.
pub(crate) const NATIVE: &[Signature] = &[drops("NOT_SPECIFIED", "veth_xdp_rcv_skb")];

/// The same for a program that the stack runs, under its names in different kernels.
pub(crate) const GENERIC: &[Signature] = &[
    drops("NOT_SPECIFIED", "do_xdp_generic"),
    drops("NOT_SPECIFIED", "netif_receive_generic_xdp"),
    drops("NOT_SPECIFIED", "bpf_prog_run_generic_xdp"),
];

/// A redirect of the stack's that failed; those of drivers are consumed and only counted.
pub(crate) const REDIRECT: &[Signature] = &[drops("XDP", "*")];

/// True if these drops happened there, by one of these signatures.
pub(crate) fn is_at(place: Place, signatures: &[Signature], total: &DropTotal) -> bool {
    (total.netns, total.ifindex) == place && signatures.iter().any(|it| it.matches(total))
}

/// Every place where a program may have lost something, in order.
pub(crate) fn places(evidence: &Evidence) -> BTreeSet<Place> {
    let all = [NATIVE, GENERIC, REDIRECT];
    let totals = evidence.tracer.totals.iter();
    let traced = totals.filter(|total| all.iter().any(|it| it.iter().any(|it| it.matches(total))));
    let events = evidence.events.totals.iter().filter(|total| total.event.starts_with("xdp:"));
    let links = evidence.namespaces.iter().flat_map(|namespace| {
        let with = namespace.links.iter().filter(|link| link.xdp.is_some());
        with.map(|link| (Some(namespace.inode), link.ifindex))
    });
    traced
        .map(|total| (total.netns, total.ifindex))
        .chain(events.map(|total| (total.netns, total.ifindex)))
        .chain(links)
        .collect()
}

/// How often a tracepoint was hit there, by its code.
pub(crate) fn events<'e>(
    evidence: &'e Evidence,
    place: Place,
    event: &'static str,
) -> impl Iterator<Item = (&'e str, u64)> {
    evidence
        .events
        .totals
        .iter()
        .filter(move |total| total.event == event && (total.netns, total.ifindex) == place)
        .map(|total| (total.code.as_str(), total.packets))
}

/// The variant of `xdp-program-error` that an exception with this code is; `None` for one that is about
/// sending.
pub(crate) fn exception(code: &str) -> Option<&'static str> {
    match code {
        "ABORTED" => Some("aborted"),
        "TX" | "REDIRECT" => None,
        _ => Some("unknown-action"),
    }
}

/// The device there, if it is among the evidence.
pub(crate) fn link(evidence: &Evidence, (netns, ifindex): Place) -> Option<&Link> {
    let links = &evidence.namespace(netns?)?.links;
    links.iter().find(|link| link.ifindex == ifindex)
}

/// Growth of the driver's own counts of packets that a program refused, each packet once.
pub(crate) fn refused(link: &Link) -> u64 {
    let driver = link.driver.as_ref().map_or("", |driver| driver.name.as_str());
    let counts = link.ethtool.iter().filter(|(name, _)| {
        nic::statistic(driver, name).is_some_and(|it| {
            let elsewhere = it.within.is_some_and(|other| link.ethtool.contains_key(other));
            it.class == nic::Class::XdpDrop && !elsewhere
        })
    });
    counts.map(|(_, pair)| pair.delta()).sum()
}

/// The program as reports name it: `XDP program xdp_drop (id 77) on veth0`.
pub(crate) fn program(evidence: &Evidence, link: Option<&Link>) -> String {
    let device = link.map_or("a device that is gone", |link| link.name.as_str());
    let ids = link.and_then(|link| link.xdp.as_ref()).map_or(&[][..], |xdp| &xdp.programs);
    let named = |id: &u32| match evidence.bpf_programs.get(id) {
        Some(name) => format!("{name} (id {id})"),
        None => format!("id {id}"),
    };
    let programs: Vec<_> = ids.iter().map(named).collect();
    if programs.is_empty() {
        format!("XDP program on {device}, no longer attached")
    } else {
        format!("XDP program {} on {device}", programs.join(", "))
    }
}

/// A command that shows the program, or the device if it is not known.
pub(crate) fn show(link: &Link) -> String {
    match link.xdp.as_ref().and_then(|xdp| xdp.programs.first()) {
        Some(id) => format!("bpftool prog show id {id}"),
        None => format!("ip -d link show dev {}", link.name),
    }
}
