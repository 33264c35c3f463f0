//! A header, a length, an option or an extension header is invalid.
//!
//! `IP_INHDR` in the receive functions (not in forwarding, where it is the TTL), `PKT_TOO_SMALL`, and
//! the reasons of neighbour discovery and extension headers (`net/ipv4/ip_input.c`,
//! `net/ipv6/ip6_input.c`, 6.18).

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct MalformedPacket;

const ID: &str = "malformed-packet";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("ip"),
        signatures: &[drops("IP_INHDR", "ip_rcv_core"), drops("PKT_TOO_SMALL", "ip_rcv_core")],
        counters: &["Ip.InHdrErrors", "IpExt.InTruncatedPkts"],
    },
    Kind {
        variant: Some("ip-option"),
        signatures: &[drops("IP_INHDR", "ip_rcv_finish_core"), drops("IP_INHDR", "ip_rcv_options")],
        counters: &["Ip.InHdrErrors"],
    },
    Kind {
        variant: Some("ipv6"),
        signatures: &[
            drops("IP_INHDR", "ip6_rcv_core"),
            drops("PKT_TOO_SMALL", "ip6_rcv_core"),
            drops("UNHANDLED_PROTO", "ip6_rcv_core"),
        ],
        counters: &["snmp6.Ip6InHdrErrors", "snmp6.Ip6InTruncatedPkts"],
    },
    Kind {
        variant: Some("ipv6-extension"),
        signatures: &[
            drops("IPV6_BAD_EXTHDR", "*"),
            drops("IPV6_TOO_MANY_EXTHDRS", "*"),
            drops("NOT_SPECIFIED", "ipv6_destopt_rcv"),
            drops("NOT_SPECIFIED", "ipv6_rthdr_rcv"),
            drops("NOT_SPECIFIED", "ip6_parse_tlv"),
            drops("IP_INHDR", "ip6_parse_tlv"),
            drops("UNHANDLED_PROTO", "ip6_tlvopt_unknown"),
        ],
        counters: &["snmp6.Ip6InHdrErrors"],
    },
    Kind {
        variant: Some("tcp"),
        signatures: &[
            drops("PKT_TOO_SMALL", "tcp_v4_rcv"),
            drops("PKT_TOO_SMALL", "tcp_v6_rcv"),
            drops("TCP_AUTH_HDR", "*"),
        ],
        counters: &["Tcp.InErrs"],
    },
    Kind {
        variant: Some("udp"),
        signatures: &[
            drops("PKT_TOO_SMALL", "__udp4_lib_rcv"),
            drops("PKT_TOO_SMALL", "__udp6_lib_rcv"),
        ],
        counters: &["Udp.InErrors", "snmp6.Udp6InErrors"],
    },
    Kind {
        variant: Some("icmp"),
        signatures: &[drops("PKT_TOO_SMALL", "icmp_rcv"), drops("PKT_TOO_SMALL", "icmpv6_rcv")],
        counters: &["Icmp.InErrors", "snmp6.Icmp6InErrors"],
    },
    Kind {
        variant: Some("ndisc"),
        signatures: &[
            drops("IPV6_NDISC_FRAG", "*"),
            drops("IPV6_NDISC_HOP_LIMIT", "*"),
            drops("IPV6_NDISC_BAD_*", "*"),
        ],
        counters: &[],
    },
    Kind { variant: Some("arp"), signatures: &[drops("PKT_TOO_SMALL", "arp_*")], counters: &[] },
    Kind { variant: Some("vxlan"), signatures: &[drops("VXLAN_INVALID_HDR", "*")], counters: &[] },
];

impl Rule for MalformedPacket {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            let from = group.sources();
            Told {
                object: Some(format!("packets from {from}")),
                summary: format!(
                    "Packets from {from} on {} are malformed: find the sender or device that builds them",
                    group.device_name()
                ),
                cure: format!("Capture one of them and mend whatever builds it ({from})"),
                command: group.device.map(|device| format!("tcpdump -c 5 -XX -i {device}")),
                useless: &["sysctls: no setting makes a broken header whole"],
                ..Told::default()
            }
        });
    }
}
