//! The kernel could not allocate memory for a packet, or a driver none for its receive ring.
//!
//! Variant skb: `NOMEM` and `PFMEMALLOC`, traced. Variant nic-refill: counters of class `no-memory`; what
//! the ring then lost is this cause's (`ring.rs`), and packets that the driver itself threw away are
//! counted too. Look-alikes: `NOMEM` in `vxlan_rcv()` is a frame too short (`drivers/net/vxlan`, 6.18),
//! `PROTO_MEM` a configured limit.

use whydrop_model::{Confidence, EvidenceItem, Link, Namespace, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss};
use crate::nic::Class;
use crate::ring::{self, Why};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::{nic_loss, traced};

/// See the module.
pub(super) struct KernelMemoryLow;

const ID: &str = "kernel-memory-low";

const SIGNATURES: &[Signature] = &[
    Signature {
        reason: "NOMEM",
        symbol: "*",
        when: |total| total.site.as_ref().is_none_or(|site| site.symbol != "vxlan_rcv"),
    },
    drops("PFMEMALLOC", "*"),
];
const COUNTERS: &[&str] = &["TcpExt.PFMemallocDrop", "Ip.InDiscards", "snmp6.Ip6InDiscards"];

/// What a link of 1 Mbit/s receives in 10 ms, for which the reserve must last.
const BYTES: u64 = 1250;

impl Rule for KernelMemoryLow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, SIGNATURES) {
            let counters = group.counters(COUNTERS);
            let conclusion = Conclusion {
                variant: Some("skb"),
                severity: Severity::Critical,
                confidence: Confidence::Confirmed,
                loss: Loss::traced(group.packets),
                site: group.site(case, Some("vm.min_free_kbytes".into())),
                summary: "The kernel had no memory for packets that it had to allocate or copy"
                    .into(),
                evidence: group.proof().into_iter().chain(counters).collect(),
                remedies: vec![remedy(fastest(case.namespaces().iter().flat_map(|it| &it.links)))],
            };
            case.conclude(ID, conclusion);
        }
        refills(case);
    }
}

fn refills(case: &mut Case<'_>) {
    let overruns = ring::overruns(case);
    for namespace in case.namespaces() {
        for link in namespace.links.iter().filter(|link| nic_loss::is_hardware(link)) {
            let tally = nic_loss::lost(link, Class::NoMemory);
            if tally.is_empty() {
                continue;
            }
            let overrun = overruns.iter().find(|one| {
                std::ptr::eq(one.link, link) && one.why(case.evidence()) == Why::Memory
            });
            let missed = overrun.map_or(0, |one| one.book(case).packets);
            let mut evidence = tally.proof(&link.name);
            evidence.extend(overrun.map(|one| one.tally.proof(&link.name)).unwrap_or_default());
            refill(case, namespace, link, tally.packets + missed, evidence);
        }
    }
}

fn refill(
    case: &mut Case<'_>,
    namespace: &Namespace,
    link: &Link,
    packets: u64,
    evidence: Vec<EvidenceItem>,
) {
    let conclusion = Conclusion {
        variant: Some("nic-refill"),
        severity: ring::severity(link, packets, case.evidence().window.seconds),
        confidence: Confidence::Confirmed,
        loss: Loss::counted(packets),
        site: Site {
            device: Some(link.name.clone()),
            object: Some("vm.min_free_kbytes".into()),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "The driver of {} could not get memory for its receive buffers",
            link.name
        ),
        evidence,
        remedies: vec![remedy(fastest(std::iter::once(link)))],
    };
    case.conclude(ID, conclusion);
}

/// Speed of the fastest link, in Mbit/s.
fn fastest<'e>(links: impl Iterator<Item = &'e Link>) -> Option<u32> {
    links.filter_map(|link| link.speed).max()
}

fn remedy(speed: Option<u32>) -> Remedy {
    let reserve = speed.map(|mbit| (u64::from(mbit) * BYTES).div_ceil(1024));
    let sized = reserve.map_or(String::new(), |kib| {
        format!(
            ", if it is smaller now: {kib} KiB are what a link of this speed receives in 10 ms; stay below \
             2 % of the memory"
        )
    });
    Remedy {
        summary: format!(
            "Find what takes the memory, then enlarge the reserve that packets are allocated from{sized}"
        ),
        commands: std::iter::once("grep -E 'MemFree|MemAvailable' /proc/meminfo".into())
            .chain(reserve.map(|kib| format!("sysctl -w vm.min_free_kbytes={kib}")))
            .collect(),
        useless: vec![
            "larger socket buffers and rings: they take more of what is short".into(),
            "dropping caches: the reserve is what counts when an interrupt needs memory".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::SIGNATURES;
    use crate::sample;

    #[test]
    fn a_short_frame_in_a_tunnel_is_no_lack_of_memory() {
        let takes = |symbol: &str| {
            let total = sample::total("NOMEM", symbol, 1);
            SIGNATURES.iter().any(|signature| signature.matches(&total))
        };
        assert!(takes("ip_rcv_core") && !takes("vxlan_rcv"));
    }
}
