//! The queue of broadcasts to macvlan or ipvlan devices overflowed.
//!
//! A worker copies each broadcast to every macvlan; what finds its queue full is freed without a reason in
//! `macvlan_handle_frame` (`drivers/net/macvlan.c`, 6.18; 7.x has reasons) and counted in `rx_dropped` of
//! the device below. Unicast never waits there. Look-alike: copies that nobody on a macvlan reads.

use whydrop_model::{EvidenceItem, EvidenceKind, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct MacvlanBroadcastQueueFull;

const ID: &str = "macvlan-broadcast-queue-full";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[
        drops("NOT_SPECIFIED", "macvlan_handle_frame"),
        drops("NOT_SPECIFIED", "macvlan_broadcast_enqueue"),
        drops("MACVLAN_BROADCAST_BACKLOG", "*"),
        drops("IPVLAN_MULTICAST_BACKLOG", "*"),
    ],
    counters: &[],
};

impl Rule for MacvlanBroadcastQueueFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let claims = case.claim(|total| KIND.signatures.iter().any(|it| it.matches(total)));
        for group in traced::by_device(case, claims) {
            let length = queue_length(&group);
            let device = group.device_name();
            let limit = length.map(|packets| format!(" of {packets}")).unwrap_or_default();
            let told = Told {
                object: Some(format!("broadcast queue of the macvlans on {device} (bcqueuelen)")),
                summary: format!(
                    "Broadcasts to the macvlans on {device} come faster than they are copied, and their \
                     queue{limit} overflows: reduce them, or raise bcqueuelen"
                ),
                cure: "Find the storm or the chatty discovery. If the bursts are meant, `ip link set <macvlan> \
                       type macvlan bcqueuelen <packets per second x delay of the worker>`: the largest \
                       request of all macvlans on the device counts"
                    .into(),
                command: Some("ip -d link show type macvlan".into()),
                useless: &[
                    "the ring of the card and net.core.netdev_max_backlog: they were passed before",
                ],
                ..Told::default()
            };
            let mut agreed = group.link_counters(&["rx_dropped"]);
            agreed.extend(length.map(|packets| {
                EvidenceItem::new(EvidenceKind::State, "bcqueuelen in use", u64::from(packets))
            }));
            group.agreed(agreed).conclude(case, ID, Severity::Warning, &KIND, told);
        }
    }
}

/// The length of the queue, as the macvlans on the device tell it.
fn queue_length(group: &Group<'_>) -> Option<u32> {
    let below = group.first()?.ifindex;
    let mut links = group.namespace?.links.iter();
    links.find_map(|link| {
        link.macvlan_bc_queue_len.filter(|_| link.lower.is_some_and(|it| it.ifindex == below))
    })
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Link, LowerLink};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_length_is_told() {
        for (reason, symbol) in [
            ("NOT_SPECIFIED", "macvlan_handle_frame"),
            ("MACVLAN_BROADCAST_BACKLOG", "macvlan_broadcast_enqueue"),
            ("IPVLAN_MULTICAST_BACKLOG", "ipvlan_handle_frame"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
            evidence.namespaces[0].links.push(Link {
                ifindex: 5,
                macvlan_bc_queue_len: Some(7),
                lower: Some(LowerLink { ifindex: 2, ..LowerLink::default() }),
                ..Link::default()
            });
            let finding = diagnose(&evidence, &Thresholds::default()).findings.remove(0);
            assert_eq!(finding.cause, "macvlan-broadcast-queue-full");
            assert!(finding.summary.contains("queue of 7 overflows"), "{}", finding.summary);
        }
    }
}
