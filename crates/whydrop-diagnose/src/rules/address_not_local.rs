//! Packets come to our MAC address for an IP address that we do not have and should not route.
//!
//! `IP_INADDRERRORS` in `ip_error` (`net/ipv4/route.c`) with `Ip.InAddrErrors`, or in `ip6_forward`
//! (`net/ipv6/ip6_output.c`, 6.18) with `Ip6InAddrErrors`: the way they came in by does not forward.
//! Where another device would lead on, forwarding was meant, and `ip_forwarding_disabled` took them
//! before.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct AddressNotLocal;

const ID: &str = "address-not-local";

/// What refused packets look like. The variants are those of `ip_forwarding_disabled`.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ipv4"),
        signatures: &[drops("IP_INADDRERRORS", "ip_error")],
        counters: &["Ip.InAddrErrors"],
    },
    Kind {
        variant: Some("ipv6"),
        signatures: &[drops("IP_INADDRERRORS", "ip6_forward")],
        counters: &["snmp6.Ip6InAddrErrors"],
    },
];

impl Rule for AddressNotLocal {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in KINDS {
            let plain = Kind { variant: None, ..*kind };
            for group in traced::take(case, kind.signatures) {
                let (to, from, device) = (group.targets(), group.sources(), group.device_name());
                let ip = if group.is_ipv6() { "ip -6" } else { "ip" };
                let told = Told {
                    object: Some(format!("address {to}")),
                    summary: format!(
                        "Packets for {to}, an address that this host does not have, come to {device} from \
                         {from}: put the address back, or correct who sends them here"
                    ),
                    cure: format!(
                        "If {to} belongs here (a virtual address that was lost, a container that is gone), \
                         add it to its device again; otherwise correct the route or the stale neighbour \
                         entry of {from}, which takes this host's MAC address for it"
                    ),
                    command: Some(format!("{ip} address show")),
                    useless: &["forwarding: no other device leads to that address"],
                    ..Told::default()
                };
                group.conclude(case, ID, Severity::Notice, &plain, told);
            }
        }
    }
}
