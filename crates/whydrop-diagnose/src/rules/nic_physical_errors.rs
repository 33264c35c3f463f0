//! Frames arrive damaged and the card throws them away: cable, optic, error correction, duplex.
//!
//! Told by the counters of class `physical`: the kernel's `rx_crc_errors` and `rx_frame_errors`, and
//! what drivers count besides, each frame once. Never traced. Not taken for it: bit errors that error
//! correction put right, and the fields of software devices, which use them for other things.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Link, Namespace, Remedy, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::nic::Class;
use crate::nic_loss::{self, Tally};
use crate::rule::Rule;
use crate::{command, ring};

/// See the module.
pub(super) struct NicPhysicalErrors;

const ID: &str = "nic-physical-errors";

/// Drivers whose frames never were on a wire: they use the fields for malformed descriptors.
const NO_WIRE: [&str; 1] = ["virtio_net"];

impl Rule for NicPhysicalErrors {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let wired = |link: &&Link| {
                nic_loss::is_hardware(link) && !NO_WIRE.contains(&nic_loss::driver(link))
            };
            for link in namespace.links.iter().filter(wired) {
                let tally = nic_loss::lost(link, Class::Physical);
                let blocks = nic_loss::lost_where(link, Class::Physical, is_fec);
                if tally.packets > 0 || blocks.events > 0 {
                    conclude(case, namespace, link, &tally, blocks.events > 0);
                }
            }
        }
    }
}

fn is_fec(name: &str) -> bool {
    name.contains("fec_uncorrect")
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, link: &Link, tally: &Tally, fec: bool) {
    let name = &link.name;
    let half = link.full_duplex == Some(false);
    let grew = |word: &str| tally.counters.iter().any(|(name, _)| name.contains(word));
    let variant = if fec {
        "fec"
    } else if half || grew("LateCollisions") || (grew("frame_errors") && !grew("crc")) {
        "duplex"
    } else {
        "crc"
    };
    ring::book(case, namespace, link, Class::Physical);
    let mut evidence = tally.proof(name);
    evidence.extend(link.full_duplex.map(|full| {
        let duplex = if full { "full" } else { "half" };
        EvidenceItem::new(EvidenceKind::State, format!("duplex of {name}"), duplex.to_string())
    }));
    if let Some(changes) = link.carrier_changes.filter(|pair| pair.delta() > 0) {
        let what = format!("{name} carrier_changes");
        evidence.push(EvidenceItem::new(EvidenceKind::Counter, what, changes.delta()));
    }
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: ring::severity(link, tally.packets, case.evidence().window.seconds),
        confidence: Confidence::Confirmed,
        loss: Loss::counted(tally.packets),
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("cable, optic or port of {name}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: match variant {
            "fec" => {
                format!("The link of {name} has more bit errors than its error correction repairs")
            }
            "duplex" => format!("Frames arrive damaged on {name} as when one end is half duplex"),
            _ => format!("Frames arrive damaged on {name}: cable, optic or port"),
        },
        evidence,
        remedies: vec![remedy(namespace, link, variant)],
    };
    case.conclude(ID, conclusion);
}

fn remedy(namespace: &Namespace, link: &Link, variant: &str) -> Remedy {
    let name = &link.name;
    let (summary, line) = match variant {
        "fec" => (
            format!(
                "Set the same error correction on {name} and the switch port, the one that the optic \
                 needs; then swap optic and cable, one at a time"
            ),
            format!("ethtool --show-fec {name}"),
        ),
        "duplex" => (
            format!(
                "Let both ends of {name} negotiate: one of them is forced to a speed or duplex"
            ),
            format!("ethtool -s {name} autoneg on"),
        ),
        _ => (
            "Swap one part at a time and watch the counter: cable, optic, switch port, card. On one of \
             many hosts it is the cable, on all of them the switch or its uplink"
                .into(),
            format!("ethtool -m {name}"),
        ),
    };
    Remedy {
        summary,
        commands: command::within(namespace, &line).into_iter().collect(),
        useless: vec!["sysctls, ring and buffer sizes: the frames arrive damaged".into()],
    }
}
