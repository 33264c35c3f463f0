//! The two ends of a link have different MTUs.
//!
//! What is larger than the receiving end takes is freed without a reason in `__dev_forward_skb2`
//! (`net/core/dev.c`, 6.18), seen in the sender's namespace; the sender's `tx_dropped` and the
//! receiver's `rx_dropped` count it. Small packets pass, so it looks as if only large transfers hang.
//!
//! A card that gets longer frames than it accepts drops them before there is a packet, and counts them
//! (class `size`).

use whydrop_model::{Confidence, Link, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::nic::Class;
use crate::rule::Rule;
use crate::rules::link_down::{is_refused, refused_while_down};
use crate::traced::{self, Kind, Told};
use crate::{command, nic_loss, ring};

/// See the module.
pub(super) struct LinkMtuMismatch;

const ID: &str = "link-mtu-mismatch";

const KIND: Kind = Kind { variant: None, signatures: &[], counters: &["Ip.OutDiscards"] };

impl Rule for LinkMtuMismatch {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| is_refused(total) && !refused_while_down(evidence, total));
        for group in traced::gather(case, claims) {
            let device = group.device_name();
            let told = Told {
                object: Some(format!("MTU of {device} and of its other end")),
                summary: format!(
                    "Packets sent by {device} are larger than the MTU of its other end: give both the same MTU"
                ),
                cure: format!("Set the same MTU on {device} and on its other end"),
                command: group.device.map(|device| format!("ip -d link show dev {device}")),
                useless: &["net.core.wmem_max: the datagrams were sent, the link refused them"],
                ..Told::default()
            };
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
        for namespace in case.namespaces() {
            for link in namespace.links.iter().filter(|link| nic_loss::is_hardware(link)) {
                too_long(case, namespace, link);
            }
        }
    }
}

/// Frames that were longer than the card accepts.
fn too_long(case: &mut Case<'_>, namespace: &Namespace, link: &Link) {
    let tally = nic_loss::lost(link, Class::Size);
    if tally.packets == 0 {
        return;
    }
    let Link { name, mtu, .. } = link;
    ring::book(case, namespace, link, Class::Size);
    let conclusion = Conclusion {
        variant: None,
        severity: ring::severity(link, tally.packets, case.evidence().window.seconds),
        confidence: Confidence::Likely,
        loss: Loss::counted(tally.packets),
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("MTU of {name} and of its other end")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "Frames arrive on {name} that are longer than its MTU of {mtu} lets it accept: give the whole \
             segment the same MTU"
        ),
        evidence: tally.proof(name),
        remedies: vec![Remedy {
            summary: format!(
                "Set the MTU that the senders use on {name}, or theirs to {mtu}; the switch port must take \
                 it too"
            ),
            commands: command::within(namespace, &format!("ip -d link show dev {name}"))
                .into_iter()
                .collect(),
            useless: vec!["a larger ring or buffer: the card refuses frames of this length".into()],
        }],
    };
    case.conclude(ID, conclusion);
}
