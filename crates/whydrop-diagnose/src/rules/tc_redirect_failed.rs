//! A tc filter sends packets to a target that is missing or down.
//!
//! `bpf_redirect` without a target drops without a reason in `skb_do_redirect` (`net/core/filter.c`, 6.18).
//! A mirred redirect whose device is down or gone gives the verdict "shot", so that the packet dies as
//! `TC_INGRESS` or `TC_EGRESS`; the action counts it among its `overlimits` (`net/sched/act_mirred.c`), which
//! tells it from a filter that means to drop. A chain that does not exist has reasons of its own.

use whydrop_model::{
    DropTotal, EvidenceItem, EvidenceKind, Filter, FilterAction, Link, Namespace, Severity,
};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::tc;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct TcRedirectFailed;

const ID: &str = "tc-redirect-failed";

const BPF: Kind = Kind {
    variant: Some("bpf-redirect"),
    signatures: &[drops("NOT_SPECIFIED", "skb_do_redirect")],
    counters: &[],
};
const MIRRED: Kind = Kind { variant: Some("mirred"), signatures: &[], counters: &[] };
const CHAIN: Kind = Kind {
    variant: Some("chain"),
    signatures: &[
        drops("TC_CHAIN_NOTFOUND", "*"),
        drops("TC_COOKIE_ERROR", "*"),
        drops("TC_RECLASSIFY_LOOP", "*"),
    ],
    counters: &[],
};

