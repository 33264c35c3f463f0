//! A sender's own socket buffer was full: the datagram was refused (EAGAIN) before it was a packet.
//!
//! `udp_sendmsg` (`net/ipv4/udp.c`, 6.18) counts `Udp.SndbufErrors` for ENOBUFS and where the socket says
//! that it has no space; it does so too for datagrams that the queue of the device, a filter or the
//! peer's end of a veth refused later, which the tracer sees. What is left were no packets.

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct UdpSendBufferFull;

const ID: &str = "udp-send-buffer-full";
const COUNTERS: [&str; 2] = ["Udp.SndbufErrors", "snmp6.Udp6SndbufErrors"];
const UDP: u8 = 17;

impl Rule for UdpSendBufferFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let errors = COUNTERS.map(|name| case.unbooked(namespace, name).unwrap_or(0));
            let refused = errors.iter().sum::<u64>();
            let left = refused.saturating_sub(later(case, namespace));
            if left > 0 {
                conclude(case, namespace, (refused, left));
            }
        }
    }
}

/// Datagrams refused once they were packets.
fn later(case: &Case<'_>, namespace: &Namespace) -> u64 {
    let sent = |total: &DropTotal| {
        let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
        // Fragments are not looked at for their protocol.
        total.netns == Some(namespace.inode)
            && total.l4.is_none_or(|l4| l4 == UDP)
            && !symbol.contains("rcv")
            && !symbol.contains("receive")
            && !symbol.contains("input")
    };
    let traced: u64 =
        case.evidence().tracer.totals.iter().filter(|it| sent(it)).map(|it| it.packets).sum();
    // A device counts those that its driver, or the other end of a veth, refused.
    let dropped =
        |link: &whydrop_model::Link| link.stats.get("tx_dropped").map_or(0, |it| it.delta());
    traced.max(namespace.links.iter().map(dropped).sum())
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, (refused, left): (u64, u64)) {
    let counter = |name: &str, value| EvidenceItem::new(EvidenceKind::Counter, name, value);
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Notice,
        confidence: Confidence::Likely,
        loss: Loss::default(),
        site: Site {
            object: Some("SO_SNDBUF of the sending program".into()),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "{left} datagrams were refused to their sender (EAGAIN), because its socket's send buffer was \
             full; they were never packets"
        ),
        evidence: vec![
            counter("Udp.SndbufErrors", refused),
            EvidenceItem::new(EvidenceKind::State, "of these, dropped later on", refused - left),
        ],
        remedies: vec![Remedy {
            summary:
                "Let the program wait until its socket is writable, or pace it; a larger SO_SNDBUF \
                      only absorbs short bursts"
                    .into(),
            commands: command::within(namespace, "ss -uanmp").into_iter().collect(),
            useless: vec!["net.core.wmem_max: the link does not become faster".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn what_was_dropped_later_was_not_refused_by_the_socket() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.SndbufErrors", 95);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings[0].cause.as_str(), report.findings[0].packets), (super::ID, 0));
        let mut queued = sample::total("TC_EGRESS", "__dev_queue_xmit", 95);
        queued.l4 = Some(17);
        evidence.tracer.totals = vec![queued];
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|one| one.cause != super::ID));
    }
}
