//! The checksum of the IP, TCP, UDP or ICMP part of a packet is wrong.
//!
//! The kernel names the protocol in the reason, and counts `InCsumErrors` beside it. A frame damaged on
//! the wire would have failed the link's own checksum and never have come this far: the packet was
//! wrong before it was framed.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct BadChecksum;

const ID: &str = "bad-checksum";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ip"),
        signatures: &[drops("IP_CSUM", "*")],
        counters: &["IpExt.InCsumErrors"],
    },
    Kind {
        variant: Some("tcp"),
        signatures: &[drops("TCP_CSUM", "*")],
        counters: &["Tcp.InCsumErrors"],
    },
    Kind {
        variant: Some("udp"),
        signatures: &[drops("UDP_CSUM", "*")],
        counters: &["Udp.InCsumErrors", "snmp6.Udp6InCsumErrors"],
    },
    Kind {
        variant: Some("icmp"),
        signatures: &[drops("ICMP_CSUM", "*")],
        counters: &["Icmp.InCsumErrors", "snmp6.Icmp6InErrors"],
    },
];

impl Rule for BadChecksum {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let from = group.sources();
            let protocol = variant.unwrap_or_default().to_uppercase();
            Told {
                object: Some(format!("{protocol} checksums from {from}")),
                summary: format!(
                    "Packets from {from} carry wrong {protocol} checksums: find the sender or middlebox that \
                     makes them"
                ),
                cure: format!(
                    "Look for broken checksum offload at {from} or a device in between that rewrites \
                     packets; switch transmit checksum offload off there to prove it"
                ),
                command: group.device.map(|device| format!("ethtool -k {device}")),
                useless: &[
                    "a new cable: damaged frames fail the link's checksum first and count as CRC errors",
                ],
                ..Told::default()
            }
        });
    }
}
