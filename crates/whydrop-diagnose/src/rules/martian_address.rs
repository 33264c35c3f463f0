//! A source or destination address that cannot be.
//!
//! Loopback, multicast or zero as a source, loopback as a destination, our own address as a source from
//! outside (`ip_route_input_slow()` and `fib_validate_source()`, `net/ipv4`, 6.18). No counter counts
//! them; `log_martians` logs them. Over IPv6 they are header errors of `ip6_rcv_core`, which
//! `malformed_packet` would take.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct MartianAddress;

const ID: &str = "martian-address";

const KINDS: &[Kind] = &[
    Kind { variant: Some("source"), signatures: &[drops("IP_INVALID_SOURCE", "*")], counters: &[] },
    Kind {
        variant: Some("destination"),
        signatures: &[drops("IP_LOCALNET", "*"), drops("IP_INVALID_DEST", "*")],
        counters: &[],
    },
    Kind {
        variant: Some("own-source"),
        signatures: &[drops("IP_LOCAL_SOURCE", "*")],
        counters: &[],
    },
];

/// An invalid header to the tracer; the addresses tell.
const IPV6: Kind = Kind {
    variant: None,
    signatures: &[drops("IP_INHDR", "ip6_rcv_core")],
    counters: &["snmp6.Ip6InHdrErrors"],
};

impl Rule for MartianAddress {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let headers = |total: &_| IPV6.signatures.iter().any(|one| one.matches(total));
        let found = traced::take_by_flow(case, 1.0, headers, |_, flow| {
            let (from, to) = (flow.source.address, flow.destination.address);
            match (from.is_loopback() || from.is_multicast(), to.is_loopback()) {
                (true, _) => Some("source"),
                (_, true) => Some("destination"),
                _ => None,
            }
        });
        for (variant, group) in found {
            let told = Told { variant: Some(variant), ..tell(&group) };
            group.conclude(case, ID, Severity::Notice, &IPV6, told);
        }
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| tell(group));
    }
}

fn tell(group: &Group<'_>) -> Told {
    let (from, to) = (group.sources(), group.targets());
    // One reason for both: a loopback address on the wire.
    let from_loopback = group.flows().any(|flow| flow.source.address.is_loopback());
    Told {
        variant: from_loopback.then_some("source"),
        object: Some(format!("packets from {from} to {to}")),
        summary: format!(
            "Packets with an impossible address (from {from} to {to}) arrive on {}: find their sender",
            group.device_name()
        ),
        cure:
            "Find who sends them: a duplicate IP address, a loop, a DNAT to 127.0.0.1, spoofing; \
                       log_martians logs the sender's MAC"
                .into(),
        command: Some("sysctl -w net.ipv4.conf.all.log_martians=1".into()),
        useless: &["rp_filter=0: these are refused whatever it says"],
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn over_ipv6_the_addresses_tell() {
        let mut evidence = sample::evidence();
        let total = sample::total("IP_INHDR", "ip6_rcv_core", 25);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1)];
        evidence.tracer.totals = vec![total];
        let told = |evidence: &_| {
            let report = diagnose(evidence, &Thresholds::default());
            (report.findings[0].cause.clone(), report.findings[0].variant.clone())
        };
        assert_eq!(told(&evidence), ("malformed-packet".into(), Some("ipv6".into())));
        let flow = evidence.tracer.exemplars[0].flow.as_mut().expect("a flow");
        flow.destination.address = "::1".parse().expect("an address");
        assert_eq!(told(&evidence), ("martian-address".into(), Some("destination".into())));
    }
}
