//! Frames come from a MAC address that no station can have.
//!
//! `MAC_INVALID_SOURCE` in `br_handle_frame` (6.14+): a multicast or zero source enters a bridge. In
//! `vxlan_rcv` (6.13+) the same inside a VXLAN packet, and `LOCAL_MAC` for our own address: a loop, or a
//! clone. A bridge that sees its own address only logs it.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct InvalidSourceMac;

const ID: &str = "invalid-source-mac";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("vxlan"),
        signatures: &[drops("MAC_INVALID_SOURCE", "vxlan_*"), drops("LOCAL_MAC", "*")],
        counters: &[],
    },
    Kind {
        variant: Some("bridge"),
        signatures: &[drops("MAC_INVALID_SOURCE", "*")],
        counters: &[],
    },
];

impl Rule for InvalidSourceMac {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in KINDS {
            let claims = case.claim(|total| kind.signatures.iter().any(|it| it.matches(total)));
            for group in traced::by_device(case, claims) {
                let device = group.device_name();
                let senders = group.exemplars().iter().filter_map(|one| one.ether.as_ref());
                let senders = traced::listed(senders.map(|ether| ether.source.clone()));
                let mac = senders.as_deref().unwrap_or("an address not seen in detail");
                let own = group.first().is_some_and(|total| total.reason == "LOCAL_MAC");
                let (what, cure) = if own {
                    (
                        format!("which is the address of {device} itself"),
                        "Give the cloned VM or device another address, or break the loop in the overlay",
                    )
                } else {
                    (
                        "which no station can have".to_owned(),
                        "Mend the VM, card or generator that sends it",
                    )
                };
                let told = Told {
                    object: Some(format!("sender {mac} behind {device}")),
                    summary: format!(
                        "Frames arrive at {device} from {mac}, {what}: find their sender"
                    ),
                    cure: format!("{cure}; the port it comes in by shows the direction"),
                    command: group.device.map(|device| format!("tcpdump -eni {device} -c 10")),
                    useless: &["a static forwarding entry: it does not make the address valid"],
                    ..Told::default()
                };
                group.conclude(case, ID, Severity::Notice, kind, told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Ether;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn bridge_tunnel_and_our_own() {
        for (reason, symbol, variant, says) in [
            ("MAC_INVALID_SOURCE", "br_handle_frame", "bridge", "no station can have"),
            ("MAC_INVALID_SOURCE", "vxlan_rcv", "vxlan", "no station can have"),
            ("LOCAL_MAC", "vxlan_rcv", "vxlan", "of veth0 itself"),
        ] {
            let mut evidence = sample::evidence();
            let total = sample::total(reason, symbol, 30);
            let mut exemplar = sample::exemplar(&total, 4000);
            let mac = || "03:00:00:00:00:01".to_owned();
            exemplar.ether = Some(Ether { source: mac(), destination: mac() });
            evidence.tracer.exemplars = vec![exemplar];
            evidence.tracer.totals = vec![total];
            let finding = diagnose(&evidence, &Thresholds::default()).findings.remove(0);
            assert_eq!((finding.cause.as_str(), finding.packets), ("invalid-source-mac", 30));
            assert_eq!(finding.variant.as_deref(), Some(variant));
            assert!(finding.summary.contains(says), "{}", finding.summary);
            assert!(finding.summary.contains(&mac()), "{}", finding.summary);
        }
    }
}
