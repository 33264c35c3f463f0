//! Flow control holds traffic back: the switch pauses this host, or this host the switch.
//!
//! Nothing is lost here; what waits may be lost where it waits. Told by counters of the classes
//! `pause-received` and `pause-sent`.

use whydrop_model::{Confidence, Link, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::nic::Class;
use crate::nic_loss;
use crate::rule::Rule;

/// See the module.
pub(super) struct NicPauseFrames;

const ID: &str = "nic-pause-frames";

impl Rule for NicPauseFrames {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for link in &namespace.links {
                for (class, variant) in [(Class::PauseReceived, "rx"), (Class::PauseSent, "tx")] {
                    conclude(case, namespace, link, class, variant);
                }
            }
        }
    }
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    link: &Link,
    class: Class,
    variant: &'static str,
) {
    let tally = nic_loss::lost(link, class);
    if tally.is_empty() {
        return;
    }
    let name = &link.name;
    let (summary, cure) = if variant == "rx" {
        (
            format!(
                "The switch held {name} back with pause frames; packets waited here to be sent"
            ),
            "Look at the switch port's egress queue and at the slow receiver behind it",
        )
    } else {
        (
            format!(
                "{name} held the switch back with pause frames: the host takes packets too slowly"
            ),
            "Let the host take packets faster: CPUs, interrupts and ring, as for an overrun ring; other \
             hosts on the switch suffer meanwhile",
        )
    };
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Notice,
        confidence: Confidence::Confirmed,
        loss: Loss::default(),
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("flow control of {name}, {variant}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary,
        evidence: tally.proof(name),
        remedies: vec![Remedy {
            summary: cure.into(),
            commands: command::within(
                namespace,
                &format!("ethtool --include-statistics -a {name}"),
            )
            .into_iter()
            .collect(),
            useless: vec![
                "flow control off by reflex: what was held back is lost in the ring instead".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}
