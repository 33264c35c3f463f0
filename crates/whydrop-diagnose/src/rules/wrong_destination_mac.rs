//! Frames for one of our IP addresses carry a MAC that is not ours.
//!
//! `OTHERHOST` in `ip_rcv_core` or `ip6_rcv_core` (6.18) with a local destination address: the sender has
//! a stale or wrong neighbour entry, or two hosts share the address. Look-alike: frames flooded to every
//! port for somebody else, which is noise; the destination address tells them apart.

use std::net::IpAddr;

use whydrop_model::{DropTotal, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct WrongDestinationMac;

const ID: &str = "wrong-destination-mac";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for WrongDestinationMac {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let for_us = |total: &DropTotal| {
            let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
            namespace.is_some_and(|one| {
                let own = |address: &IpAddr| {
                    one.links.iter().any(|link| link.addresses.contains(address))
                };
                evidence.shows(total, |flow| own(&flow.destination.address))
            })
        };
        let claims = case.claim(|total| total.reason == "OTHERHOST" && for_us(total));
        for group in traced::gather(case, claims) {
            let (from, to) = (group.sources(), group.targets());
            let told = Told {
                object: Some(format!("neighbour entry for {to} at {from}")),
                summary: format!(
                    "{from} sends packets for our address {to} to a MAC that is not ours: flush its \
                     neighbour entry, look for a second host with that address"
                ),
                cure: format!(
                    "On {from}: delete the stale or static neighbour entry for {to}. If it comes back, two \
                     hosts use {to}"
                ),
                useless: &["promiscuous mode: the packet is refused by IP, not by the card"],
                ..Told::default()
            };
            group.conclude(case, ID, Severity::Notice, &KIND, told);
        }
    }
}
