//! Connection tracking has no room for another entry.
//!
//! `nf_conntrack_alloc` (`net/netfilter/nf_conntrack_core.c`, 6.18) refuses an entry beyond
//! `nf_conntrack_max` if no entry near it may be thrown out early, and `nf_conntrack_in` drops the packet
//! and counts `nf_conntrack.drop`. Look-alikes: a tuple that is taken counts the same and
//! `insert_failed` beside it; want of memory counts the same while there are few entries.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::conntrack::{self, Refused};
use crate::rule::Rule;
use crate::{command, traced};

/// See the module.
pub(super) struct ConntrackTableFull;

const ID: &str = "conntrack-table-full";

impl Rule for ConntrackTableFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let refused = Refused::of(namespace).no_entry;
            if refused > 0 {
                conclude(case, namespace, refused);
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, refused: u64) {
    let claims = conntrack::claim(case, namespace, refused);
    let traced = packets(&claims);
    let group = traced::gather(case, claims).into_iter().next();
    let mut evidence = group.as_ref().map(traced::Group::proof).unwrap_or_default();
    let counter = |name: &str, value| EvidenceItem::new(EvidenceKind::Counter, name, value);
    evidence.push(counter("nf_conntrack.drop", refused));
    let early = namespace.delta("nf_conntrack.early_drop").unwrap_or(0);
    if early > 0 {
        evidence.push(counter("nf_conntrack.early_drop", early));
    }
    evidence.extend(conntrack::fill_item(namespace));
    let fill = conntrack::fill(namespace);
    // At nine tenths the table was full shortly before, or will be.
    let full =
        fill.is_some_and(|(entries, most)| entries.saturating_mul(10) >= most.saturating_mul(9));
    let most = fill.map_or("nf_conntrack_max entries".into(), |(_, most)| {
        format!("{most} entries (net.netfilter.nf_conntrack_max)")
    });
    let object = "net.netfilter.nf_conntrack_max";
    let variant = variant(case, namespace);
    if let Some(flows) = &namespace.tracked_flows {
        let name = "of the entries read: half open or unanswered, established";
        let shares = format!("{} and {} of {}", flows.half_open, flows.established, flows.seen);
        evidence.push(EvidenceItem::new(EvidenceKind::State, name, shares));
    }
    let conclusion = Conclusion {
        variant,
        severity: Severity::Critical,
        confidence: match (full, early > 0) {
            (true, _) => Confidence::Confirmed,
            (false, true) => Confidence::Likely,
            (false, false) => Confidence::Possible,
        },
        loss: Loss { packets: refused, traced, counted: refused },
        site: match &group {
            Some(group) => group.site(case, Some(object.into())),
            None => whydrop_model::Site {
                object: Some(object.into()),
                ..case.site_of(Some(namespace.inode))
            },
        },
        summary: format!(
            "Connection tracking is full at {most}: packets of new connections are dropped, known ones \
             work"
        ),
        evidence,
        remedies: vec![remedy(namespace, fill, variant)],
    };
    case.conclude(ID, conclusion);
}

