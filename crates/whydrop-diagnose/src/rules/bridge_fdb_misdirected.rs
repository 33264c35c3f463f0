//! The forwarding database points a MAC back at the port the frame came from.
//!
//! Freed without a reason in `br_handle_frame_finish` (`net/bridge/br_input.c`, 6.18) although every port
//! forwards and none is isolated or locked; those two were taken before. The database itself is not
//! among the evidence, so this is what remains and not a proof.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct BridgeFdbMisdirected;

const ID: &str = "bridge-fdb-misdirected";

const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[drops("NOT_SPECIFIED", "br_handle_frame_finish")],
    counters: &[],
}];

impl Rule for BridgeFdbMisdirected {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Critical, KINDS, |group, _| {
            let port = group.device_name();
            Told {
                object: Some(format!("fdb entry on bridge port {port}")),
                summary: format!(
                    "Frames that come in by bridge port {port} are addressed to a station that the bridge \
                     believes to be there as well: look for a wrong fdb entry"
                ),
                cure: format!("Delete the wrong (often static) fdb entry on {port}"),
                command: group.device.map(|device| format!("bridge fdb show dev {device}")),
                useless: &["flushing neighbour entries: the MAC is right, the port is wrong"],
                ..Told::default()
            }
        });
    }
}
