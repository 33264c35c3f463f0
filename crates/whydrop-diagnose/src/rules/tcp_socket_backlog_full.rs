//! A socket stayed locked by its owner while data flooded in, and its backlog ran over.
//!
//! While a thread is inside a call on the socket, segments are parked (`tcp_add_backlog()`,
//! `net/ipv4/tcp_ipv4.c`, 6.18), up to twice the receive buffer, half the send buffer and 64 KiB.
//! `SOCKET_BACKLOG` and `TCPBacklogDrop` count the same segments. What then lies beyond the window,
//! because those before were dropped, is another cause and told apart.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group};

/// See the module.
pub(super) struct TcpSocketBacklogFull;

const ID: &str = "tcp-socket-backlog-full";
const COUNTER: &str = "TcpExt.TCPBacklogDrop";

impl Rule for TcpSocketBacklogFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let mut groups = traced::take(case, &[drops("SOCKET_BACKLOG", "*")]);
        for namespace in case.namespaces() {
            let at = groups.iter().position(|group| group.netns == Some(namespace.inode));
            let group = at.map(|at| groups.swap_remove(at));
            let counted = case.unbooked(namespace, COUNTER).unwrap_or(0);
            case.book(namespace, COUNTER, counted);
            let site = case.site_of(Some(namespace.inode));
            conclude(case, site, group.as_ref(), counted);
        }
        // Of namespaces that are not among the evidence only the trace is known.
        for group in groups {
            conclude(case, group.site(case, None), Some(&group), 0);
        }
    }
}

fn conclude(case: &mut Case<'_>, site: Site, group: Option<&Group<'_>>, counted: u64) {
    let traced = group.map_or(0, |group| group.packets);
    let packets = traced.max(counted);
    if packets == 0 {
        return;
    }
    let holder = group.and_then(Group::holder);
    let owner = holder.map_or("A program".into(), |holder| holder.owner());
    let mut evidence = group.map(Group::proof).unwrap_or_default();
    if counted > 0 {
        evidence.push(EvidenceItem::new(EvidenceKind::Counter, COUNTER, counted));
    }
    let namespace = site.netns.as_ref().and_then(|it| case.evidence().namespace(it.inode?));
    let look = namespace.and_then(|it| command::within(it, "ss -tnmp"));
    let site = Site { object: Some("program that holds the socket".into()), ..site };
    case.conclude(
        ID,
        Conclusion {
            variant: None,
            severity: Severity::Critical,
            confidence: if counted > 0 { Confidence::Confirmed } else { Confidence::Likely },
            loss: Loss { packets, traced, counted },
            site: holder.map_or(site.clone(), |holder| holder.at(site)),
            summary: format!(
                "{owner} stays inside a call on its TCP socket so long that what arrives meanwhile is \
                 thrown away"
            ),
            evidence,
            remedies: vec![Remedy {
                summary: "Give that program CPU (quota, priority, pinned threads) and buffers that need \
                          not be paged in: memory limits, swap and file mappings hold it inside the call. \
                          Without SO_RCVBUF the kernel sizes buffer and backlog itself"
                    .into(),
                commands: look.into_iter().collect(),
                useless: vec![
                    "net.core.netdev_max_backlog and listen backlogs: they are other queues".into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use whydrop_model::Confidence;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn a_counter_alone_will_do() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.TCPBacklogDrop", 5);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (5, 0));
    }

    #[test]
    fn counter_and_trace_are_one_loss() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("SOCKET_BACKLOG", "tcp_v4_rcv", 255)];
        let likely = diagnose(&evidence, &Thresholds::default());
        assert_eq!(likely.findings[0].confidence, Confidence::Likely);
        sample::count(&mut evidence, "TcpExt.TCPBacklogDrop", 260);
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].confidence, Confidence::Confirmed);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (260, 0));
    }
}
