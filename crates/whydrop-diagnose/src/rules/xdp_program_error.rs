//! An XDP program failed: it aborted, returned an action that does not exist, or redirected to nowhere.
//!
//! The tracepoint `xdp:xdp_exception` tells an aborted program or an unknown action from one that drops on
//! purpose: the packets themselves die alike. A redirect that failed is `XDP` in `do_xdp_generic`, and
//! `xdp:xdp_redirect_err` in both modes (`net/core/filter.c`, 6.18); in drivers its packet counts as
//! consumed. Look-alike: `bpf_redirect` of a tc program, which has a function of its own.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Claim, Conclusion, Loss, packets};
use crate::command;
use crate::rule::Rule;
use crate::xdp::{self, GENERIC, NATIVE, Place, REDIRECT};

/// See the module.
pub(super) struct XdpProgramError;

const ID: &str = "xdp-program-error";

impl Rule for XdpProgramError {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for place in xdp::places(evidence) {
            for wanted in ["aborted", "unknown-action"] {
                let codes = xdp::events(evidence, place, "xdp:xdp_exception")
                    .filter(|(code, _)| xdp::exception(code) == Some(wanted));
                let events = codes.map(|(_, count)| count).sum();
                let dropped = |total: &_| {
                    xdp::is_at(place, NATIVE, total) || xdp::is_at(place, GENERIC, total)
                };
                let claims = case.claim_up_to(events, dropped);
                let seen = [("xdp:xdp_exception", events)];
                conclude(case, place, wanted, &claims, &seen);
            }
            let failed = |event| xdp::events(evidence, place, event);
            let errors = failed("xdp:xdp_redirect_err").map(|(_, count)| count).sum();
            let sending = failed("xdp:xdp_exception").filter(|(code, _)| *code == "REDIRECT");
            let exceptions = sending.map(|(_, count)| count).sum();
            let claims = case.claim(|total| xdp::is_at(place, REDIRECT, total));
            let seen = [("xdp:xdp_redirect_err", errors), ("xdp:xdp_exception", exceptions)];
            conclude(case, place, "redirect", &claims, &seen);
        }
    }
}

/// Books what was lost: the drops and each tracepoint are about the same packets.
fn conclude(
    case: &mut Case<'_>,
    place: Place,
    variant: &'static str,
    claims: &[Claim<'_>],
    seen: &[(&'static str, u64)],
) {
    let traced = packets(claims);
    let counted = seen.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if traced.max(counted) == 0 {
        return;
    }
    let evidence = case.evidence();
    let link = xdp::link(evidence, place);
    let program = xdp::program(evidence, link);
    let (what, cure) = match variant {
        "aborted" => (
            "gave up on packets (XDP_ABORTED), and they are dropped",
            "Mend the program: a check of bounds, a lookup or a tail call fails in it",
        ),
        "unknown-action" => (
            "returned an action that the kernel does not know, and packets are dropped",
            "Mend the program: its return value is none of enum xdp_action",
        ),
        _ => (
            "redirected packets to a device or map entry that cannot take them",
            "Fill the map or correct the index; the target must be up, and in native mode its driver must be \
             able to take redirected frames (veth: with a program or GRO at its other end)",
        ),
    };
    let events = seen.iter().filter(|(_, count)| *count > 0);
    let mut proof: Vec<_> =
        events.map(|(name, count)| EvidenceItem::new(EvidenceKind::Event, *name, *count)).collect();
    if traced > 0 {
        let symbol = claims[0].total.site.as_ref().map_or("?", |site| site.symbol.as_str());
        let name = format!("{}@{symbol}", claims[0].total.reason);
        proof.insert(0, EvidenceItem::new(EvidenceKind::Tracer, name, traced));
    }
    let namespace = place.0.and_then(|inode| evidence.namespace(inode));
    let shown = link.map(xdp::show);
    let within = |line: String| command::within(namespace?, &line);
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Critical,
        confidence: if counted > 0 { Confidence::Confirmed } else { Confidence::Likely },
        loss: Loss { packets: traced.max(counted), traced, counted },
        site: Site {
            device: link.map(|link| link.name.clone()),
            object: Some(program.clone()),
            ..case.site_of(place.0)
        },
        summary: format!("{program} {what}: mend the program or what it looks up"),
        evidence: proof,
        remedies: vec![Remedy {
            summary: cure.into(),
            commands: shown.and_then(within).into_iter().collect(),
            useless: vec![
                "firewall rules, rings and backlogs: the packet dies before any of them".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{EventTotal, Evidence, Link, Xdp};

    use crate::{Thresholds, diagnose, sample};

    fn event(event: &str, code: &str, packets: u64) -> EventTotal {
        EventTotal {
            event: event.into(),
            code: code.into(),
            netns: Some(sample::INODE),
            ifindex: 2,
            device: Some("veth0".into()),
            family: 0,
            l4: None,
            port: 0,
            packets,
        }
    }

    fn evidence(drops: &[(&str, &str, u64)], events: Vec<EventTotal>) -> Evidence {
        let mut evidence = sample::evidence();
        let total = |&(reason, symbol, packets): &_| sample::total(reason, symbol, packets);
        evidence.tracer.totals = drops.iter().map(total).collect();
        evidence.events.totals = events;
        let xdp = Some(Xdp { mode: "driver".into(), programs: vec![77] });
        let link = Link { ifindex: 2, name: "veth0".into(), xdp, ..Link::default() };
        evidence.namespaces[0].links.push(link);
        evidence.bpf_programs.insert(77, "filter".into());
        evidence
    }

    fn found(evidence: &Evidence) -> Vec<(String, Option<String>, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        let found = report.findings.into_iter();
        found.map(|it| (it.cause, it.variant, it.packets)).collect()
    }

    #[test]
    fn an_exception_sets_a_failure_apart_from_a_drop() {
        let drops = [("NOT_SPECIFIED", "veth_xdp_rcv_skb", 50)];
        let events = vec![event("xdp:xdp_exception", "ABORTED", 30)];
        let both = [
            ("xdp-program-error".into(), Some("aborted".into()), 30),
            ("xdp-program-drop".into(), Some("native".into()), 20),
        ];
        assert_eq!(found(&evidence(&drops, events)), both);
        let unknown = vec![event("xdp:xdp_exception", "UNKNOWN_77", 50)];
        let drops = [("NOT_SPECIFIED", "do_xdp_generic", 50)];
        let one = [("xdp-program-error".into(), Some("unknown-action".into()), 50)];
        assert_eq!(found(&evidence(&drops, unknown)), one);
    }

    #[test]
    fn a_failed_redirect_is_one_loss_however_often_told() {
        let drops = [("XDP", "do_xdp_generic", 30)];
        let events = vec![event("xdp:xdp_redirect_err", "EINVAL", 30)];
        let one = [("xdp-program-error".to_owned(), Some("redirect".to_owned()), 30)];
        assert_eq!(found(&evidence(&drops, events.clone())), one);
        assert_eq!(found(&evidence(&drops, Vec::new())), one);
        assert_eq!(found(&evidence(&[], events)), one);
    }

    #[test]
    fn the_program_is_named() {
        let events = vec![event("xdp:xdp_exception", "ABORTED", 30)];
        let report = diagnose(&evidence(&[], events), &Thresholds::default());
        let object = report.findings[0].site.object.as_deref();
        assert_eq!(object, Some("XDP program filter (id 77) on veth0"));
    }
}
