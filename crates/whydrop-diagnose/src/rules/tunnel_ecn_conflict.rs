//! The outer packet of a tunnel is marked as congested, and the inner one does not understand the mark.
//!
//! RFC 6040 lets only the drop carry the signal on: `IP_TUNNEL_ECN` in `vxlan_rcv` (6.13+), with
//! `rx_frame_errors` of the tunnel; other kinds of tunnel drop without a reason and count the same.
//! Look-alike: `rx_frame_errors` of hardware, which are frames damaged on the wire, with no drop to trace.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TunnelEcnConflict;

const ID: &str = "tunnel-ecn-conflict";

const KIND: Kind =
    Kind { variant: None, signatures: &[drops("IP_TUNNEL_ECN", "*")], counters: &[] };

/// Where tunnels that give no reason drop such packets, among others.
const NAMELESS: &[Signature] = &[
    drops("NOT_SPECIFIED", "vxlan_rcv"),
    drops("NOT_SPECIFIED", "geneve_udp_encap_recv"),
    drops("NOT_SPECIFIED", "ip_tunnel_rcv"),
    drops("NOT_SPECIFIED", "__ip6_tnl_rcv"),
];

impl Rule for TunnelEcnConflict {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let mut claims = case.claim(|total| KIND.signatures.iter().any(|it| it.matches(total)));
        for namespace in case.namespaces() {
            for link in namespace.links.iter().filter(|link| link.tunnel.is_some()) {
                let grown = link.stats.get("rx_frame_errors").map_or(0, |pair| pair.delta());
                claims.extend(case.claim_up_to(grown, |total| {
                    total.netns == Some(namespace.inode)
                        && total.ifindex == link.ifindex
                        && NAMELESS.iter().any(|it| it.matches(total))
                }));
            }
        }
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let told = Told {
                object: Some(format!("congestion marks on the way to {device}")),
                summary: format!(
                    "Packets arrive at {device} marked as congested outside, while the packet inside does \
                     not know ECN: find the router or QoS rule that marks them"
                ),
                cure: "Correct the rule in the underlay that writes the whole TOS byte instead of the DSCP, \
                       or marks packets that did not offer ECN"
                    .into(),
                command: Some("tcpdump -vni any -c 20 'udp and ip[1] & 3 = 3'".into()),
                useless: &["larger buffers: nothing overflowed here"],
                ..Told::default()
            };
            let grown = group.link_counters(&["rx_frame_errors"]);
            group.agreed(grown).conclude(case, ID, Severity::Warning, &KIND, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Link, Pair, Tunnel};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_reason_or_the_counter_tells() {
        for (reason, symbol, frame_errors, known) in [
            ("IP_TUNNEL_ECN", "vxlan_rcv", 0, true),
            ("NOT_SPECIFIED", "ip_tunnel_rcv", 30, true),
            ("NOT_SPECIFIED", "ip_tunnel_rcv", 0, false),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
            let mut link = Link { ifindex: 2, name: "gre1".into(), ..Link::default() };
            link.tunnel = Some(Tunnel::default());
            link.stats.insert("rx_frame_errors".into(), Pair { before: 0, after: frame_errors });
            evidence.namespaces[0].links.push(link);
            let report = diagnose(&evidence, &Thresholds::default());
            let found = report.findings.iter().any(|it| it.cause == "tunnel-ecn-conflict");
            assert_eq!(found, known, "{reason}@{symbol} with {frame_errors}");
            assert_eq!(report.ledger.lost, 30 + if known { 0 } else { frame_errors });
        }
    }
}
