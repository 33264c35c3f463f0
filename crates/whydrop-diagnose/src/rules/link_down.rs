//! Packets were sent to a device that has no carrier.
//!
//! Without a carrier the root qdisc is `noop`, which drops everything: `QDISC_DROP` in `__dev_queue_xmit`
//! (`net/sched/sch_generic.c`, 6.18), counted in the device's `tx_dropped`. Look-alike: a queue that is
//! too short bears the same reason, on a device that is up.

use whydrop_model::{DropTotal, Evidence, Link, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct LinkDown;

const ID: &str = "link-down";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for LinkDown {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| {
            total.reason == "QDISC_DROP"
                && device(evidence, total).is_some_and(|link| link.carrier == Some(false))
        });
        for group in traced::gather(case, claims) {
            let name = group.device_name();
            let told = Told {
                variant: Some("no-carrier"),
                object: Some(format!("carrier of {name}")),
                summary: format!(
                    "{name} has no carrier, and what is sent to it is dropped: bring its cable, peer or \
                     lower device up"
                ),
                cure: "Bring the other end up: the cable, the switch port, the veth peer, the lower device, \
                       the program that opens a tun device"
                    .into(),
                command: group.device.map(|device| format!("ip -d link show dev {device}")),
                useless: &["txqueuelen and qdisc limits: no queue is involved"],
            };
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

fn device<'e>(evidence: &'e Evidence, total: &DropTotal) -> Option<&'e Link> {
    let namespace = evidence.namespace(total.netns?)?;
    namespace.links.iter().find(|link| link.ifindex == total.ifindex)
}
