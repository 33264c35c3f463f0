//! A fixed entry says that a MAC address lives behind another tunnel endpoint than its frames come from.
//!
//! `VXLAN_ENTRY_EXISTS` in `vxlan_rcv` (`vxlan_snoop` of `drivers/net/vxlan/vxlan_core.c`, 6.13+). A dynamic
//! entry would simply move; one that is permanent, static or has a nexthop stays, and the frame is refused.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TunnelFdbConflict;

const ID: &str = "tunnel-fdb-conflict";

const KIND: Kind =
    Kind { variant: None, signatures: &[drops("VXLAN_ENTRY_EXISTS", "*")], counters: &[] };

impl Rule for TunnelFdbConflict {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let claims = case.claim(|total| KIND.signatures.iter().any(|it| it.matches(total)));
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let senders = group.exemplars().iter().filter_map(|one| one.ether.as_ref());
            let senders = traced::listed(senders.map(|ether| ether.source.clone()));
            let mac = senders.as_deref().unwrap_or("a sender not seen in detail");
            let told = Told {
                object: Some(format!("forwarding entry for {mac} on {device}")),
                summary: format!(
                    "A fixed forwarding entry of {device} says that {mac} lives behind another endpoint than \
                     its frames come from: correct or delete the entry"
                ),
                cure: "If the host has moved: let whatever manages the entry (EVPN, a CNI, a hypervisor) \
                       correct it, or delete it. If the address exists twice, find the second one first"
                    .into(),
                command: group.device.map(|device| format!("bridge fdb show dev {device}")),
                useless: &["flushing learnt entries: this one was not learnt"],
                ..Told::default()
            };
            group.conclude(case, ID, Severity::Notice, &KIND, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Ether;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_entry_is_named() {
        let mut evidence = sample::evidence();
        let total = sample::total("VXLAN_ENTRY_EXISTS", "vxlan_rcv", 30);
        let mut exemplar = sample::exemplar(&total, 4000);
        exemplar.ether = Some(Ether {
            source: "02:00:00:00:88:01".into(),
            destination: "02:00:00:00:88:02".into(),
        });
        evidence.tracer.exemplars = vec![exemplar];
        evidence.tracer.totals = vec![total, sample::total("MAC_INVALID_SOURCE", "vxlan_rcv", 2)];
        let report = diagnose(&evidence, &Thresholds::default());
        let one = report.findings.iter().find(|it| it.cause == "tunnel-fdb-conflict");
        let one = one.expect("the finding");
        assert_eq!(one.packets, 30);
        let object = one.site.object.as_deref().expect("an object");
        assert_eq!(object, "forwarding entry for 02:00:00:00:88:01 on veth0");
    }
}
