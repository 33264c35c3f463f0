//! The cloud or the hypervisor drops what is above this machine's allowance.
//!
//! Told by counters of the class `policer` alone: the drop happens outside of this kernel. Bandwidth
//! and packet-rate counters of ENA count what was queued or dropped, so their number is the most that
//! was lost.

use whydrop_model::{Confidence, Link, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::nic::Class;
use crate::nic_loss;
use crate::rule::Rule;

/// See the module.
pub(super) struct CloudAllowanceExceeded;

const ID: &str = "cloud-allowance-exceeded";

const VARIANTS: [&str; 4] = ["conntrack", "linklocal", "pps", "bandwidth"];

impl Rule for CloudAllowanceExceeded {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for link in &namespace.links {
                for variant in VARIANTS {
                    conclude(case, namespace, link, variant);
                }
            }
        }
    }
}

/// Which allowance a statistic is about.
fn variant_of(name: &str) -> &'static str {
    if name.contains("conntrack") {
        "conntrack"
    } else if name.contains("linklocal") {
        "linklocal"
    } else if name.contains("bw_") || name.ends_with("bytes") {
        "bandwidth"
    } else {
        "pps"
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, link: &Link, variant: &'static str) {
    // Directions of one limit are different packets.
    let part = |words: &str| {
        nic_loss::lost_where(link, Class::Policer, |name| {
            let inward = name.contains("_in_") || name.contains("rx");
            variant_of(name) == variant && (words == "in") == inward
        })
    };
    let (inward, outward) = (part("in"), part("out"));
    if inward.is_empty() && outward.is_empty() {
        return;
    }
    let name = &link.name;
    let (summary, cure) = match variant {
        "bandwidth" => (
            format!("{name} carries more bytes than this machine is allowed"),
            "Pace below the allowance, send less, or take a larger machine",
        ),
        "conntrack" => (
            format!("The cloud tracks as many connections of {name} as this machine may have"),
            "Fewer and longer connections, security groups that need no tracking for the busy ports, or a \
             larger machine",
        ),
        "linklocal" => (
            format!("{name} asks the cloud's DNS, metadata or time service too often"),
            "A caching resolver on this host, one time client, metadata kept and not asked again",
        ),
        _ => (
            format!("{name} carries more packets per second than this machine is allowed"),
            "Fewer, larger packets (GSO, GRO, jumbo frames, batching), or a larger machine",
        ),
    };
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Critical,
        confidence: Confidence::Confirmed,
        loss: Loss::counted(inward.packets + outward.packets),
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("{variant} allowance of {name}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary,
        evidence: [inward.proof(name), outward.proof(name)].concat(),
        remedies: vec![Remedy {
            summary: cure.into(),
            commands: command::within(
                namespace,
                &format!("ethtool -S {name} | grep -E 'allowance_exceeded|ratelimit'"),
            )
            .into_iter()
            .collect(),
            useless: vec![
                "rings, backlogs and sysctls of this machine: the drop happens outside of it"
                    .into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}