/// What the table is full of.
fn variant(case: &Case<'_>, namespace: &Namespace) -> Option<&'static str> {
    let flows = namespace.tracked_flows.as_ref().filter(|flows| flows.seen > 0)?;
    let timeout = namespace
        .sysctl("net.netfilter.nf_conntrack_tcp_timeout_established")
        .and_then(|seconds| u64::try_from(seconds).ok());
    // A packet sets the timeout anew, so what is gone of it is how long nothing came.
    let idle = timeout.map_or(0, |timeout| timeout.saturating_sub(flows.established_left));
    let most = |part: u32| part > flows.seen / 2;
    Some(if most(flows.half_open) {
        "flood"
    } else if most(flows.established) && idle as f64 >= case.thresholds().conntrack_idle_seconds {
        "leak"
    } else {
        "load"
    })
}

fn remedy(
    namespace: &Namespace,
    fill: Option<(u64, u64)>,
    variant: Option<&'static str>,
) -> Remedy {
    let leak = "Most entries are connections that have been idle for long: shorten \
                net.netfilter.nf_conntrack_tcp_timeout_established (5 days by default) in this namespace; \
                it ends the translation of connections that are idle for longer";
    let flood = "Most entries are handshakes or datagrams that nobody answered, a flood or a scan: filter \
                 that traffic before it is tracked, or exempt it with `notrack`";
    let load = "The entries are live: raise the limit to 1.5 x new connections per second x their \
                lifetime, in the initial network namespace, and the buckets with it";
    let within = |line: &str| command::within(namespace, line).into_iter().collect::<Vec<_>>();
    // Only the initial namespace has it writable, and it holds for each namespace on its own.
    let raise = fill.map(|(_, most)| {
        let twice = most.saturating_mul(2);
        format!(
            "sysctl -w net.netfilter.nf_conntrack_max={twice} net.netfilter.nf_conntrack_buckets={most}"
        )
    });
    let (summary, commands) = match variant {
        Some("leak") => {
            let shorten = "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=86400";
            (leak.to_owned(), within(shorten))
        }
        Some("flood") => (flood.to_owned(), within("conntrack -L -o extended")),
        Some(_) => (load.to_owned(), raise.into_iter().collect()),
        None => {
            let mut commands = within("conntrack -L -o extended");
            commands.extend(raise);
            (format!("Look first at what fills it. {leak}. {flood}. {load}"), commands)
        }
    };
    Remedy {
        summary,
        commands,
        useless: vec![
            "raising it inside a container: there it is read-only".into(),
            "nf_conntrack_max without nf_conntrack_buckets: every look-up becomes slower".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, Evidence, Pair, TrackedFlows};

    use crate::{Thresholds, diagnose, sample};

    fn refused(entries: u64, dropped: u64, traced: u64) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "nf_conntrack.drop", dropped);
        let namespace = &mut evidence.namespaces[0];
        let gauge = Pair { before: 0, after: entries };
        namespace.gauges.insert("nf_conntrack.entries".into(), gauge);
        namespace.sysctls.insert("net.netfilter.nf_conntrack_max".into(), "1000".into());
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nf_hook_slow", traced)];
        evidence
    }

    #[test]
    fn the_counter_and_the_trace_are_one_loss() {
        let report = diagnose(&refused(1000, 104, 104), &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), (super::ID, 104));
        assert_eq!(finding.confidence, Confidence::Confirmed);
        assert_eq!((report.ledger.lost, report.findings.len()), (104, 1));
    }

    #[test]
    fn what_the_counter_does_not_cover_is_not_conntrack() {
        let report = diagnose(&refused(1000, 4, 104), &Thresholds::default());
        let told: Vec<_> =
            report.findings.iter().map(|one| (one.cause.as_str(), one.packets)).collect();
        assert_eq!(told, [(super::ID, 4), ("netfilter-rule-drop", 100)]);
    }

    #[test]
    fn the_entries_decide_the_variant() {
        let mut evidence = refused(1000, 4, 4);
        let mut variant = |half_open, established, established_left| {
            let namespace = &mut evidence.namespaces[0];
            let name = "net.netfilter.nf_conntrack_tcp_timeout_established";
            namespace.sysctls.insert(name.into(), "432000".into());
            namespace.tracked_flows =
                Some(TrackedFlows { seen: 100, half_open, established, established_left });
            diagnose(&evidence, &Thresholds::default()).findings.remove(0).variant
        };
        assert_eq!(variant(60, 10, 400_000).as_deref(), Some("flood"));
        assert_eq!(variant(10, 80, 100_000).as_deref(), Some("leak"));
        assert_eq!(variant(10, 80, 431_900).as_deref(), Some("load"));
    }

    #[test]
    fn a_table_with_room_is_only_possibly_full() {
        let report = diagnose(&refused(500, 104, 104), &Thresholds::default());
        assert_eq!(report.findings[0].confidence, Confidence::Possible);
    }
}
