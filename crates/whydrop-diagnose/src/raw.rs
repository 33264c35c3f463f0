//! The raw evidence of drops that no rule explains: where, on which way, which packet, and what the
//! layers beside it say. It quotes; it does not conclude.

use whydrop_model::{DropTotal, EvidenceItem, EvidenceKind, Exemplar, Flow, Namespace};

use crate::case::Case;
use crate::causes::LAYERS;
use crate::{counters, is_loss, knowledge, layers};

/// Frames of the stack shown, innermost first.
const FRAMES: usize = 8;
/// Counters shown of one layer.
const COUNTERS: usize = 4;

/// What is known of these drops, all of one reason, function and namespace, beside their number.
pub(crate) fn of_drops(case: &Case<'_>, totals: &[&DropTotal]) -> Vec<EvidenceItem> {
    use EvidenceKind::{State, Tracer};
    let Some(first) = totals.first() else { return Vec::new() };
    let page = knowledge::find(&first.reason);
    let mut items = Vec::new();
    if let Some(site) = &first.site {
        items.push(EvidenceItem::new(Tracer, "call site", site.to_string()));
    }
    if let Some(page) = page {
        items.push(EvidenceItem::new(
            State,
            format!("{} means", first.reason),
            page.meaning.to_owned(),
        ));
    }
    let seen = &case.evidence().tracer.exemplars;
    let example = seen.iter().find(|one| totals.iter().any(|total| one.is_of(total)));
    if let Some(example) = example {
        items.push(EvidenceItem::new(Tracer, "example packet", packet(example)));
        if !example.stack.is_empty() {
            items.push(EvidenceItem::new(Tracer, "kernel stack", stack(example)));
        }
    }
    let namespace = first.netns.and_then(|inode| case.evidence().namespace(inode));
    items.extend(page.into_iter().flat_map(|page| beside(case, page.layer, namespace)));
    items
}

/// The packet in one line.
fn packet(one: &Exemplar) -> String {
    let what = one.flow.as_ref().map_or_else(
        || match one.l3 {
            0 => "of unknown type".into(),
            l3 => format!("of EtherType {l3:#06x}"),
        },
        flow,
    );
    let vlan = one.vlan.map_or(String::new(), |id| format!(", VLAN {id}"));
    let device = one.device.as_ref().map_or(String::new(), |name| format!(" on {name}"));
    format!("{} bytes {what}{vlan}{device}", one.len)
}

fn flow(flow: &Flow) -> String {
    let protocol = match flow.protocol {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        number => format!("IP protocol {number}"),
    };
    let names = ["FIN", "SYN", "RST", "PSH", "ACK"];
    let flags = flow.tcp_flags.map_or(String::new(), |flags| {
        let set = names.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
        format!(" {}", set.map(|(_, name)| *name).collect::<Vec<_>>().join(","))
    });
    let icmp = flow.icmp.map_or(String::new(), |(kind, code)| format!(" type {kind} code {code}"));
    format!("of {protocol}{flags}{icmp} from {} to {}", flow.source, flow.destination)
}

fn stack(one: &Exemplar) -> String {
    let frames: Vec<_> = one.stack.iter().take(FRAMES).map(|it| it.site.to_string()).collect();
    let more = if one.stack.len() > FRAMES { " < ..." } else { "" };
    format!("{}{more}", frames.join(" < "))
}

/// What was found in this layer and those next to it, and which of its counters grew.
fn beside(case: &Case<'_>, layer: &str, namespace: Option<&Namespace>) -> Vec<EvidenceItem> {
    let Some(at) = LAYERS.iter().position(|known| *known == layer) else { return Vec::new() };
    let near = &LAYERS[at.saturating_sub(1)..LAYERS.len().min(at + 2)];
    let mut items = Vec::new();
    for name in near {
        let here = |layer: &str| layer == *name;
        let inode = namespace.map(|one| one.inode);
        let found = case.findings().iter().filter(|finding| {
            let netns = finding.site.netns.as_ref().and_then(|netns| netns.inode);
            here(&finding.layer) && is_loss(finding.class) && (netns == inode || netns.is_none())
        });
        let mut causes: Vec<_> =
            found.map(|it| format!("{} packets: {}", it.packets, it.cause)).collect();
        causes.dedup();
        let value = match layers::watched(name, case.evidence()) {
            _ if !causes.is_empty() => causes.join(", "),
            Some(watched) => format!("clean ({watched})"),
            None => "not watched".into(),
        };
        items.push(EvidenceItem::new(EvidenceKind::State, format!("layer {name}"), value));
    }
    let grown = counters::all().iter().filter(|counter| counter.layer == layer);
    let grown = grown.filter_map(|counter| {
        let delta = namespace?.delta(counter.name).filter(|delta| *delta > 0)?;
        Some(EvidenceItem::new(EvidenceKind::Counter, counter.name, delta))
    });
    items.extend(grown.take(COUNTERS));
    items
}

#[cfg(test)]
mod tests {
    use whydrop_model::CallSite;

    use crate::{Thresholds, UNEXPLAINED, diagnose, sample};

    #[test]
    fn an_unexplained_drop_comes_with_its_stack_and_a_packet() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.InDiscards", 3);
        let total = sample::total("IP_OUTNOROUTES", "some_function", 26);
        let mut example = sample::exemplar(&total, 1000);
        let site = |symbol: &str| CallSite { symbol: symbol.into(), offset: 0x20, module: None };
        let frame = |symbol| site(symbol).into();
        example.stack = vec![frame("kfree_skb"), frame("some_function"), frame("ip_rcv")];
        evidence.tracer.exemplars = vec![example];
        evidence.tracer.totals = vec![total];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.findings[0].cause.as_str()), (1, UNEXPLAINED));
        let said = format!("{:?}", report.findings[0].evidence);
        for words in [
            "some_function+0x10",
            "60 bytes of TCP SYN,ACK from 192.0.2.1:1000 to 192.0.2.1:40000",
            "kfree_skb+0x20 < some_function+0x20 < ip_rcv+0x20",
            "layer neighbour",
            "layer fragment",
            "Ip.InDiscards",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let commands = &report.findings[0].remedies[0].commands;
        assert_eq!(commands, &["whydrop watch --reason IP_OUTNOROUTES --stack --netns b"]);
    }
}
