//! A client has no local port left for its destination.
//!
//! Every connection to one remote end needs its own port of `net.ipv4.ip_local_port_range` (for each
//! local address); without one `connect()` fails with EADDRNOTAVAIL (`__inet_hash_connect()`,
//! `net/ipv4/inet_hashtables.c`, 6.18) before there is a packet. Nothing counts that: it is told by the
//! ports in use when the window closes. TIME_WAIT holds its port too, unless `tcp_tw_reuse` gives it to
//! the next connection (`tcp_twsk_unique()`).

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Namespace, PortUse, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct EphemeralPortsExhausted;

const ID: &str = "ephemeral-ports-exhausted";
const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
/// What the range is widened to.
const WIDE: (u32, u32) = (10_240, 65_535);

impl Rule for EphemeralPortsExhausted {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let Some(range) = range(namespace) else { continue };
            let usable = (range.1 - range.0 + 1).saturating_sub(reserved(namespace, range));
            for one in &namespace.local_ports {
                // Those that are in TIME_WAIT become free while one looks, and a port that a program
                // bound is nobody else's: the last few need not show.
                let busy = busy(namespace, one);
                if busy > 0 && busy >= usable - usable / 20 {
                    conclude(case, namespace, one, (busy, usable), range);
                }
            }
        }
    }
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    one: &PortUse,
    (busy, usable): (u32, u32),
    range: (u32, u32),
) {
    let full = busy >= usable;
    let to = one.remote.address;
    let to = match one.remote.port {
        Some(port) if to.is_ipv6() => format!("[{to}]:{port}"),
        Some(port) => format!("{to}:{port}"),
        None => to.to_string(),
    };
    let state = |name: &str, value| EvidenceItem::new(EvidenceKind::State, name, u64::from(value));
    let wide = (range.0.min(WIDE.0), WIDE.1);
    let (cure, line) = if wide == range {
        (
            "The range is as wide as it gets: have the client keep and reuse its connections (pool, \
             keep-alive), or give the service or the client more addresses"
                .to_owned(),
            None,
        )
    } else {
        let (first, last) = wide;
        (
            format!(
                "Have the client keep and reuse its connections (pool, keep-alive); at once it helps to widen \
                 {RANGE}. List ports of local services from {first} on in {RESERVED} first"
            ),
            Some(format!("sysctl -w {RANGE}=\"{first} {last}\"")),
        )
    };
    let commands = line.and_then(|line| command::within(namespace, &line));
    let conclusion = Conclusion {
        variant: None,
        severity: if full { Severity::Warning } else { Severity::Notice },
        confidence: if full { Confidence::Confirmed } else { Confidence::Likely },
        loss: Loss::default(),
        site: Site {
            object: Some(format!("sysctl {RANGE}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "{busy} of {usable} local ports are taken by connections from {} to {to}: without a free one \
             connect() fails (EADDRNOTAVAIL)",
            one.local
        ),
        evidence: vec![
            state(&format!("local ports in use to {to}"), one.ports),
            state("of them in TIME_WAIT", one.time_wait),
            state(&format!("ports of {RANGE}"), usable),
        ],
        remedies: vec![Remedy {
            summary: cure,
            commands: commands.into_iter().collect(),
            useless: vec![
                "net.ipv4.tcp_fin_timeout: it does not shorten TIME_WAIT".into(),
                "somaxconn, or the limit of open files: neither gives ports".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

/// Ports that a new connection cannot have.
fn busy(namespace: &Namespace, one: &PortUse) -> u32 {
    let reused = match namespace.sysctl("net.ipv4.tcp_tw_reuse") {
        Some(1) => true,
        Some(2) => one.local.is_loopback() || one.remote.address.is_loopback(),
        _ => false,
    };
    if reused { one.ports.saturating_sub(one.time_wait) } else { one.ports }
}

/// First and last port.
fn range(namespace: &Namespace) -> Option<(u32, u32)> {
    let mut ends = namespace.sysctls.get(RANGE)?.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    (first <= last).then_some((first.into(), last.into()))
}

/// How many ports of the range are kept from clients: `8080,9000-9010`.
fn reserved(namespace: &Namespace, (first, last): (u32, u32)) -> u32 {
    let text = namespace.sysctls.get(RESERVED).map_or("", String::as_str);
    let within = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from = from.trim().parse::<u32>().ok()?.max(first);
        let to = to.trim().parse::<u32>().ok()?.min(last);
        (to + 1).checked_sub(from)
    };
    text.split(',').filter_map(within).sum()
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Endpoint, Evidence, PortUse};

    use crate::{Thresholds, diagnose, sample};

    fn evidence(ports: u32, time_wait: u32) -> Evidence {
        let mut evidence = sample::evidence();
        let namespace = &mut evidence.namespaces[0];
        namespace.sysctls.insert(super::RANGE.into(), "20000\t20099".into());
        namespace.local_ports = vec![PortUse {
            local: "192.0.2.1".parse().unwrap(),
            remote: Endpoint { address: "192.0.2.2".parse().unwrap(), port: Some(443) },
            ports,
            time_wait,
        }];
        evidence
    }

    fn summaries(evidence: &Evidence) -> Vec<String> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.lost, 0);
        report.findings.into_iter().map(|finding| finding.summary).collect()
    }

    #[test]
    fn a_range_that_is_used_up_is_told_with_its_destination() {
        let found = summaries(&evidence(100, 90));
        assert!(found[0].starts_with("100 of 100 local ports"), "{found:?}");
        assert!(found[0].contains("192.0.2.2:443"), "{found:?}");
        assert!(summaries(&evidence(94, 94)).is_empty());
    }

    #[test]
    fn reserved_ports_are_nobodys_and_those_at_rest_may_be_reused() {
        let mut evidence = evidence(90, 50);
        assert!(summaries(&evidence).is_empty());
        let sysctls = &mut evidence.namespaces[0].sysctls;
        sysctls.insert(super::RESERVED.into(), "8080,20010-20018,20099-30000".into());
        assert!(summaries(&evidence)[0].starts_with("90 of 90"));
        let sysctls = &mut evidence.namespaces[0].sysctls;
        sysctls.insert("net.ipv4.tcp_tw_reuse".into(), "1".into());
        assert!(summaries(&evidence).is_empty());
    }
}
