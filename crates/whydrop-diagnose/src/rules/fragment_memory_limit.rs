//! There is no memory left for fragments that wait for the rest of their datagram.
//!
//! Freed without a reason in `ip_defrag` (`net/ipv4/ip_fragment.c`, 6.18) with `Ip.ReasmFails`, where
//! overlaps (`IpExt.ReasmOverlaps`) end as well: what exceeds their number had no memory. IPv6 counts no
//! overlaps; there the memory in use must be near its limit.

use whydrop_model::{DropTotal, EvidenceItem, EvidenceKind, Namespace, Severity};

use crate::case::{self, Case};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct FragmentMemoryLimit;

const ID: &str = "fragment-memory-limit";

/// One address family: what is dropped, its limit, and the memory in use.
struct Family {
    kind: Kind,
    setting: &'static str,
    memory: &'static str,
}

const REFUSED: Signature = drops("NOT_SPECIFIED", "ip_defrag");
const REFUSED_IPV6: Signature = drops("NOT_SPECIFIED", "ipv6_frag_rcv");
const FAMILIES: [Family; 2] = [
    Family {
        kind: Kind { variant: None, signatures: &[REFUSED], counters: &["Ip.ReasmFails"] },
        setting: "net.ipv4.ipfrag_high_thresh",
        memory: "sockstat.FRAG.memory",
    },
    Family {
        kind: Kind {
            variant: None,
            signatures: &[REFUSED_IPV6],
            counters: &["snmp6.Ip6ReasmFails"],
        },
        setting: "net.ipv6.ip6frag_high_thresh",
        memory: "sockstat6.FRAG6.memory",
    },
];

impl Rule for FragmentMemoryLimit {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for family in &FAMILIES {
                let refused = |total: &DropTotal| {
                    total.netns == Some(namespace.inode)
                        && family.kind.signatures.iter().any(|one| one.matches(total))
                };
                let ipv4 = family.setting.starts_with("net.ipv4");
                let others = if ipv4 {
                    namespace.delta("IpExt.ReasmOverlaps").unwrap_or(0)
                } else if is_near(namespace, family) {
                    0
                } else {
                    u64::MAX
                };
                let open: Vec<_> = case.open().filter(|claim| refused(claim.total)).collect();
                let claims = case.claim_up_to(case::packets(&open).saturating_sub(others), refused);
                for group in traced::gather(case, claims) {
                    let group = group.agreed(state(namespace, family));
                    let told = tell(&group, family);
                    group.conclude(case, ID, Severity::Critical, &family.kind, told);
                }
            }
        }
    }
}

/// Memory in use at the end of the window, and what it may be.
fn memory(namespace: &Namespace, family: &Family) -> Option<(u64, u64)> {
    let used = namespace.gauges.get(family.memory)?;
    let limit = namespace.sysctl(family.setting).and_then(|limit| u64::try_from(limit).ok())?;
    Some((used.before.max(used.after), limit))
}

/// At least three quarters of the limit, which may be as large as its type has room for.
fn is_near(namespace: &Namespace, family: &Family) -> bool {
    memory(namespace, family).is_some_and(|(used, limit)| used >= limit - limit / 4)
}

fn state(namespace: &Namespace, family: &Family) -> Option<EvidenceItem> {
    let (used, limit) = memory(namespace, family)?;
    let name = format!("memory of fragments against {}, in bytes", family.setting);
    Some(EvidenceItem::new(EvidenceKind::State, name, format!("{used} of {limit}")))
}

fn tell(group: &Group<'_>, family: &Family) -> Told {
    let (setting, from) = (family.setting, group.sources());
    let limit = group.namespace.and_then(|here| here.sysctl(setting)).unwrap_or_default();
    // Twice what it may be now: how much is needed depends on how long fragments are waited for.
    let proposed = u64::try_from(limit).unwrap_or(0).max(2 << 20).saturating_mul(2);
    Told {
        object: Some(setting.into()),
        summary: format!(
            "Fragments from {from} are refused because those that wait for the rest of their datagram \
             fill the {limit} bytes of {setting}"
        ),
        cure: format!(
            "Avoid fragments if you can (smaller datagrams, EDNS 1232, NFS over TCP, the right MTU); \
             otherwise raise {setting}, for example to {proposed}, and watch the memory in \
             /proc/net/sockstat. Many halves of one sender mean loss on the way: cure that first"
        ),
        command: Some(format!("sysctl -w {setting}={proposed}")),
        useless: &["socket buffers: there is no datagram yet that could be put into one"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Pair};

    use crate::{Thresholds, diagnose, sample};

    fn told(evidence: &Evidence) -> Vec<(String, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        report.findings.into_iter().map(|one| (one.cause, one.packets)).collect()
    }

    #[test]
    fn overlaps_are_not_for_want_of_memory() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "IpExt.ReasmOverlaps", 5);
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "ip_defrag", 59)];
        let expected = [("fragment-memory-limit".into(), 54), ("fragment-overlap".into(), 5)];
        assert_eq!(told(&evidence), expected);
    }

    #[test]
    fn over_ipv6_the_memory_tells() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "ipv6_frag_rcv", 25)];
        let here = &mut evidence.namespaces[0];
        here.sysctls.insert("net.ipv6.ip6frag_high_thresh".into(), "1000".into());
        here.gauges.insert("sockstat6.FRAG6.memory".into(), Pair { before: 0, after: 0 });
        assert_eq!(told(&evidence)[0].0, "fragment-overlap");
        let full = Pair { before: 0, after: 900 };
        evidence.namespaces[0].gauges.insert("sockstat6.FRAG6.memory".into(), full);
        assert_eq!(told(&evidence)[0].0, "fragment-memory-limit");
    }
}
