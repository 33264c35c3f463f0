//! A network card had no buffer of the host when a frame arrived, and threw it away.
//!
//! Told by counters alone: `rx_missed_errors` and the driver's own (`nic-statistics.tsv`, classes
//! `no-buffer` and `port-overflow`), each packet once. There was no skb, so no trace. The variant says
//! what delayed the host. Look-alikes, told apart in `ring.rs`: no memory for buffers
//! (`kernel-memory-low`), one CPU with all the work (`nic-irq-imbalance`), a CPU that did not get to
//! run (`cpu-starvation`).

use whydrop_model::{Link, Namespace, Remedy};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::nic::Class;
use crate::nic_loss;
use crate::ring::{self, Needed, Overrun, Why};
use crate::rule::Rule;

/// See the module.
pub(super) struct NicRxRingOverrun;

const ID: &str = "nic-rx-ring-overrun";

impl Rule for NicRxRingOverrun {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for overrun in ring::overruns(case) {
            let variant = match overrun.why(case.evidence()) {
                // Of those, the CPU is the cause (`cpu-starvation`), and this follows.
                Why::Kept(_) | Why::Stolen(_) | Why::Late => Some("irq-latency"),
                Why::CpuBusy => Some("cpu-busy"),
                Why::Pcie => Some("pcie"),
                Why::RingSmall => Some("ring-small"),
                Why::Unknown => None,
                Why::Memory | Why::Uneven(_) => continue,
            };
            conclude(case, &overrun, variant);
        }
        for namespace in case.namespaces() {
            for link in namespace.links.iter().filter(|link| nic_loss::is_hardware(link)) {
                port_overflow(case, namespace, link);
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, overrun: &Overrun<'_>, variant: Option<&'static str>) {
    let name = &overrun.link.name;
    if variant.is_none() {
        case.could_not_check(
            format!("what keeps the host from emptying the ring of {name}"),
            "how busy the CPUs were is not known",
        );
    }
    let loss = overrun.book(case);
    let busy = overrun.busiest().map_or(String::new(), |load| {
        format!(": CPU {} spends {} of its time on packets", load.cpu, ring::percent(load.softirq))
    });
    let summary = match variant {
        Some("cpu-busy") => {
            format!("{name} loses frames because the CPUs that serve it are saturated{busy}")
        }
        Some("irq-latency") => format!(
            "{name} loses frames because the host empties its ring too late, not because it is too slow"
        ),
        Some("pcie") => format!("{name} loses frames because the bus takes them too slowly"),
        Some("ring-small") => {
            format!("Bursts overflow the receive ring of {name}, which is smaller than it may be")
        }
        _ => format!("{name} loses frames because its receive ring is not emptied in time"),
    };
    let object = match variant {
        Some("pcie") => format!("bus of {name}"),
        Some("cpu-busy") => format!("CPUs that serve {name}"),
        _ => format!("receive ring of {name}"),
    };
    let conclusion = Conclusion {
        variant,
        severity: overrun.severity(),
        confidence: overrun.confidence(),
        loss,
        site: overrun.site(case, object),
        summary,
        evidence: overrun.proof(),
        remedies: vec![remedy(overrun, variant)],
    };
    case.conclude(ID, conclusion);
}

fn remedy(overrun: &Overrun<'_>, variant: Option<&'static str>) -> Remedy {
    let name = &overrun.link.name;
    let budget = "net.core.netdev_max_backlog: the driver polls its own ring and does not use it";
    match variant {
        Some("cpu-busy") => Remedy {
            summary: format!(
                "Give {name} more CPUs, or the CPUs fewer packets (GRO, larger packets, a filter in XDP)"
            ),
            commands: more_queues(overrun).into_iter().collect(),
            useless: vec![
                "a larger ring: the CPU is slower than the packets, so any ring fills".into(),
                budget.into(),
            ],
        },
        Some("irq-latency") => Remedy {
            summary: format!(
                "Find what keeps the CPUs of {name} from answering: deep sleep states (hold \
                 /dev/cpu_dma_latency at 0 for a test), code that runs with interrupts off, interrupt \
                 moderation"
            ),
            commands: coalescing(overrun).into_iter().collect(),
            useless: vec![budget.into()],
        },
        Some("pcie") => bus(overrun.link),
        _ => enlarge(overrun, budget),
    }
}

fn enlarge(overrun: &Overrun<'_>, budget: &str) -> Remedy {
    let name = &overrun.link.name;
    let (summary, line) = match (ring::needed(overrun.link), overrun.ring()) {
        (Some(Needed { size, lost, .. }), Some((now, most))) => (
            format!(
                "Let the receive ring of {name} hold {size} frames: the {now} it has and the {lost} that \
                 the worst queue lost, rounded up, at most {most}. The ring is reset and loses frames for \
                 a moment; to keep it, RxBufferSize={size} in a systemd .link file"
            ),
            format!("ethtool -G {name} rx {size}"),
        ),
        (None, Some((now, _))) => (
            format!(
                "The receive ring of {name} is as large as its driver allows ({now}): give its CPUs \
                 time, or the device more queues"
            ),
            format!("ethtool -l {name}"),
        ),
        (_, None) => (
            format!("Look at what serves {name} and how large its ring may be"),
            format!("ethtool -g {name}"),
        ),
    };
    Remedy {
        summary,
        commands: command::within(overrun.namespace, &line).into_iter().collect(),
        useless: vec![budget.into(), "net.core.rmem_max: no socket saw these frames".into()],
    }
}

/// As many queues as the load needs, if the card can have them and has fewer.
fn more_queues(overrun: &Overrun<'_>) -> Option<String> {
    let of = |name: &str| overrun.link.channels.get(name).copied().unwrap_or(0);
    let queues = overrun.queues_needed().min(of("max_combined"));
    let line = format!("ethtool -L {} combined {queues}", overrun.link.name);
    (queues > of("combined_count")).then(|| command::within(overrun.namespace, &line)).flatten()
}

fn coalescing(overrun: &Overrun<'_>) -> Option<String> {
    command::within(overrun.namespace, &format!("ethtool -c {}", overrun.link.name))
}

fn bus(link: &Link) -> Remedy {
    let at = link.driver.as_ref().map(|driver| driver.bus.as_str()).filter(|bus| !bus.is_empty());
    Remedy {
        summary: format!(
            "Check the slot of {} (width and generation negotiated against what the card can), IOMMU and \
             NUMA node of the memory it writes to",
            link.name
        ),
        commands: at
            .map(|bus| format!("lspci -vv -s {bus} | grep -E 'LnkCap:|LnkSta:|NUMA'"))
            .into_iter()
            .collect(),
        useless: vec!["a larger ring: the card cannot write to it fast enough".into()],
    }
}

/// The card's own buffer overflowed although the host had buffers: the bus was too slow.
fn port_overflow(case: &mut Case<'_>, namespace: &Namespace, link: &Link) {
    let tally = nic_loss::lost(link, Class::PortOverflow);
    if tally.packets == 0 {
        return;
    }
    let name = &link.name;
    let mut evidence = tally.proof(name);
    evidence.extend(nic_loss::lost(link, Class::Pcie).proof(name));
    let conclusion = Conclusion {
        variant: Some("pcie"),
        severity: ring::severity(link, tally.packets, case.evidence().window.seconds),
        confidence: whydrop_model::Confidence::Likely,
        loss: Loss::counted(tally.packets),
        site: whydrop_model::Site {
            device: Some(name.clone()),
            object: Some(format!("bus of {name}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "The port of {name} overflowed although the host had buffers: the bus takes frames too slowly"
        ),
        evidence,
        remedies: vec![bus(link)],
    };
    case.conclude(ID, conclusion);
}
