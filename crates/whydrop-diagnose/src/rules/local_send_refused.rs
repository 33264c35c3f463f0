//! A local program's packets had no route: it got an error, and there never was a packet.
//!
//! `Ip.OutNoRoutes` (`ip_route_output_key_hash_rcu()`, `net/ipv4/route.c`) and `Ip6OutNoRoutes`
//! (`ip6_dst_lookup_tail()`, `net/ipv6/ip6_output.c`, 6.18) count the look-ups that failed; the program
//! sees ENETUNREACH. A route that discards (EINVAL, EHOSTUNREACH, EACCES) and a datagram that is too
//! large (EMSGSIZE) move no counter at all. Nothing was lost, so nothing is booked.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct LocalSendRefused;

const ID: &str = "local-send-refused";

const COUNTERS: [(&str, &str, &str); 2] =
    [("IPv4", "ip route", "Ip.OutNoRoutes"), ("IPv6", "ip -6 route", "snmp6.Ip6OutNoRoutes")];

impl Rule for LocalSendRefused {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (family, ip, counter) in COUNTERS {
                // Sockets and tunnels that lost their route on the way have drops to show.
                let grown = case.unbooked(namespace, counter).unwrap_or(0);
                let dropped = dropped(case, namespace, family);
                let refused = grown.saturating_sub(dropped);
                if refused > 0 {
                    conclude(case, namespace, (family, ip, counter), refused);
                }
            }
        }
    }
}

/// Packets of this family that were dropped for want of a route on their way out.
fn dropped(case: &Case<'_>, namespace: &Namespace, family: &str) -> u64 {
    let ethertype = if family == "IPv6" { 0x86dd } else { 0x0800 };
    let totals = case.evidence().tracer.totals.iter().filter(|total| {
        total.netns == Some(namespace.inode)
            && total.reason == "IP_OUTNOROUTES"
            && total.l3 == ethertype
    });
    totals.map(|total| total.packets).sum()
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    (family, ip, counter): (&str, &str, &'static str),
    refused: u64,
) {
    let version = if family == "IPv6" { "ipv6" } else { "ipv4" };
    let defaults = namespace.routes.as_ref().map(|routes| {
        let same = |address: std::net::IpAddr| address.is_ipv6() == (family == "IPv6");
        routes.defaults.iter().filter(|route| same(route.destination)).count()
    });
    let mut evidence = vec![EvidenceItem::new(EvidenceKind::Counter, counter, refused)];
    if let Some(count) = defaults {
        let name = format!("default routes ({version})");
        evidence.push(EvidenceItem::new(EvidenceKind::State, name, count as u64));
    }
    let without = if defaults == Some(0) { " (there is no default route)" } else { "" };
    let conclusion = Conclusion {
        variant: Some("no-route"),
        severity: Severity::Notice,
        confidence: Confidence::Confirmed,
        loss: Loss::default(),
        site: whydrop_model::Site {
            object: Some(format!("{family} routes")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "Local programs had no {family} route to where they wanted to send{without}: their calls \
             failed {refused} times with ENETUNREACH"
        ),
        evidence,
        remedies: vec![Remedy {
            summary: format!(
                "Add the missing route (`{ip} add PREFIX via GATEWAY`) or bring the device up that had \
                 it. Nothing is to be done where programs only try {family} before the other family"
            ),
            commands: command::within(namespace, ip).into_iter().collect(),
            useless: vec!["the packet filter and buffers: there never was a packet".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::Verdict;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn errors_at_the_sender_are_told_and_no_loss() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.OutNoRoutes", 30);
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("local-send-refused", 0));
        assert_eq!((report.ledger.lost, report.verdict), (0, Verdict::Clean));
    }

    #[test]
    fn a_dropped_packet_was_no_refused_call() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.OutNoRoutes", 30);
        evidence.tracer.totals = vec![sample::total("IP_OUTNOROUTES", "__ip_queue_xmit", 30)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|one| one.cause != "local-send-refused"));
    }
}
