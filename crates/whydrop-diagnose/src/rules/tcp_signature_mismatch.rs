//! TCP-MD5 or TCP-AO signatures are missing, unexpected or wrong: the two ends hold different keys.
//!
//! Every reason has its counter (`tcp_inbound_hash()`, `net/ipv4/tcp.c`, 6.18), so the variant is
//! certain. Which end is wrong is not to be seen from here.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpSignatureMismatch;

const ID: &str = "tcp-signature-mismatch";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("md5-missing"),
        signatures: &[drops("TCP_MD5NOTFOUND", "*")],
        counters: &["TcpExt.TCPMD5NotFound"],
    },
    Kind {
        variant: Some("md5-unexpected"),
        signatures: &[drops("TCP_MD5UNEXPECTED", "*")],
        counters: &["TcpExt.TCPMD5Unexpected"],
    },
    Kind {
        variant: Some("md5-failure"),
        signatures: &[drops("TCP_MD5FAILURE", "*")],
        counters: &["TcpExt.TCPMD5Failure"],
    },
    Kind {
        variant: Some("ao"),
        signatures: &[drops("TCP_AO*", "*")],
        counters: &["TcpExt.TCPAORequired", "TcpExt.TCPAOBad", "TcpExt.TCPAOKeyNotFound"],
    },
];

impl Rule for TcpSignatureMismatch {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Warning, KINDS, |group, variant| {
            let from = group.sources();
            let port = group.ports().map_or("a TCP port".into(), |port| format!("TCP port {port}"));
            let what = match variant {
                Some("md5-missing") => "carry no TCP-MD5 signature, though a key is set here",
                Some("md5-unexpected") => "carry a TCP-MD5 signature, and no key is set here",
                Some("md5-failure") => "carry a TCP-MD5 signature of another key",
                _ => "carry no TCP-AO signature of a key that is known here",
            };
            Told {
                object: Some(format!("keys of {port} for {from}")),
                summary: format!(
                    "Segments from {from} to {port} {what}: set the same key on both ends"
                ),
                cure: format!(
                    "Set the same key for {from} in both daemons (BGP: `neighbor ... password`), for the \
                     address that the packets really come from; then reset the session"
                ),
                command: Some("ss -tni".into()),
                useless: &[
                    "firewall rules and timers: the segments arrive, and are refused for their signature",
                ],
                ..Told::default()
            }
        });
    }
}
