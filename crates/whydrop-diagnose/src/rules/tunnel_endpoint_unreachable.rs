//! There is no route to the other end of a tunnel.
//!
//! `IP_OUTNOROUTES` in `vxlan_xmit_one` (6.13+) with `tx_carrier_errors` of the device; other kinds of tunnel
//! drop without a reason and count the same. Look-alike: a route that leads into the tunnel itself, which the
//! device counts as `collisions`; that rule comes first.

use whydrop_model::Severity;

use super::tunnel_loop::{known_remote, remote, unrouted};
use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct TunnelEndpointUnreachable;

const ID: &str = "tunnel-endpoint-unreachable";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for TunnelEndpointUnreachable {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let mut groups = unrouted(case, "tx_carrier_errors");
        // The reason says it even where the device could not be read.
        let rest = case.claim(|total| {
            let symbol = total.site.as_ref().map(|site| site.symbol.as_str());
            total.reason == "IP_OUTNOROUTES" && symbol == Some("vxlan_xmit_one")
        });
        groups.extend(traced::by_device(case, rest));
        for group in groups {
            let told = told(&group);
            let grown = group.link_counters(&["tx_carrier_errors"]);
            group.agreed(grown).conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

fn told(group: &Group<'_>) -> Told {
    let (device, remote) = (group.device_name(), remote(group));
    Told {
        object: Some(format!("route to {remote}, the remote of {device}")),
        summary: format!(
            "There is no route to {remote}, the other end of {device}: add or restore the underlay route"
        ),
        cure: format!(
            "In the namespace of the underlay: `ip route add {remote} via <gateway> dev <underlay device>`; \
             make it permanent in the network manager, routing daemon or VPN. It must not lead into the tunnel"
        ),
        command: known_remote(group).map(|remote| format!("ip route get {remote}")),
        useless: &["MTU, TTL and queue of the tunnel: its packets have nowhere to go"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_reason_is_enough() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("IP_OUTNOROUTES", "vxlan_xmit_one", 30),
            sample::total("IP_OUTNOROUTES", "elsewhere", 1),
        ];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "tunnel-endpoint-unreachable");
        assert_eq!(report.findings[0].packets, 30);
    }
}
