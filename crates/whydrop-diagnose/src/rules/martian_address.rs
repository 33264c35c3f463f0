//! A source or destination address that cannot be.
//!
//! Loopback, multicast or zero as a source, loopback as a destination, our own address as a source from
//! outside (`ip_route_input_slow()` and `fib_validate_source()`, `net/ipv4`, 6.18). No counter counts
//! them; `log_martians` logs them.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct MartianAddress;

const ID: &str = "martian-address";

const KINDS: &[Kind] = &[
    Kind { variant: Some("source"), signatures: &[drops("IP_INVALID_SOURCE", "*")], counters: &[] },
    Kind {
        variant: Some("destination"),
        signatures: &[drops("IP_LOCALNET", "*"), drops("IP_INVALID_DEST", "*")],
        counters: &[],
    },
    Kind {
        variant: Some("own-source"),
        signatures: &[drops("IP_LOCAL_SOURCE", "*")],
        counters: &[],
    },
];

impl Rule for MartianAddress {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let (from, to) = (group.sources(), group.targets());
            // One reason for both: a loopback address on the wire.
            let from_loopback = group.flows().any(|flow| flow.source.address.is_loopback());
            Told {
                variant: from_loopback.then_some("source"),
                object: Some(format!("packets from {from} to {to}")),
                summary: format!(
                    "Packets with an impossible address (from {from} to {to}) arrive on {}: find their sender",
                    group.device_name()
                ),
                cure: "Find who sends them: a duplicate IP address, a loop, a DNAT to 127.0.0.1, spoofing; \
                       log_martians logs the sender's MAC"
                    .into(),
                command: Some("sysctl -w net.ipv4.conf.all.log_martians=1".into()),
                useless: &["rp_filter=0: these are refused whatever it says"],
            }
        });
    }
}
