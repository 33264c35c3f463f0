//! A tc filter, policer or classifier program drops.
//!
//! `TC_INGRESS` in `__netif_receive_skb_core` and `TC_EGRESS` in `__dev_queue_xmit` (`net/core/dev.c`,
//! 6.18); the clsact or ingress qdisc counts the same drops.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcFilterDrop;

const ID: &str = "tc-filter-drop";

const KINDS: &[Kind] = &[
    Kind { variant: Some("ingress"), signatures: &[drops("TC_INGRESS", "*")], counters: &[] },
    Kind { variant: Some("egress"), signatures: &[drops("TC_EGRESS", "*")], counters: &[] },
];

impl Rule for TcFilterDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let device = group.device_name();
            let hook = variant.unwrap_or_default();
            Told {
                object: Some(format!("tc {hook} filter on {device}")),
                summary: format!("A tc filter on the {hook} of {device} drops packets, as configured"),
                cure: "If this traffic is wanted, change or delete the filter where it is managed (a CNI, a \
                       shaper script)"
                    .into(),
                command: group.device.map(|device| format!("tc -s filter show dev {device} {hook}")),
                useless: &["a longer queue: a filter drops before any queue"],
                ..Told::default()
            }
        });
    }
}
