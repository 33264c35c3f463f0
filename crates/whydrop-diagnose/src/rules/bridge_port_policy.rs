//! A flag of a bridge port forbids the frame.
//!
//! `NO_TX_TARGET` in `br_handle_frame_finish`: no port floods to unknown stations. Without a reason in the
//! same function (`net/bridge/br_input.c`, 6.18): the port is isolated from the one it should leave by, or
//! locked and does not know the sender. The ports' flags tell which.

use whydrop_model::{DropTotal, Evidence, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct BridgePortPolicy;

const ID: &str = "bridge-port-policy";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

/// Variant, and the switch that ends it.
const VARIANTS: [(&str, &str); 3] =
    [("locked", "locked off"), ("isolated", "isolated off"), ("flood-off", "flood on")];

impl Rule for BridgePortPolicy {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for (wanted, switch) in VARIANTS {
            let claims = case.claim(|total| variant(evidence, total) == Some(wanted));
            for group in traced::gather(case, claims) {
                let port = group.device_name();
                let told = Told {
                    variant: Some(wanted),
                    object: Some(format!("flags of bridge port {port} ({wanted})")),
                    summary: format!(
                        "Frames that come in by bridge port {port} are dropped, as configured: {wanted}"
                    ),
                    cure: format!(
                        "If this traffic is wanted: `bridge link set dev <port> {switch}`, where the port's \
                         flags are managed"
                    ),
                    command: Some("bridge -d link".into()),
                    useless: &["a static fdb entry on another port: the flag is looked at first"],
                };
                group.conclude(case, ID, Severity::Notice, &KIND, told);
            }
        }
    }
}

fn variant(evidence: &Evidence, total: &DropTotal) -> Option<&'static str> {
    if total.site.as_ref()?.symbol != "br_handle_frame_finish" {
        return None;
    }
    let links = &evidence.namespace(total.netns?)?.links;
    let ingress = links.iter().find(|link| link.ifindex == total.ifindex)?;
    let port = ingress.bridge_port.as_ref()?;
    match total.reason.as_str() {
        "NO_TX_TARGET" => Some("flood-off"),
        "NOT_SPECIFIED" if port.locked => Some("locked"),
        "NOT_SPECIFIED" if port.isolated => Some("isolated"),
        _ => None,
    }
}
