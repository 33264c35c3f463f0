//! A persistent tun or tap device has no program attached.
//!
//! Without one it has no carrier, and its root qdisc is `noop`, which drops everything: `QDISC_DROP` in
//! `__dev_queue_xmit` (6.18), counted in `tx_dropped`. What was on its way when the program went dies as
//! `DEV_READY` in `tun_net_xmit`. Look-alikes: no carrier on another kind of device, and a reader that is
//! there but slow.

use whydrop_model::{DropTotal, EvidenceItem, EvidenceKind, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TunNotAttached;

const ID: &str = "tun-not-attached";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[
        drops("QDISC_DROP", "__dev_queue_xmit"),
        drops("QDISC_DROP", "__dev_xmit_skb"),
        drops("DEV_READY", "tun_net_xmit"),
    ],
    counters: &[],
};

impl Rule for TunNotAttached {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let without_reader = |total: &DropTotal| {
            let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
            let links = namespace.map_or(&[][..], |namespace| &namespace.links);
            let link = links.iter().find(|link| link.ifindex == total.ifindex);
            link.is_some_and(|link| {
                link.kind.as_deref() == Some("tun") && link.carrier == Some(false) && link.up
            })
        };
        let ours = |total: &DropTotal| KIND.signatures.iter().any(|it| it.matches(total));
        let claims = case.claim(|total| ours(total) && without_reader(total));
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let told = Told {
                object: Some(format!("program that opens {device}")),
                summary: format!(
                    "{device} has routes and nobody who reads it: start the VPN or virtual machine that opens \
                     it, or remove the device"
                ),
                cure: format!(
                    "Start the unit that opens {device}. If the device is a leftover, delete it with its routes; \
                     mind where its traffic then goes"
                ),
                command: group.device.map(|device| format!("ip -d link show dev {device}")),
                useless: &["txqueuelen and queue disciplines: without a carrier none is in place"],
                ..Told::default()
            };
            let mut agreed = group.link_counters(&["tx_dropped"]);
            agreed.push(EvidenceItem::new(EvidenceKind::State, device, "NO-CARRIER".to_owned()));
            group.agreed(agreed).conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Link;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_tun_without_carrier_and_no_other_device() {
        for (kind, carrier, cause) in [
            ("tun", false, "tun-not-attached"),
            ("veth", false, "link-down"),
            ("tun", true, "unexplained"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total("QDISC_DROP", "__dev_queue_xmit", 30)];
            evidence.namespaces[0].links.push(Link {
                ifindex: 2,
                name: "tun0".into(),
                kind: Some(kind.into()),
                up: true,
                carrier: Some(carrier),
                ..Link::default()
            });
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!(report.findings[0].cause, cause, "{kind} {carrier}");
            assert_eq!(report.ledger.lost, 30);
        }
    }
}
