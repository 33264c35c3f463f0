//! A flow of Open vSwitch dropped the packet.
//!
//! The datapath has reasons of its own (`net/openvswitch/drop.h`, 6.6+): the actions ended without an
//! output, a drop action, a meter, or an action that failed. Older kernels free the packet in
//! `do_execute_actions()` without one. Not taken: what `ovs_dp_process_packet()` frees, for there no
//! flow decided; the daemon that should have been asked did not answer.

use whydrop_model::{DropTotal, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct OpenvswitchFlowDrop;

const ID: &str = "openvswitch-flow-drop";

const KINDS: &[Kind] = &[
    kind("last-action", &[drops("OVS_DROP_LAST_ACTION", "*")]),
    kind("explicit", &[drops("OVS_DROP_EXPLICIT*", "*")]),
    kind("meter", &[drops("OVS_DROP_METER", "*")]),
    kind("action-error", &[drops("OVS_DROP_*", "*")]),
    Kind {
        variant: None,
        signatures: &[Signature {
            reason: "NOT_SPECIFIED",
            symbol: "do_execute_actions",
            when: in_datapath,
        }],
        counters: &[],
    },
];

const fn kind(variant: &'static str, signatures: &'static [Signature]) -> Kind {
    Kind { variant: Some(variant), signatures, counters: &[] }
}

fn in_datapath(total: &DropTotal) -> bool {
    let module = total.site.as_ref().and_then(|site| site.module.as_deref());
    // Built into the kernel it has no module.
    module.is_none_or(|module| module == "openvswitch")
}

impl Rule for OpenvswitchFlowDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Warning, KINDS, |group, variant| {
            let device = group.device_name();
            let what = match variant {
                Some("last-action") => "matches a flow whose actions end without an output",
                Some("explicit") => "matches a flow that says drop",
                Some("meter") => "is above the rate of a meter",
                Some("action-error") => "matches a flow with an action that fails",
                _ => "matches a flow that drops it",
            };
            Told {
                object: Some(format!("Open vSwitch flow for packets from {device}")),
                summary: format!("A packet from {device} {what} ({})", group.targets()),
                cure: "Find the flow, and change it at the controller that made it (OVN, Neutron, \
                       ovs-ofctl): `ovs-appctl ofproto/trace` says which rules led to it"
                    .into(),
                command: Some("ovs-appctl dpctl/dump-flows -m".into()),
                useless: &["ovs-ofctl del-flows: cuts all traffic until the controller is back"],
                ..Told::default()
            }
        });
    }
}
