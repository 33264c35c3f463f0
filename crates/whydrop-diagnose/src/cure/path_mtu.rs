//! A path that takes smaller packets than the sender believes.
//!
//! The cure is a filter that lets ICMP through, or one that clamps the segment size, and filters are the
//! operator's. A smaller MTU of a device or route would have to be set at every sender.

use whydrop_model::{Answer, Handover};

use super::{Patient, handover};
use crate::command;

/// What the rule says, and the lines that clamp the segment size on the router that cannot pass the
/// packets on: `rt mtu` is the smaller one of both directions (`get_tcpmss()`, `net/netfilter/nft_rt.c`,
/// 6.18).
pub(super) fn black_hole(patient: &Patient<'_>) -> Option<Answer> {
    const TABLE: &str = "inet whydrop-mss";
    let told = handover(patient.finding);
    let lines = [
        format!("nft 'add table {TABLE}'"),
        format!("nft 'add chain {TABLE} forward {{ type filter hook forward priority mangle; }}'"),
        format!("nft 'add rule {TABLE} forward tcp flags syn tcp option maxseg size set rt mtu'"),
    ];
    let commands: Vec<_> =
        lines.iter().filter_map(|line| command::within(patient.namespace, line)).collect();
    if commands.is_empty() {
        return None;
    }
    Some(Answer::Operator(Handover {
        advice: format!(
            "{}. whydrop changes no filter; these lines clamp the segment size of new connections in a \
             table of their own, which `nft delete table {TABLE}` takes away. To keep it, put the same into \
             /etc/nftables.conf",
            told.advice
        ),
        commands: [told.commands, commands].concat(),
        left_out: told.left_out,
    }))
}
