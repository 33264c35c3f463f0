//! An IPsec policy forbids the packet, or wants it protected and it is not.
//!
//! Received: `XFRM_POLICY` where the policy is checked (`udp_queue_rcv_one_skb`, `tcp_v4_rcv`,
//! `ip_forward`, 6.18), with `XfrmInPolBlock` (blocked), `XfrmInNoPols` or `XfrmInTmplMismatch` (clear
//! text where IPsec is required). For a port that nobody has open the check comes after the look for a
//! socket, so that a segment is freed as `NO_SOCKET`, a datagram without a reason: those are ours as
//! far as the counters go. Sent: the call fails with EPERM before there is a packet, and
//! `XfrmOutPolBlock` alone counts it.

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site,
};

use crate::case::{self, Case, Claim, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced;

/// See the module.
pub(super) struct XfrmPolicyBlock;

const ID: &str = "xfrm-policy-block";

const CHECKED: Signature = drops("XFRM_POLICY", "*");
/// What a closed port looks like to the check.
const CLOSED: &[Signature] = &[
    drops("NO_SOCKET", "tcp_v4_rcv"),
    drops("NO_SOCKET", "tcp_v6_rcv"),
    Signature { when: unicast, ..drops("NOT_SPECIFIED", "__udp4_lib_rcv") },
    Signature { when: unicast, ..drops("NOT_SPECIFIED", "__udp6_lib_rcv") },
];
/// Counters of refused packets, with what each means.
const IN: [(&str, &str); 4] = [
    ("xfrm.XfrmInPolBlock", "blocks them"),
    ("xfrm.XfrmInTmplMismatch", "wants them protected, and they come in clear text"),
    ("xfrm.XfrmInNoPols", "is needed to let them in, and there is none"),
    ("xfrm.XfrmInPolError", "could not be looked up for them"),
];
const OUT: &str = "xfrm.XfrmOutPolBlock";

fn unicast(total: &DropTotal) -> bool {
    !total.marks.multicast
}

impl Rule for XfrmPolicyBlock {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let mut claims = case::by_netns(case.claim(|total| CHECKED.matches(total)));
        for namespace in case.namespaces() {
            let mut here = claims.remove(&Some(namespace.inode)).unwrap_or_default();
            let counted: u64 =
                IN.iter().map(|(name, _)| namespace.delta(name).unwrap_or_default()).sum();
            let rest = counted.saturating_sub(case::packets(&here));
            here.extend(case.claim_up_to(rest, |total| {
                total.netns == Some(namespace.inode) && CLOSED.iter().any(|one| one.matches(total))
            }));
            received(case, here);
            sent(case, namespace);
        }
        // Of namespaces that are not among the evidence only the trace is known.
        received(case, claims.into_values().flatten().collect());
    }
}

fn received(case: &mut Case<'_>, claims: Vec<Claim<'_>>) {
    for group in traced::gather(case, claims) {
        let grown: Vec<_> = IN
            .iter()
            .filter(|(name, _)| group.namespace.and_then(|it| it.delta(name)).unwrap_or(0) > 0)
            .collect();
        let names: Vec<_> = grown.iter().map(|(name, _)| *name).collect();
        let why = match grown.as_slice() {
            [(_, why)] => why,
            _ => "blocks them or wants them protected",
        };
        let counters = group.counters(&names);
        let from = group.sources();
        let conclusion = Conclusion {
            variant: Some("in"),
            severity: Severity::Notice,
            confidence: group.confidence(&counters),
            loss: group.loss(case, &names),
            site: group.site_at_socket(case, Some("IPsec policy, direction in".into())),
            summary: format!("Packets from {from} are refused: an IPsec policy {why}"),
            evidence: group.proof().into_iter().chain(counters).collect(),
            remedies: vec![remedy(group.namespace, "in")],
        };
        case.conclude(ID, conclusion);
    }
}

/// What local programs were forbidden to send.
fn sent(case: &mut Case<'_>, namespace: &Namespace) {
    let refused = case.unbooked(namespace, OUT).unwrap_or(0);
    if refused == 0 {
        return;
    }
    case.book(namespace, OUT, refused);
    let conclusion = Conclusion {
        variant: Some("out"),
        severity: Severity::Notice,
        confidence: Confidence::Confirmed,
        loss: Loss::counted(refused),
        site: Site {
            object: Some("IPsec policy, direction out".into()),
            ..case.site_of(Some(namespace.inode))
        },
        summary:
            "Local programs may not send: an IPsec policy blocks it, and their calls fail with \
                  EPERM"
                .into(),
        evidence: vec![EvidenceItem::new(EvidenceKind::Counter, OUT, refused)],
        remedies: vec![remedy(Some(namespace), "out")],
    };
    case.conclude(ID, conclusion);
}

fn remedy(namespace: Option<&Namespace>, direction: &str) -> Remedy {
    let list = namespace.and_then(|here| command::within(here, "ip -s xfrm policy"));
    Remedy {
        summary: format!(
            "If this traffic is wanted, delete or correct the policy where it is managed (strongSwan, \
             Libreswan, a container network; by hand `ip xfrm policy delete src ... dst ... dir \
             {direction}`), or bring up the tunnel that it asks for. Without it the traffic is in clear \
             text"
        ),
        commands: list.into_iter().collect(),
        useless: vec!["the packet filter: this is another set of rules".into()],
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_closed_port_under_a_policy_is_the_policys_as_far_as_it_counts() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "xfrm.XfrmInPolBlock", 34);
        let mut syn = sample::total("NO_SOCKET", "tcp_v4_rcv", 7);
        syn.marks.syn = true;
        evidence.tracer.totals =
            vec![syn, sample::total("XFRM_POLICY", "udp_queue_rcv_one_skb", 32)];
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> =
            report.findings.iter().map(|one| (one.cause.as_str(), one.packets)).collect();
        assert_eq!(told, [("xfrm-policy-block", 34), ("tcp-port-closed", 5)]);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (39, 0));
    }

    #[test]
    fn what_may_not_be_sent_is_only_counted() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "xfrm.XfrmOutPolBlock", 30);
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.variant.as_deref(), finding.packets), (Some("out"), 30));
        assert_eq!(report.ledger.lost, 30);
    }

    #[test]
    fn a_closed_port_without_a_policy_is_a_closed_port() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NO_SOCKET", "__udp4_lib_rcv", 7)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "udp-port-closed");
    }
}
