//! A fragment never came, and the others were discarded when the timer ran out.
//!
//! `FRAG_REASM_TIMEOUT` in `ip_expire` or `ip6_frag_expire` (`net/ipv4/ip_fragment.c`, 6.18), with
//! `ReasmTimeout` about equal to `ReasmFails`. The first fragment of each datagram is freed here; the
//! kernel frees the others with it.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct FragmentTimeout;

const ID: &str = "fragment-timeout";

const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[drops("FRAG_REASM_TIMEOUT", "*")],
    counters: &["Ip.ReasmTimeout", "snmp6.Ip6ReasmTimeout"],
}];

impl Rule for FragmentTimeout {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let from = group.sources();
            Told {
                object: Some(format!("fragments from {from}")),
                summary: format!(
                    "Fragments of datagrams from {from} are lost on the way, so the rest is discarded"
                ),
                cure: "Find where fragments are lost (firewalls drop them, links differ in MTU), or avoid \
                       fragmentation: smaller datagrams, EDNS 1232, path MTU discovery"
                    .into(),
                command: None,
                useless: &["net.ipv4.ipfrag_high_thresh: memory was not short, a fragment was missing"],
                ..Told::default()
            }
        });
    }
}
