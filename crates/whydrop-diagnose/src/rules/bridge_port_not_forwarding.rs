//! A bridge port is not in the forwarding state, or the bridge itself is down.
//!
//! At the port a frame comes in by: `BRIDGE_INGRESS_STP_STATE` in `br_handle_frame`, or (learning) in
//! `br_handle_frame_finish` (`net/bridge/br_input.c`, 6.18). At the port it should leave by it is freed
//! without a reason in `br_handle_frame_finish`; the ports' states tell that from a policy.

use whydrop_model::{DropTotal, Evidence, Link, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct BridgePortNotForwarding;

const ID: &str = "bridge-port-not-forwarding";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };
const VARIANTS: [&str; 5] = ["bridge-down", "listening", "learning", "disabled", "egress"];

impl Rule for BridgePortNotForwarding {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for wanted in VARIANTS {
            let claims = case.claim(|total| variant(evidence, total) == Some(wanted));
            for group in traced::gather(case, claims) {
                let port = group.device_name();
                let (what, cure) = if wanted == "bridge-down" {
                    (format!("the bridge of port {port} is down"), "ip link set dev <bridge> up")
                } else if wanted == "egress" {
                    (
                        format!("frames from {port} should leave by a port that is not forwarding"),
                        "bridge link set dev <port> state 3",
                    )
                } else {
                    (
                        format!("bridge port {port} is {wanted}"),
                        "bridge link set dev <port> state 3",
                    )
                };
                let told = Told {
                    variant: Some(wanted),
                    object: Some(format!("state of bridge port {port}")),
                    summary: format!("Frames are dropped because {what}"),
                    cure: format!(
                        "Wait out the spanning tree's forward delay if the port just came up; otherwise let \
                         it forward (`{cure}`), unless spanning tree blocks it on purpose against a loop"
                    ),
                    command: Some("bridge -d link".into()),
                    useless: &["forwarding sysctls: a bridge does not route"],
                };
                group.conclude(case, ID, Severity::Critical, &KIND, told);
            }
        }
    }
}

fn variant(evidence: &Evidence, total: &DropTotal) -> Option<&'static str> {
    let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
    let links = &evidence.namespace(total.netns?)?.links;
    let ingress = links.iter().find(|link| link.ifindex == total.ifindex)?;
    let port = ingress.bridge_port.as_ref()?;
    let same_bridge = |link: &&Link| link.master.is_some() && link.master == ingress.master;
    match (total.reason.as_str(), symbol) {
        // All ports of a bridge that is down are disabled.
        ("BRIDGE_INGRESS_STP_STATE", _)
            if links.iter().any(|link| Some(link.ifindex) == ingress.master && !link.up) =>
        {
            Some("bridge-down")
        }
        ("BRIDGE_INGRESS_STP_STATE", _) => Some(match port.state.as_str() {
            "listening" => "listening",
            "learning" => "learning",
            _ => "disabled",
        }),
        ("NOT_SPECIFIED", "br_handle_frame_finish") if !port.isolated && !port.locked => links
            .iter()
            .filter(same_bridge)
            .filter_map(|link| link.bridge_port.as_ref())
            .any(|other| other.state != "forwarding")
            .then_some("egress"),
        _ => None,
    }
}
