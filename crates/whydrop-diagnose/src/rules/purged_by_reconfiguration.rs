//! A change of configuration threw packets away: those that were queued for what it removed, and
//! those that came in by a bridge port (a container's, as a rule) before the kernel let it forward,
//! which it does when it gets to handling the carrier (`br_port_carrier_check`, 6.18).

use whydrop_model::{DropTotal, Evidence};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct PurgedByReconfiguration;

const ID: &str = "purged-by-reconfiguration";

const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "__rtnl_unlock"),
    drops("NEIGH_DEAD", "__neigh_event_send"),
    drops("QUEUE_PURGE", "neigh_destroy"),
];

impl Rule for PurgedByReconfiguration {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
        let evidence = case.evidence();
        let plugged = case.claim(|total| {
            total.reason == "BRIDGE_INGRESS_STP_STATE" && is_new_or_gone(evidence, total)
        });
        signature::book_claims_as_noise(case, ID, plugged);
    }
}

/// True if frames came from a bridge port that is no longer there, or that forwards by now without a
/// spanning tree that made it wait.
fn is_new_or_gone(evidence: &Evidence, total: &DropTotal) -> bool {
    let Some(namespace) = total.netns.and_then(|inode| evidence.namespace(inode)) else {
        return false;
    };
    let link = |ifindex| namespace.links.iter().find(|link| link.ifindex == ifindex);
    let Some(port) = link(total.ifindex) else { return total.ifindex != 0 };
    let bridge = port.master.and_then(link).and_then(|link| link.bridge.as_ref());
    let forwards = port.bridge_port.as_ref().is_some_and(|port| port.state == "forwarding");
    forwards && bridge.is_some_and(|bridge| bridge.stp_state == 0)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Bridge, BridgePort, Link};

    use super::*;
    use crate::sample;

    /// Evidence of a bridge with a port in this state, and two frames dropped at it.
    fn evidence(state: &str, stp_state: u32) -> Evidence {
        let mut evidence = sample::evidence();
        let bridge = Bridge { stp_state, ..Bridge::default() };
        let port = BridgePort { state: state.into(), ..BridgePort::default() };
        evidence.namespaces[0].links = vec![
            Link { ifindex: 2, bridge: Some(bridge), up: true, ..Link::default() },
            Link { ifindex: 3, master: Some(2), bridge_port: Some(port), ..Link::default() },
        ];
        let mut total = sample::total("BRIDGE_INGRESS_STP_STATE", "br_handle_frame", 2);
        total.ifindex = 3;
        evidence.tracer.totals = vec![total];
        evidence
    }

    fn causes(evidence: &Evidence) -> Vec<String> {
        let report = crate::diagnose(evidence, &crate::Thresholds::default());
        report.ledger.entries.into_iter().map(|entry| entry.cause).collect()
    }

    #[test]
    fn a_bridge_port_that_came_or_went() {
        assert_eq!(causes(&evidence("forwarding", 0)), [ID], "it forwards by now");
        let mut gone = evidence("forwarding", 0);
        gone.namespaces[0].links.pop();
        assert_eq!(causes(&gone), [ID]);
    }

    #[test]
    fn a_port_that_does_not_forward_is_another_cause() {
        let other = ["bridge-port-not-forwarding"];
        assert_eq!(causes(&evidence("disabled", 0)), other);
        assert_eq!(causes(&evidence("forwarding", 1)), other, "a spanning tree made it wait");
    }
}
