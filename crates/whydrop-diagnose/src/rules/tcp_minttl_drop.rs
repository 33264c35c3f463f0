//! A socket takes only packets that come from near by.
//!
//! With `IP_MINTTL` or `IPV6_MINHOPCOUNT` (GTSM, RFC 5082) `tcp_v4_rcv` and `tcp_v6_rcv`
//! (`net/ipv4/tcp_ipv4.c`, 6.18) drop what arrives with a lower TTL, as `TCP_MINTTL`, and count
//! `TcpExt.TCPMinTTLDrop`. Nothing is answered. Look-alike: a TTL that ends on the way never gets here.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TcpMinttlDrop;

const ID: &str = "tcp-minttl-drop";
const KINDS: &[Kind] = &[Kind {
    variant: None,
    signatures: &[drops("TCP_MINTTL", "*")],
    counters: &["TcpExt.TCPMinTTLDrop"],
}];

impl Rule for TcpMinttlDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            Told {
            object: Some(format!("IP_MINTTL of TCP port {}", group.own_ports())),
            summary: format!(
                "TCP segments from {} reach port {} with a TTL below what its socket demands (TTL \
                 security)",
                group.sources(),
                group.own_ports()
            ),
            cure: "If the peer is legitimate, let both ends agree on the hops between them: TTL security \
                   on at the peer too, so that it sends TTL 255, and the hop count raised here to what \
                   the path really has"
                .into(),
            command: Some("ss -tinp".into()),
            useless: &["net.ipv4.ip_default_ttl here: it is for what this host sends"],
            ..Told::default()
        }
        });
    }
}
