//! One verdict per layer, bottom up.

use whydrop_model::{Attach, Evidence, Finding, LayerState, LayerVerdict, Ledger};

use crate::causes::LAYERS;
use crate::is_loss;

/// Walks the stack and says of each layer what was found, or what watched it.
pub(crate) fn verdicts(
    evidence: &Evidence,
    findings: &[Finding],
    ledger: &Ledger,
) -> Vec<LayerVerdict> {
    LAYERS.iter().map(|layer| verdict(layer, evidence, findings, ledger)).collect()
}

fn verdict(
    layer: &'static str,
    evidence: &Evidence,
    findings: &[Finding],
    ledger: &Ledger,
) -> LayerVerdict {
    let here = || findings.iter().filter(|finding| finding.layer == layer);
    let lost = || here().filter(|finding| is_loss(finding.class) && finding.packets > 0);
    let packets = lost().map(|finding| finding.packets).sum();
    let watched = watched(layer, evidence);
    let (state, note) = if packets > 0 {
        let mut causes: Vec<_> = lost().map(|finding| finding.cause.replace('-', " ")).collect();
        causes.dedup();
        (LayerState::Loss, causes.join(", "))
    } else if layer == "host" && ledger.unexplained > 0 {
        (LayerState::Unsure, format!("{} packets without a known cause", ledger.unexplained))
    } else if let Some(watched) = watched {
        (LayerState::Clean, watched)
    } else {
        (LayerState::Unsure, "only the tracer sees this layer, and it is not attached".into())
    };
    LayerVerdict { layer, state, packets, note }
}

/// What watched a layer; `None` if nothing did.
pub(crate) fn watched(layer: &str, evidence: &Evidence) -> Option<String> {
    let counted = match layer {
        "nic" => {
            let devices: usize = evidence.namespaces.iter().map(|one| one.links.len()).sum();
            (devices > 0).then(|| plural(devices, "device"))
        }
        "softirq" => {
            let cpus = evidence.softnet.len();
            (cpus > 0).then(|| format!("backlog of {}", plural(cpus, "CPU")))
        }
        "tcp-listen" => has_counters(evidence).then(|| {
            let listeners: usize = evidence.namespaces.iter().map(|one| one.listeners.len()).sum();
            format!("counters, {}", plural(listeners, "listener"))
        }),
        "ip" | "fragment" | "tcp" | "udp" => has_counters(evidence).then(|| "counters".into()),
        _ => None,
    };
    let traced = evidence.tracer.attach != Attach::None;
    match (counted, traced) {
        (Some(counted), true) => Some(format!("tracer, {counted}")),
        (None, true) => Some("tracer".into()),
        (counted, false) => counted,
    }
}

fn has_counters(evidence: &Evidence) -> bool {
    evidence.namespaces.iter().any(|namespace| !namespace.counters.is_empty())
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
