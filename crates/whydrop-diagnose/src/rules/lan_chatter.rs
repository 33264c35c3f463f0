//! Link-layer traffic that nobody on this host asked for.
//!
//! Unknown EtherTypes, control frames, and frames flooded to every port whose destination is some
//! other host. Look-alike: a frame for one of our own addresses under a foreign MAC is a fault of
//! its sender; where an exemplar shows one, those drops are left to that cause.

use std::net::IpAddr;

use whydrop_model::{DropTotal, Evidence};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct LanChatter;

const ID: &str = "lan-chatter";

const SIGNATURES: &[Signature] = &[
    drops("UNHANDLED_PROTO", "__netif_receive_skb_core"),
    drops("NOT_SPECIFIED", "stp_pdu_rcv"),
    drops("NOT_SPECIFIED", "llc_rcv"),
    drops("MAC_IEEE_MAC_CONTROL", "*"),
    drops("ARP_PVLAN_DISABLE", "*"),
];

impl Rule for LanChatter {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
        let evidence = case.evidence();
        let flooded =
            case.claim(|total| total.reason == "OTHERHOST" && for_others(total, evidence));
        signature::book_claims_as_noise(case, ID, flooded);
    }
}

/// True if the exemplars of these drops go to addresses that are not this namespace's own. Without
/// an exemplar, or without the namespace's addresses, nothing is claimed.
fn for_others(total: &DropTotal, evidence: &Evidence) -> bool {
    let Some(namespace) = total.netns.and_then(|inode| evidence.namespace(inode)) else {
        return false;
    };
    let own =
        |address: &IpAddr| namespace.links.iter().any(|link| link.addresses.contains(address));
    evidence.shows(total, |flow| !own(&flow.destination.address))
}