impl Rule for TcRedirectFailed {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for (kind, tell) in [(&BPF, by_program as fn(&Group<'_>) -> Told), (&CHAIN, into_chain)] {
            let claims = case.claim(|total| kind.signatures.iter().any(|it| it.matches(total)));
            for group in traced::by_device(case, claims) {
                let told = tell(&group);
                group.conclude(case, ID, Severity::Critical, kind, told);
            }
        }
        for namespace in case.namespaces() {
            for link in &namespace.links {
                for egress in [false, true] {
                    for filter in tc::filters(Some(namespace), link.ifindex, egress) {
                        for action in &filter.actions {
                            mirred(case, namespace, link, filter, action, egress);
                        }
                    }
                }
            }
        }
    }
}

fn by_program(group: &Group<'_>) -> Told {
    let device = group.device_name();
    let ifindex = group.first().map_or(0, |total| total.ifindex);
    let filters = |egress| tc::filters(group.namespace, ifindex, egress);
    let programs = filters(false).chain(filters(true)).filter(|filter| filter.bpf.is_some());
    let program = tc::names(programs).unwrap_or_else(|| "BPF program".into());
    Told {
        object: Some(format!("tc {program} on {device}")),
        summary: format!(
            "A tc program on {device} redirects packets to a device that is missing or down: give it the \
             right index, or bring the device up"
        ),
        cure: "Reload the program or its map with the index of the device that is there now (a container that \
               was restarted has another), through the agent that owns it"
            .into(),
        command: group.device.map(|device| format!("tc filter show dev {device} ingress")),
        useless: &["queues, rings and backlogs: none of them is involved"],
        ..Told::default()
    }
}

fn into_chain(group: &Group<'_>) -> Told {
    let device = group.device_name();
    Told {
        object: Some(format!("tc chains of {device}")),
        summary: format!(
            "A tc filter on {device} leads into a chain that does not exist, or round in a circle: create \
             the chain or correct the filter"
        ),
        cure: "Create the chain that the filter's `goto chain` names, or correct it, where the filters are \
               managed"
            .into(),
        command: group.device.map(|device| format!("tc filter show dev {device} ingress")),
        useless: &["queues, rings and backlogs: none of them is involved"],
        ..Told::default()
    }
}

/// Books what one action could not send to its device.
fn mirred(
    case: &mut Case<'_>,
    namespace: &Namespace,
    link: &Link,
    filter: &Filter,
    action: &FilterAction,
    egress: bool,
) {
    let Some(target) = action.mirred.as_ref().filter(|it| it.how.ends_with("redir")) else {
        return;
    };
    let failed = tc::grown(action, "overlimits");
    let reason = if egress { "TC_EGRESS" } else { "TC_INGRESS" };
    let here = |total: &DropTotal| {
        total.netns == Some(namespace.inode)
            && total.ifindex == link.ifindex
            && total.reason == reason
    };
    let claims = case.claim_up_to(failed, here);
    let known = namespace.links.iter().find(|other| other.ifindex == target.ifindex);
    let to = known.map_or("a device that is gone", |other| other.name.as_str());
    let state = match known {
        None => "gone",
        Some(other) if !other.up => "down",
        Some(other) if other.carrier == Some(false) => "without carrier",
        Some(_) => "up now",
    };
    for group in traced::by_device(case, claims) {
        let told = Told {
            object: Some(format!("tc {} on {}: redirect to {to}", tc::name(filter), link.name)),
            summary: format!(
                "A tc filter on {} redirects packets to {to}, which is {state}: bring it up, or correct the \
                 filter",
                link.name
            ),
            cure: format!(
                "Bring {to} up, or point the filter to the right device, where the filter is managed"
            ),
            command: known.map(|other| format!("ip link set {} up", other.name)),
            useless: &["queues, rings and backlogs: none of them is involved"],
            ..Told::default()
        };
        let counted = EvidenceItem::new(EvidenceKind::Counter, "mirred overlimits", failed);
        let state = EvidenceItem::new(EvidenceKind::State, to, state.to_owned());
        group.agreed([counted, state]).conclude(case, ID, Severity::Critical, &MIRRED, told);
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Filter, FilterAction, Link, Mirred, Pair, TcHandle};

    use crate::{Thresholds, diagnose, sample};

    fn found(evidence: &Evidence) -> Vec<(String, Option<String>, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert_eq!(report.ledger.unexplained, 0);
        let found = report.findings.into_iter();
        found.map(|it| (it.cause, it.variant, it.packets)).collect()
    }

    #[test]
    fn programs_and_chains_have_their_signatures() {
        for (reason, symbol, variant) in [
            ("NOT_SPECIFIED", "skb_do_redirect", "bpf-redirect"),
            ("TC_CHAIN_NOTFOUND", "__netif_receive_skb_core", "chain"),
            ("TC_RECLASSIFY_LOOP", "__dev_queue_xmit", "chain"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
            let one = [("tc-redirect-failed".to_owned(), Some(variant.to_owned()), 30)];
            assert_eq!(found(&evidence), one);
        }
    }

    #[test]
    fn a_redirect_is_told_from_a_drop_by_what_its_action_counts() {
        let mut evidence = sample::evidence();
        let drops = sample::total("TC_INGRESS", "__netif_receive_skb_core", 50);
        evidence.tracer.totals = vec![drops];
        let mut action = FilterAction {
            kind: "mirred".into(),
            mirred: Some(Mirred { ifindex: 3, how: "egress_redir".into() }),
            ..FilterAction::default()
        };
        action.stats.insert("overlimits".into(), Pair { before: 0, after: 30 });
        let namespace = &mut evidence.namespaces[0];
        namespace.links = [(2, "veth0", true), (3, "i0", false)]
            .map(|(ifindex, name, up)| Link { ifindex, name: name.into(), up, ..Link::default() })
            .into();
        namespace.filters = vec![Filter {
            ifindex: 2,
            parent: TcHandle::CLSACT_INGRESS,
            kind: "u32".into(),
            actions: vec![action],
            ..Filter::default()
        }];
        let both = [
            ("tc-redirect-failed".to_owned(), Some("mirred".to_owned()), 30),
            ("tc-filter-drop".to_owned(), Some("ingress".to_owned()), 20),
        ];
        assert_eq!(found(&evidence), both);
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings[0].summary.contains("to i0, which is down"));
    }
}
