//! Nobody on this host handles the IP protocol number.
//!
//! `IP_NOPROTO` in `ip_local_deliver_finish` or the IPv6 input (`net/ipv4/ip_input.c`, 6.18). Look-alike:
//! a full raw socket of that protocol bears the same reason; then `/proc/net/raw` counts drops and
//! `Ip.InUnknownProtos` stays.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct UnknownIpProtocol;

const ID: &str = "unknown-ip-protocol";

const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[drops("IP_NOPROTO", "*")],
    counters: &["Ip.InUnknownProtos", "snmp6.Ip6InUnknownProtos"],
}];

impl Rule for UnknownIpProtocol {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let numbers = group.protocols();
            Told {
                object: Some(format!("IP protocol {numbers}")),
                summary: format!(
                    "Packets of IP protocol {numbers} arrive from {} and nothing here handles it",
                    group.sources()
                ),
                cure: "Stop the sender, or load what handles the protocol (a tunnel, IPsec, SCTP module)".into(),
                command: Some("cat /proc/net/protocols".into()),
                useless: &[],
                ..Told::default()
            }
        });
    }
}
