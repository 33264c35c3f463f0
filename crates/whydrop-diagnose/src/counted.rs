//! What counters of a protocol say was lost, and the tracer did not see.
//!
//! Rules start from traced drops and set the counters against them. That leaves nothing where every
//! drop was traced, and all of it where there is no tracer; in between, kernels free a packet without
//! passing the tracepoint now and then: Linux 6.18 has been seen to let the first fragments of 30
//! datagrams time out (`ip6_frag_expire`, counted and answered by ICMP) without one `skb:kfree_skb`.

use whydrop_model::{
    Attach, Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::{causes, command, remainder};

/// A counter of which each step is one packet, and what lost it.
struct Meaning {
    counter: &'static str,
    /// Cause and variant; `None` if several causes move it. Where there is a tracer, rules know which,
    /// and not each of them books it.
    of: Option<(&'static str, Option<&'static str>)>,
}

const fn lost(counter: &'static str, cause: &'static str, variant: &'static str) -> Meaning {
    Meaning { counter, of: Some((cause, Some(variant))) }
}

const fn lost_by(counter: &'static str, cause: &'static str) -> Meaning {
    Meaning { counter, of: Some((cause, None)) }
}

const fn lost_somehow(counter: &'static str) -> Meaning {
    Meaning { counter, of: None }
}

/// Names as in `/proc/net/snmp`, `snmp6` and `netstat` (`net/ipv4/proc.c`, `net/ipv6/proc.c`, 6.18).
/// Counters that also move without a loss, or with another one of this list, are not here.
const MEANINGS: &[Meaning] = &[
    lost_somehow("Ip.InHdrErrors"),
    lost_somehow("snmp6.Ip6InHdrErrors"),
    lost_somehow("Ip.InAddrErrors"),
    lost_somehow("snmp6.Ip6InAddrErrors"),
    lost_somehow("Ip.InUnknownProtos"),
    lost_somehow("snmp6.Ip6InUnknownProtos"),
    lost("IpExt.InNoRoutes", "no-route-forwarding", "ipv4"),
    lost_by("Ip.ReasmTimeout", "fragment-timeout"),
    lost_by("snmp6.Ip6ReasmTimeout", "fragment-timeout"),
    lost("Icmp.InCsumErrors", "bad-checksum", "icmp"),
    lost("Tcp.InCsumErrors", "bad-checksum", "tcp"),
    lost_by("Udp.NoPorts", "udp-port-closed"),
    lost_by("snmp6.Udp6NoPorts", "udp-port-closed"),
    lost("TcpExt.TCPMD5NotFound", "tcp-signature-mismatch", "md5-missing"),
    lost("TcpExt.TCPMD5Unexpected", "tcp-signature-mismatch", "md5-unexpected"),
    lost("TcpExt.TCPMD5Failure", "tcp-signature-mismatch", "md5-failure"),
    lost_by("TcpExt.TCPMinTTLDrop", "tcp-minttl-drop"),
    lost("TcpExt.TSEcrRejected", "tcp-timestamp-rejected", "tsecr"),
];

/// Books what is left of these counters when all rules have had their turn.
pub(crate) fn book(case: &mut Case<'_>) {
    let traced = case.evidence().tracer.attach != Attach::None;
    for namespace in case.namespaces() {
        // Traced drops that no rule knows may be what was counted: they are told by themselves.
        let open = case.open().filter(|one| one.total.netns.is_none_or(|it| it == namespace.inode));
        let mut open: u64 = open.map(|one| one.packets).sum();
        for meaning in MEANINGS.iter().filter(|meaning| meaning.of.is_some() || !traced) {
            let left = case.unbooked(namespace, meaning.counter).unwrap_or(0);
            let left = left.saturating_sub(unplaced(case, meaning));
            let told = left.min(open);
            open -= told;
            let left = left - told;
            if left == 0 {
                continue;
            }
            case.book(namespace, meaning.counter, left);
            if let Some((cause, variant)) = meaning.of {
                conclude(case, namespace, meaning.counter, (cause, variant), left);
            } else {
                let object = Some(meaning.counter.into());
                let site = Site { object, ..case.site_of(Some(namespace.inode)) };
                remainder::only_counted(case, site, left, meaning.counter);
            }
        }
    }
}

/// Packets of this cause that were traced without a namespace: they may be those that this one counted.
fn unplaced(case: &Case<'_>, meaning: &Meaning) -> u64 {
    let of = |cause: &str| meaning.of.is_none_or(|(of, _)| of == cause);
    let entries = case.entries().iter().filter(|one| one.site.netns.is_none() && of(&one.cause));
    entries.map(|one| one.traced).sum()
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    counter: &'static str,
    (cause, variant): (&'static str, Option<&'static str>),
    packets: u64,
) {
    let untraced = EvidenceItem::new(EvidenceKind::State, "of these seen by no tracer", packets);
    if case.enlarge(cause, namespace.inode, Loss::counted(packets), &untraced) {
        return;
    }
    let grown =
        EvidenceItem::new(EvidenceKind::Counter, counter, namespace.delta(counter).unwrap_or(0));
    let meaning = causes::find(cause).map_or("", |cause| cause.meaning);
    case.conclude(
        cause,
        Conclusion {
            variant,
            severity: Severity::Notice,
            confidence: Confidence::Likely,
            loss: Loss::counted(packets),
            site: case.site_of(Some(namespace.inode)),
            summary: format!(
                "{meaning} Known by {counter} alone, which tells no address or device"
            ),
            evidence: vec![grown, untraced],
            remedies: vec![trace(case, namespace, cause)],
        },
    );
}

/// How to learn what a counter does not tell.
fn trace(case: &Case<'_>, namespace: &Namespace, cause: &str) -> Remedy {
    let within = command::of_netns(Some(namespace));
    let summary = if case.evidence().tracer.attach == Attach::None {
        "Let the tracer see who sends them where: run it as root, or with CAP_BPF and CAP_PERFMON"
    } else {
        "Watch for the next ones: those that the tracer sees have addresses and a device"
    };
    Remedy {
        summary: summary.into(),
        commands: vec![format!("whydrop diagnose{within}"), format!("whydrop explain {cause}")],
        useless: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Attach, Evidence, Report};

    use crate::{Thresholds, UNEXPLAINED, diagnose, sample};

    fn report(evidence: &Evidence) -> Report {
        diagnose(evidence, &Thresholds::default())
    }

    /// A namespace in which this counter grew by 30, and in which this many timeouts were traced.
    fn grown(counter: &str, traced: u64) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, counter, 30);
        if traced > 0 {
            let total = sample::total("FRAG_REASM_TIMEOUT", "ip6_frag_expire", traced);
            evidence.tracer.totals = vec![total];
        }
        evidence
    }

    #[test]
    fn without_a_tracer_the_counter_tells() {
        let mut evidence = grown("Udp.NoPorts", 0);
        evidence.tracer.attach = Attach::None;
        let report = report(&evidence);
        let found = &report.findings[0];
        assert_eq!((found.cause.as_str(), found.packets), ("udp-port-closed", 30));
        assert!(found.remedies[0].summary.contains("root"), "{found:#?}");
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 0));
    }

    #[test]
    fn a_timeout_that_was_not_traced_is_counted_with_the_others() {
        for traced in [0, 14, 30] {
            let report = report(&grown("snmp6.Ip6ReasmTimeout", traced));
            let found: Vec<_> =
                report.findings.iter().map(|it| (it.cause.as_str(), it.packets)).collect();
            assert_eq!(found, [("fragment-timeout", 30)], "{traced} traced");
            let entry = &report.ledger.entries[0];
            assert_eq!((entry.packets, entry.traced, entry.counted), (30, traced, 30));
        }
    }

    #[test]
    fn what_was_traced_without_a_place_is_not_counted_twice() {
        let mut evidence = grown("snmp6.Ip6ReasmTimeout", 30);
        evidence.tracer.totals[0].netns = None;
        assert_eq!(report(&evidence).ledger.lost, 30);
    }

    #[test]
    fn a_drop_that_no_rule_knows_may_be_what_was_counted() {
        let mut evidence = grown("Udp.NoPorts", 0);
        evidence.tracer.totals = vec![sample::total("NO_SOCKET", "", 20)];
        let ledger = report(&evidence).ledger;
        assert_eq!((ledger.lost, ledger.explained, ledger.unexplained), (30, 10, 20));
    }

    #[test]
    fn what_several_causes_count_is_unexplained() {
        let mut evidence = grown("Ip.InHdrErrors", 0);
        assert_eq!(report(&evidence).ledger.lost, 0, "the tracer would have seen it");
        evidence.tracer.attach = Attach::None;
        let report = report(&evidence);
        assert_eq!(report.findings[0].cause, UNEXPLAINED);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 30));
    }
}
