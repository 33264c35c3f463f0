//! The limit of the memory that all TCP or all UDP sockets of the host may take together.
//!
//! `PROTO_MEM` while the memory of the protocol in `/proc/net/sockstat` is at the third value of
//! `tcp_mem` or `udp_mem` (`__sk_mem_raise_allocated()`, `net/core/sock.c`, 6.18). UDP bears that reason
//! for nothing else but a control group at its limit, where the tracepoint fires and the host is well.

use whydrop_model::{EvidenceItem, EvidenceKind, Remedy, Severity};

use crate::case::{Case, Conclusion, Loss};
use crate::memory_limit::{self, Limit};
use crate::rule::Rule;
use crate::traced::Group;

/// See the module.
pub(super) struct ProtocolMemoryLimit;

const ID: &str = "protocol-memory-limit";
const PROTOCOLS: [(u8, &str, &str); 2] =
    [(6, "tcp", "net.ipv4.tcp_mem"), (17, "udp", "net.ipv4.udp_mem")];
/// Counters that move with it.
const COUNTERS: [&str; 4] =
    ["Udp.MemErrors", "snmp6.Udp6MemErrors", "TcpExt.TCPMemoryPressures", "TcpExt.TCPRcvQDrop"];

impl Rule for ProtocolMemoryLimit {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for (l4, variant, sysctl) in PROTOCOLS {
            for group in memory_limit::take(case, l4, Limit::Protocol) {
                conclude(case, &group, (l4, variant, sysctl));
            }
        }
    }
}

fn conclude(
    case: &mut Case<'_>,
    group: &Group<'_>,
    (l4, variant, sysctl): (u8, &'static str, &'static str),
) {
    let protocol = variant.to_uppercase();
    let mut evidence = group.proof();
    let memory = memory_limit::memory(case.evidence(), l4);
    let mut agreeing = group.counters(&COUNTERS);
    if let Some((memory, [low, pressure, most])) = memory.and_then(|it| Some((it, it.limits?))) {
        let name =
            format!("memory of all {protocol} sockets, most seen against {sysctl}, in pages");
        let value = format!("{} of {low} {pressure} {most}", memory.peak);
        agreeing.push(EvidenceItem::new(EvidenceKind::State, name, value));
    }
    let confidence = group.confidence(&agreeing);
    evidence.extend(agreeing);
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant),
            severity: Severity::Critical,
            confidence,
            loss: Loss::traced(group.packets),
            site: group.site(case, Some(format!("sysctl {sysctl}"))),
            summary: format!(
                "All {protocol} sockets of the host together have used up {sysctl}; what arrives now is \
                 thrown away, whoever it is for"
            ),
            evidence,
            remedies: vec![Remedy {
                summary: format!(
                    "Find who hoards first, by the queues of its sockets; if the load is right, raise \
                     {sysctl} (three numbers of pages, in the host's own namespace) to half as much again \
                     as is needed, and at most a quarter of the memory"
                ),
                commands: vec![format!("ss -{}anm", &variant[..1]), format!("sysctl {sysctl}")],
                useless: vec![
                    "SO_RCVBUF and net.core.rmem_max: larger buffers use the limit up sooner".into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn udp_names_no_other_limit() {
        let mut evidence = sample::evidence();
        let mut total = sample::total("PROTO_MEM", "__udp_enqueue_schedule_skb", 3000);
        total.l4 = Some(17);
        evidence.tracer.totals = vec![total];
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!(finding.cause, "protocol-memory-limit");
        assert_eq!((finding.variant.as_deref(), finding.packets), (Some("udp"), 3000));
        assert_eq!(finding.remedies[0].commands[0], "ss -uanm");
    }
}
