//! Received TCP data was thrown away because the socket's receive buffer is too small.
//!
//! Data inside the window did not fit, since the packets that hold it take more memory than it does;
//! after merging and pruning (`tcp_prune_queue()`, `net/ipv4/tcp_input.c`, 6.18) it is dropped as
//! `PROTO_MEM`, or pruned from the out-of-order queue. Limits beyond the socket say so by the tracepoint
//! `sock:sock_exceed_buf_limit` and are other causes.

use whydrop_model::{Remedy, Severity};

use crate::case::{Case, Conclusion, Loss};
use crate::memory_limit::{self, Limit};
use crate::rule::Rule;
use crate::{command, traced::Group};

/// See the module.
pub(super) struct TcpReceiveBufferFull;

const ID: &str = "tcp-receive-buffer-full";
const COUNTERS: [&str; 4] =
    ["TcpExt.TCPRcvQDrop", "TcpExt.TCPOFODrop", "TcpExt.RcvPruned", "TcpExt.OfoPruned"];

impl Rule for TcpReceiveBufferFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in memory_limit::take(case, 6, Limit::Buffer) {
            conclude(case, &group);
        }
    }
}

fn conclude(case: &mut Case<'_>, group: &Group<'_>) {
    let holder = group.holder();
    let owner = holder.map_or("a program".into(), |holder| holder.owner());
    let port = group.ports().map_or("a TCP port".into(), |port| format!("TCP port {port}"));
    let counters = group.counters(&COUNTERS);
    let confidence = group.confidence(&counters);
    let site = group.site(case, Some(format!("receive buffer of connections to {port}")));
    let rmem = group.namespace.and_then(|namespace| namespace.sysctls.get("net.ipv4.tcp_rmem"));
    let cap = rmem.map_or(String::new(), |value| {
        format!(
            " (net.ipv4.tcp_rmem is {})",
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        )
    });
    let look = group.namespace.and_then(|it| command::within(it, "ss -tnmp state established"));
    case.conclude(
        ID,
        Conclusion {
            variant: None,
            severity: Severity::Critical,
            confidence,
            loss: Loss::traced(group.packets),
            site: holder.map_or(site.clone(), |holder| holder.at(site)),
            summary: format!(
                "Data for {owner} on {port} is thrown away: the receive buffers of its connections are too \
                 small"
            ),
            evidence: group.proof().into_iter().chain(counters).collect(),
            remedies: vec![Remedy {
                summary: format!(
                    "Let {owner} leave SO_RCVBUF alone, so that the kernel sizes the buffer; if it already \
                     does, raise the third value of net.ipv4.tcp_rmem to twice bandwidth times round \
                     trip{cap}. New connections only"
                ),
                commands: look.into_iter().collect(),
                useless: vec![
                    "net.core.rmem_max: it only bounds what programs ask for with SO_RCVBUF".into(),
                    "net.ipv4.tcp_mem: the memory of all sockets together is far from its limit".into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, EventTotal, Evidence, Pair, ProtocolMemory};

    use crate::{Thresholds, diagnose, sample};

    fn refused() -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("PROTO_MEM", "tcp_rcv_established", 24),
            sample::total("TCP_INVALID_END_SEQUENCE", "tcp_validate_incoming", 6),
        ];
        sample::count(&mut evidence, "TcpExt.TCPRcvQDrop", 24);
        evidence
    }

    fn cause(evidence: &Evidence) -> String {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 0));
        report.findings[0].cause.clone()
    }

    fn memory(peak: u64) -> ProtocolMemory {
        ProtocolMemory {
            protocol: "TCP".into(),
            pages: Pair { before: 0, after: peak },
            peak,
            looks: 10,
            limits: Some([100, 200, 300]),
        }
    }

    #[test]
    fn the_three_limits_are_told_apart() {
        let mut evidence = refused();
        assert_eq!(cause(&evidence), "tcp-receive-buffer-full");
        evidence.events.totals = vec![EventTotal {
            event: "sock:sock_exceed_buf_limit".into(),
            code: "RECV".into(),
            netns: Some(sample::INODE),
            ifindex: 0,
            device: None,
            family: 2,
            l4: Some(6),
            port: 0,
            packets: 30,
        }];
        evidence.protocol_memory = vec![memory(50)];
        assert_eq!(cause(&evidence), "socket-memcg-limit");
        evidence.protocol_memory = vec![memory(290)];
        assert_eq!(cause(&evidence), "protocol-memory-limit");
    }

    #[test]
    fn a_counter_confirms_it() {
        let mut evidence = refused();
        let confidence =
            |evidence: &Evidence| diagnose(evidence, &Thresholds::default()).findings[0].confidence;
        assert_eq!(confidence(&evidence), Confidence::Confirmed);
        evidence.namespaces[0].counters.clear();
        assert_eq!(confidence(&evidence), Confidence::Likely);
    }
}
