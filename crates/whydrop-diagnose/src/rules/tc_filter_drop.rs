//! A tc filter, policer or classifier program drops.
//!
//! `TC_INGRESS` in `__netif_receive_skb_core` and `TC_EGRESS` in `__dev_queue_xmit` (`net/core/dev.c`,
//! 6.18); the clsact or ingress qdisc counts the same drops. Look-alike: a redirect that failed ends as the
//! same verdict; its action counts it apart, and that rule comes first.

use whydrop_model::{EvidenceItem, EvidenceKind, Filter, Severity, TcHandle};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::tc;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct TcFilterDrop;

const ID: &str = "tc-filter-drop";

const KINDS: &[Kind] = &[
    Kind { variant: Some("ingress"), signatures: &[drops("TC_INGRESS", "*")], counters: &[] },
    Kind { variant: Some("egress"), signatures: &[drops("TC_EGRESS", "*")], counters: &[] },
];

impl Rule for TcFilterDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in KINDS {
            let claims = case.claim(|total| kind.signatures.iter().any(|it| it.matches(total)));
            for group in traced::by_device(case, claims) {
                let hook = kind.variant.unwrap_or_default();
                let told = told(&group, hook);
                let counted = qdisc_drops(&group);
                group.agreed(counted).conclude(case, ID, Severity::Notice, kind, told);
            }
        }
    }
}

fn told(group: &Group<'_>, hook: &str) -> Told {
    let device = group.device_name();
    let ifindex = group.first().map_or(0, |total| total.ifindex);
    let filters = || tc::filters(group.namespace, ifindex, hook == "egress");
    let polices = |filter: &&Filter| {
        let mut actions = filter.actions.iter();
        actions.any(|it| it.kind == "police" && tc::grown(it, "overlimits") > 0)
    };
    let counts = |filter: &&Filter| filter.actions.iter().any(|it| tc::grown(it, "drops") > 0);
    // Those that count drops did it; of the others, those that can.
    let known = tc::names(filters().filter(counts))
        .or_else(|| tc::names(filters().filter(|filter| tc::may_drop(filter))));
    let filter = known.unwrap_or_else(|| "filter".into());
    let policed = filters().any(|filter| polices(&filter));
    Told {
        variant: policed.then_some("police"),
        object: Some(format!("tc {hook} {filter} on {device}")),
        summary: if policed {
            format!("A policer at the {hook} of {device} drops what is over its rate, as configured")
        } else {
            format!("A tc filter on the {hook} of {device} drops packets, as configured")
        },
        cure: "If this traffic is wanted, change or delete the filter where it is managed (a CNI, a shaper \
               script)"
            .into(),
        command: group.device.map(|device| format!("tc -s filter show dev {device} {hook}")),
        useless: &["a longer queue: a filter drops before any queue"],
    }
}

/// What the qdisc that carries the filters counted.
fn qdisc_drops(group: &Group<'_>) -> Option<EvidenceItem> {
    let ifindex = group.first()?.ifindex;
    let mut qdiscs = group.namespace?.qdiscs.iter();
    let carrier =
        qdiscs.find(|qdisc| qdisc.ifindex == ifindex && qdisc.parent == TcHandle::INGRESS)?;
    let drops = carrier.stats.get("drops").map_or(0, |pair| pair.delta());
    let name = format!("{} {} drops", group.device_name(), carrier.kind);
    (drops > 0).then(|| EvidenceItem::new(EvidenceKind::Counter, name, drops))
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Filter, FilterAction, FilterProgram, Pair, TcHandle};

    use crate::{Thresholds, diagnose, sample};

    fn finding(reason: &str, filter: Filter) -> whydrop_model::Finding {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total(reason, "__dev_queue_xmit", 30)];
        evidence.namespaces[0].filters = vec![filter];
        let mut report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.ledger.lost), (1, 30));
        report.findings.remove(0)
    }

    #[test]
    fn the_filter_is_named() {
        let program = FilterProgram { name: "x.o:[tc]".into(), id: Some(7), direct_action: true };
        let filter = Filter {
            ifindex: 2,
            parent: TcHandle::CLSACT_EGRESS,
            priority: 1,
            kind: "bpf".into(),
            bpf: Some(program),
            ..Filter::default()
        };
        let finding = finding("TC_EGRESS", filter);
        assert_eq!(finding.variant.as_deref(), Some("egress"));
        let object = finding.site.object.as_deref();
        assert_eq!(object, Some("tc egress bpf filter x.o:[tc] (id 7) at pref 1 on veth0"));
    }

    #[test]
    fn a_policer_is_told_by_its_counts() {
        let over = Pair { before: 0, after: 30 };
        let action = FilterAction {
            kind: "police".into(),
            stats: [("drops", over), ("overlimits", over)]
                .map(|(name, pair)| (name.into(), pair))
                .into(),
            ..FilterAction::default()
        };
        let filter = Filter {
            ifindex: 2,
            parent: TcHandle::CLSACT_INGRESS,
            kind: "matchall".into(),
            actions: vec![action],
            ..Filter::default()
        };
        assert_eq!(finding("TC_INGRESS", filter).variant.as_deref(), Some("police"));
    }
}
