//! One CPU does most of a network card's receive work and cannot keep up, while others have time.
//!
//! The loss is that of an overrun ring (`ring.rs`), so an uneven distribution without loss is no
//! finding. The variant says why the work is not spread: the card has one queue, one flow fills one
//! queue, or the hash, the queue count or the interrupt affinity is wrong.

use whydrop_model::Remedy;

use crate::case::{Case, Conclusion};
use crate::ring::{self, Overrun, Why};
use crate::rule::Rule;
use crate::{command, cpus};

/// See the module.
pub(super) struct NicIrqImbalance;

const ID: &str = "nic-irq-imbalance";

impl Rule for NicIrqImbalance {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for overrun in ring::overruns(case) {
            let Why::Uneven(variant) = overrun.why(case.evidence()) else { continue };
            let Some(hot) = overrun.busiest() else { continue };
            let name = &overrun.link.name;
            let because = match variant {
                "single-queue" => format!("{name} has one receive queue"),
                "elephant-flow" => format!("one flow fills one queue of {name}"),
                _ => format!("the queues of {name} are not spread over the CPUs"),
            };
            let conclusion = Conclusion {
                variant: Some(variant),
                severity: overrun.severity(),
                confidence: overrun.confidence(),
                loss: overrun.book(case),
                site: overrun.site(case, format!("receive queues of {name}")),
                summary: format!(
                    "CPU {} does the receive work of {name} alone and is saturated, because {because}",
                    hot.cpu
                ),
                evidence: overrun.proof(),
                remedies: vec![remedy(case, &overrun, variant, hot.cpu)],
            };
            case.conclude(ID, conclusion);
        }
    }
}

fn remedy(case: &Case<'_>, overrun: &Overrun<'_>, variant: &str, hot: u32) -> Remedy {
    let name = &overrun.link.name;
    let (summary, commands) = match variant {
        "single-queue" => (
            format!(
                "Let other CPUs do the protocol work of {name} (RPS). To keep it, a udev rule; it is no \
                 sysctl"
            ),
            receive_steering(overrun, hot).into_iter().collect(),
        ),
        "elephant-flow" => (
            "Split the flow in the application, or make it cheaper: GRO on, larger packets, RFS to move \
             the socket's work to the reader's CPU"
                .into(),
            command::within(overrun.namespace, &format!("ethtool -K {name} gro on"))
                .into_iter()
                .collect(),
        ),
        _ => spread(case, overrun),
    };
    Remedy {
        summary,
        commands,
        useless: vec![
            "a larger ring: the CPU is slower than the packets, so any ring fills".into(),
            "net.core.netdev_budget: the CPU has no time left to give".into(),
        ],
    }
}

/// Has all CPUs but the one that takes the interrupts do the protocol work.
fn receive_steering(overrun: &Overrun<'_>, hot: u32) -> Option<String> {
    let mask = overrun.others_mask(hot)?;
    let line = format!("echo {mask} > /sys/class/net/{}/queues/rx-0/rps_cpus", overrun.link.name);
    if overrun.namespace.own {
        return Some(line);
    }
    command::within(overrun.namespace, &format!("sh -c '{line}'"))
}

/// As many queues as the load needs, evenly filled, each on its own CPU.
fn spread(case: &Case<'_>, overrun: &Overrun<'_>) -> (String, Vec<String>) {
    let name = &overrun.link.name;
    let most = overrun.link.channels.get("max_combined").copied().unwrap_or(0);
    let now = overrun.link.channels.get("combined_count").copied().unwrap_or(0);
    let queues = overrun.queues_needed().max(2);
    let within = |line: String| command::within(overrun.namespace, &line);
    let mut commands = Vec::new();
    if queues > now && queues <= most {
        commands.extend(within(format!("ethtool -L {name} combined {queues}")));
    }
    let by_queue = cpus::by_queue(case.evidence(), overrun.link);
    let cpus: std::collections::BTreeSet<u32> = by_queue.values().flatten().copied().collect();
    let count = queues.max(now);
    commands.extend(within(format!("ethtool -X {name} equal {count}")));
    let summary = if cpus.len() < 2 && by_queue.len() > 1 {
        commands.push("systemctl enable --now irqbalance".into());
        format!(
            "The interrupts of all queues of {name} go to one CPU: spread them (irqbalance, or \
             /proc/irq/N/smp_affinity_list), and fill {count} queues evenly"
        )
    } else {
        format!(
            "Use {count} receive queues of {name}, evenly filled, each with its interrupt on a CPU of its \
             own"
        )
    };
    (summary, commands)
}
