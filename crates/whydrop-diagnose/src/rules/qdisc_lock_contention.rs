//! Too many packets wait for the lock of one queue discipline.
//!
//! Since 6.19 senders leave their packets on a list for the one that holds the lock, and
//! `__dev_xmit_skb` (`net/core/dev.c`) drops what comes beyond `net.core.qdisc_max_burst` as
//! `QDISC_BURST_DROP`, before the queue sees it.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct QdiscLockContention;

const ID: &str = "qdisc-lock-contention";
const KINDS: &[Kind] =
    &[Kind { variant: None, signatures: &[drops("QDISC_BURST_DROP", "*")], counters: &[] }];

impl Rule for QdiscLockContention {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Critical, KINDS, |group, _| {
            Told {
            object: Some(format!("root qdisc of {}", group.device_name())),
            summary: format!(
                "Too many CPUs send through the one root qdisc of {} and wait for its lock",
                group.device_name()
            ),
            cure: "Give each hardware queue a qdisc of its own (root mq, fq below each). For a shaper \
                   that must stay one: raise net.core.qdisc_max_burst to packets per second x the \
                   longest time the lock is held"
                .into(),
            command: group.device.map(|device| format!("tc -s qdisc show dev {device}")),
            useless: &["txqueuelen and limits of the qdisc: they are looked at later"],
            ..Told::default()
        }
        });
    }
}
