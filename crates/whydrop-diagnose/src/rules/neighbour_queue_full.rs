//! More packets waited for ARP or neighbour discovery than the unresolved queue holds.
//!
//! `NEIGH_QUEUEFULL` in `__neigh_event_send` (`net/core/neighbour.c`, 6.18). The oldest waiting packet is
//! dropped. If the neighbour never answers, the rest is lost as well, to another cause.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct NeighbourQueueFull;

const ID: &str = "neighbour-queue-full";

const KINDS: &[Kind] =
    &[Kind { variant: None, signatures: &[drops("NEIGH_QUEUEFULL", "*")], counters: &[] }];

impl Rule for NeighbourQueueFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Warning, KINDS, |group, _| {
            let device = group.device_name();
            let family = if group.is_ipv6() { "ipv6" } else { "ipv4" };
            let setting =
                format!("net.{family}.neigh.{}.unres_qlen_bytes", device.replace('.', "/"));
            Told {
                summary: format!(
                    "Packets to {} wait on {device} for a neighbour that is slow to answer, more than \
                     {setting} holds",
                    group.targets()
                ),
                cure: format!(
                    "Find out why the neighbour answers late; for bursts raise {setting} to packets per \
                     second x bytes charged x resolution time"
                ),
                command: group.device.map(|_| format!("sysctl {setting}")),
                object: Some(setting),
                useless: &["net.ipv4.neigh.default.gc_thresh*: the table has room"],
                ..Told::default()
            }
        });
    }
}
