//! The drops of a file: evidence, or a capture that whydrop wrote.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use whydrop_diagnose::attribute::{Surroundings, as_total};
use whydrop_diagnose::{Thresholds, causes};
use whydrop_filter::Program;
use whydrop_model::{
    Attribution, CallSite, Class, DROP_SCHEMA, Evidence, Exemplar, Marks, QueueOwner, Sighting,
};
use whydrop_show::pcapng::{self, Captured, Packet};

use super::names::Epoch;
use super::screen::Screen;
use super::{benign, tell};
use crate::cli::Watch;
use crate::evidence_file;

/// How every pcapng file begins.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// Shows them.
pub(super) fn run(
    path: &Path,
    options: &Watch,
    filter: Option<&Program>,
    mut screen: Screen,
) -> anyhow::Result<()> {
    let shown = path.display();
    let file = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if file.starts_with(&PCAPNG) {
        let captured = pcapng::read(&file).map_err(|why| anyhow!("{shown}: {why}"))?;
        if options.stack || options.flame.is_some() {
            tell("a capture file holds no stacks; evidence files of `whydrop record` do");
        }
        capture(&captured, filter, &mut screen)?;
    } else {
        if filter.is_some() {
            bail!(
                "{shown} holds no packets, so no filter can be applied: use conditions such as --reason \
                 and --dev"
            );
        }
        if options.write.is_some() {
            bail!("{shown} holds no packets, so there is nothing to write into a capture file");
        }
        let recorded = evidence_file::read(path)?;
        let (drops, sampled) = (recorded.tracer.events, recorded.tracer.sampled);
        evidence(recorded, path, &mut screen)?;
        tell(&format!("{drops} drops were counted in the recording, {sampled} of them in detail"));
    }
    screen.finish(options.flame.as_deref())?;
    let folded: u64 = screen.folded().values().sum();
    if folded > 0 {
        tell(&format!("{} not shown; --benign shows them", benign(folded)));
    }
    Ok(())
}

/// The exemplars of a recording. `path` is for the errors alone.
pub(super) fn evidence(evidence: Evidence, path: &Path, screen: &mut Screen) -> anyhow::Result<()> {
    let start =
        evidence.window.start.parse().map_err(|why| {
            anyhow!("{}: the start of its window is no time: {why}", path.display())
        })?;
    let epoch = Epoch::at(start);
    let tracer = evidence.tracer.clone();
    let mut known = Surroundings::new(evidence, Thresholds::default());
    for drop in tracer.exemplars {
        let total = tracer.totals.iter().find(|total| drop.is_of(total)).cloned();
        let protocol = drop.flow.as_ref().map(|flow| flow.protocol);
        let total = total.unwrap_or_else(|| as_total(&drop, protocol, Marks::default()));
        let time = epoch.timestamp(drop.at_ns);
        let container = drop.netns.and_then(|inode| known.container(inode)).map(str::to_owned);
        let name = drop.netns.and_then(|inode| known.namespace(inode)?.name.clone());
        let sighting = Sighting {
            schema: DROP_SCHEMA.into(),
            time: format!("{time:.9}"),
            packet_len: None,
            netns_name: name,
            verdict: known.attribute(&total, Some(&drop)),
            owner: known.owner(&drop),
            container,
            drop,
        };
        if screen.wants(&sighting) {
            screen.show(&sighting, time, None)?;
        }
    }
    Ok(())
}

/// The packets of a capture.
pub(super) fn capture(
    captured: &[Captured],
    filter: Option<&Program>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let first = captured.first().map_or(0, |one| one.at_ns);
    for one in captured {
        if filter.is_some_and(|filter| !filter.accepts(&one.frame, one.length)) {
            continue;
        }
        let time = jiff::Timestamp::from_nanosecond(one.at_ns.into())
            .map_err(|why| anyhow!("a packet has an impossible time: {why}"))?;
        let Some((header, bytes)) = one.frame.split_first_chunk::<HEADER>() else { continue };
        let length = one.length.saturating_sub(HEADER as u32);
        let l3 = u16::from_be_bytes([header[12], header[13]]);
        let mac = (header[..12] != [0; 12]).then_some(*header);
        let sighting = sighting(one, l3, bytes, length, first, time);
        if screen.wants(&sighting) {
            screen.show(&sighting, time, Some(Packet { mac, l3, bytes, length }))?;
        }
    }
    Ok(())
}

fn sighting(
    one: &Captured,
    l3: u16,
    bytes: &[u8],
    length: u32,
    first: u64,
    time: jiff::Timestamp,
) -> Sighting {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let unnamed = one.netns.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
    Sighting {
        schema: DROP_SCHEMA.into(),
        time: format!("{time:.9}"),
        drop: Exemplar {
            at_ns: one.at_ns.saturating_sub(first),
            reason: one.comment.reason.clone(),
            site: call_site(&one.comment.site),
            netns: unnamed.and_then(|inode| inode.parse().ok()),
            ifindex: 0,
            device: Some(one.device.clone()).filter(|device| device != "-"),
            len: length,
            l3,
            ether: None,
            vlan: None,
            vni: None,
            flow: whydrop_probe::flow(l3, bytes),
            socket: None,
            stack: Vec::new(),
        },
        packet_len: Some(length),
        netns_name: text(&one.netns).filter(|name| unnamed.is_none() && name != "-"),
        verdict: verdict(&one.comment),
        owner: owner(&one.comment.owner),
        container: text(&one.comment.container),
    }
}

/// `symbol+0x12 [module]`.
fn call_site(text: &str) -> CallSite {
    let (place, module) = match text.split_once(" [") {
        Some((place, module)) => (place, Some(module.trim_end_matches(']').to_owned())),
        None => (text, None),
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
    match place.rsplit_once('+') {
        Some((symbol, offset)) => {
            CallSite { symbol: symbol.to_owned(), offset: hex(offset), module }
        }
        None => CallSite { symbol: String::new(), offset: hex(place), module },
    }
}

fn verdict(comment: &pcapng::Comment) -> Option<Attribution> {
    let (id, variant) = match comment.cause.split_once('/') {
        Some((id, variant)) => (id, Some(variant.to_owned())),
        None => (comment.cause.as_str(), None),
    };
    // Class and layer follow from the cause; one of another release has what its comment says.
    let known = causes::find(id);
    let (class, layer) = comment.kind.split_once(", ")?;
    let class = known.map_or_else(|| Class::from_name(class), |cause| Some(cause.class))?;
    Some(Attribution {
        cause: id.to_owned(),
        variant,
        class,
        layer: known.map_or(layer, |cause| cause.layer).to_owned(),
        object: (!comment.by.is_empty()).then(|| comment.by.clone()),
        socket: None,
    })
}

/// `comm[pid] unit`.
fn owner(text: &str) -> Option<QueueOwner> {
    let (comm, rest) = text.rsplit_once('[')?;
    let (pid, unit) = rest.split_once(']')?;
    let unit = unit.trim();
    Some(QueueOwner {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        unit: (!unit.is_empty()).then(|| unit.to_owned()),
        container: None,
        pod: None,
        others: 0,
    })
}
