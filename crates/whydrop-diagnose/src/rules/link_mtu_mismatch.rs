//! The two ends of a link have different MTUs.
//!
//! What is larger than the receiving end takes is freed without a reason in `__dev_forward_skb2`
//! (`net/core/dev.c`, 6.18), seen in the sender's namespace; the sender's `tx_dropped` and the
//! receiver's `rx_dropped` count it. Small packets pass, so it looks as if only large transfers hang.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct LinkMtuMismatch;

const ID: &str = "link-mtu-mismatch";

const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[
        drops("NOT_SPECIFIED", "__dev_forward_skb2"),
        drops("NOT_SPECIFIED", "__dev_forward_skb"),
    ],
    counters: &["Ip.OutDiscards"],
}];

impl Rule for LinkMtuMismatch {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Critical, KINDS, |group, _| {
            let device = group.device_name();
            Told {
                object: Some(format!("MTU of {device} and of its other end")),
                summary: format!(
                    "Packets sent by {device} are larger than the MTU of its other end: give both the same MTU"
                ),
                cure: format!("Set the same MTU on {device} and on its other end"),
                command: group.device.map(|device| format!("ip -d link show dev {device}")),
                useless: &["net.core.wmem_max: the datagrams were sent, the link refused them"],
                ..Told::default()
            }
        });
    }
}
