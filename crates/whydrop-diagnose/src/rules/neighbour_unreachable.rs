//! The next hop does not answer ARP or neighbour discovery.
//!
//! What waited for it is freed in `neigh_invalidate` (`net/core/neighbour.c`, 6.18): as `NEIGH_FAILED`
//! for IPv4, without a reason for IPv6. The sender learns it after about three seconds.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct NeighbourUnreachable;

const ID: &str = "neighbour-unreachable";

const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[
        drops("NEIGH_FAILED", "*"),
        drops("NOT_SPECIFIED", "neigh_invalidate"),
        // It was given up, or changed its address, between the look-up and the header.
        drops("NEIGH_HH_FILLFAIL", "*"),
    ],
    counters: &[],
}];

impl Rule for NeighbourUnreachable {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Critical, KINDS, |group, _| {
            let (to, device) = (group.targets(), group.device_name());
            Told {
                variant: variant(group),
                object: Some(format!("next hop to {to} on {device}")),
                summary: format!(
                    "The next hop to {to} does not answer on {device}: bring it up, or correct the address, \
                     subnet or VLAN"
                ),
                cure: "Bring the next hop up, or correct the address, netmask, VLAN or route that makes this \
                       host look for it here"
                    .into(),
                command: Some("ip neighbour show nud failed".into()),
                useless: &["net.ipv4.neigh.default.gc_thresh*: the table has room, the neighbour is silent"],
            }
        });
    }
}

/// Whether the silent next hop is the destination itself or a gateway on the way.
fn variant(group: &Group<'_>) -> Option<&'static str> {
    let troubled = &group.namespace?.neighbours.as_ref()?.troubled;
    let destination = group.flows().next()?.destination.address;
    let itself = troubled.iter().any(|neighbour| neighbour.address == destination);
    Some(if itself { "host" } else { "gateway" })
}
