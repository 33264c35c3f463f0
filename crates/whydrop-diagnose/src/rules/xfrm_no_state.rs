//! IPsec has no security association for the packet.
//!
//! Received: ESP or AH with an SPI that this host does not hold: `XfrmInNoStates`, freed in
//! `xfrm_input` (`net/xfrm/xfrm_input.c`); where nothing handles the protocol at all (no `esp4` module)
//! `IP_NOPROTO` for protocol 50 or 51. Sent: a policy asks for protection and the negotiation has not
//! produced a state: freed without a reason in `dst_discard_out` while `XfrmOutNoStates` grows, which
//! also counts the look-ups of `connect()` and so grows by more than the packets (6.18).

use whydrop_model::{DropTotal, Severity};

use crate::case::Case;
use crate::fib;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct XfrmNoState;

const ID: &str = "xfrm-no-state";

const ESP: u8 = 50;
const AH: u8 = 51;
const IN_COUNTER: &str = "xfrm.XfrmInNoStates";
const OUT_COUNTER: &str = "xfrm.XfrmOutNoStates";

const UNHANDLED: Kind = Kind {
    variant: Some("in"),
    signatures: &[Signature {
        reason: "IP_NOPROTO",
        symbol: "*",
        when: |total| matches!(total.l4, Some(ESP | AH)),
    }],
    counters: &["Ip.InUnknownProtos", "snmp6.Ip6InUnknownProtos"],
};
const RECEIVED: Kind = Kind {
    variant: Some("in"),
    signatures: &[drops("NOT_SPECIFIED", "xfrm_input")],
    counters: &[IN_COUNTER],
};
const SENT: Kind = Kind {
    variant: Some("out"),
    signatures: &[drops("NOT_SPECIFIED", "dst_discard*")],
    counters: &[OUT_COUNTER],
};

impl Rule for XfrmNoState {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, UNHANDLED.signatures) {
            let told = received(&group);
            group.conclude(case, ID, Severity::Critical, &UNHANDLED, told);
        }
        for namespace in case.namespaces() {
            // The function frees for other reasons too, each with a counter of its own.
            let unknown = namespace.delta(IN_COUNTER).unwrap_or(0);
            let here = |total: &DropTotal| total.netns == Some(namespace.inode);
            let claims = case
                .claim_up_to(unknown, |total| here(total) && RECEIVED.signatures[0].matches(total));
            for group in traced::gather(case, claims) {
                let told = received(&group);
                group.conclude(case, ID, Severity::Critical, &RECEIVED, told);
            }
            if namespace.delta(OUT_COUNTER).unwrap_or(0) == 0 {
                continue;
            }
            let evidence = case.evidence();
            let discarding = |address| {
                let routes = namespace.routes.iter().flat_map(|routes| &routes.discarding);
                routes.into_iter().any(|route| fib::covers(route, address))
            };
            let claims = case.claim(|total| {
                here(total)
                    && SENT.signatures[0].matches(total)
                    && !evidence.shows(total, |flow| discarding(flow.destination.address))
            });
            for group in traced::gather(case, claims) {
                let told = sent(&group);
                group.conclude(case, ID, Severity::Critical, &SENT, told);
            }
        }
    }
}

/// How many associations there are, in words.
fn associations(group: &Group<'_>) -> &'static str {
    let gauge = group.namespace.and_then(|here| here.gauges.get("xfrm.states"));
    match gauge.map(|states| states.after) {
        Some(0) => "there is no security association at all",
        _ => "no security association fits them",
    }
}

fn received(group: &Group<'_>) -> Told {
    let from = group.sources();
    Told {
        object: Some(format!("security association with {from}")),
        summary: format!("IPsec packets from {from} are discarded: {}", associations(group)),
        cure: format!(
            "Negotiate again, from the side that lost its state (this one, if it was restarted), and \
             enable dead peer detection on both ends; if no IPsec is meant, stop {from}"
        ),
        command: Some("ip -s xfrm state".into()),
        useless: &["MTU, packet filter and conntrack: the packets arrive and cannot be decrypted"],
        ..Told::default()
    }
}

fn sent(group: &Group<'_>) -> Told {
    let to = group.targets();
    Told {
        object: Some(format!("security association with {to}")),
        summary: format!(
            "Packets to {to} must be protected by IPsec and are discarded: {}",
            associations(group)
        ),
        cure:
            "Start the IKE daemon or read in its log why the negotiation fails; by hand, add the \
               association. If no IPsec is meant, delete the policy"
                .into(),
        command: Some("ip -s xfrm policy".into()),
        useless: &["routes and neighbours: the packets are discarded before they leave"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Routes};

    use crate::{Thresholds, diagnose, sample};

    fn told(evidence: &Evidence) -> Vec<(String, Option<String>, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        let told = report.findings.into_iter();
        told.map(|one| (one.cause, one.variant, one.packets)).collect()
    }

    #[test]
    fn esp_that_nothing_handles_is_no_unknown_protocol() {
        let mut evidence = sample::evidence();
        let mut esp = sample::total("IP_NOPROTO", "ip_local_deliver_finish", 30);
        esp.l4 = Some(50);
        let mut other = esp.clone();
        other.l4 = Some(252);
        other.packets = 4;
        evidence.tracer.totals = vec![esp, other];
        let in_variant = Some("in".to_owned());
        let expected =
            [("xfrm-no-state".into(), in_variant, 30), ("unknown-ip-protocol".into(), None, 4)];
        assert_eq!(told(&evidence), expected);
    }

    #[test]
    fn a_discarded_packet_is_ipsecs_if_its_counter_grew_and_no_route_discards() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "xfrm.XfrmOutNoStates", 60);
        let total = sample::total("NOT_SPECIFIED", "dst_discard_out", 20);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1)];
        evidence.tracer.totals = vec![total];
        let expected = ("xfrm-no-state".into(), Some("out".into()), 20);
        assert_eq!(told(&evidence), [expected]);
        let discarding = vec![sample::route("blackhole", "192.0.2.0", 24, 1)];
        evidence.namespaces[0].routes = Some(Routes { discarding, ..Routes::default() });
        assert_eq!(told(&evidence)[0].0, "blackhole-route");
    }
}
