//! A new flow cannot be entered into the table of connections, because its tuple is taken.
//!
//! `__nf_conntrack_confirm` (`net/netfilter/nf_conntrack_core.c`, 6.18) finds the addresses and ports that
//! the flow would have after NAT in use, drops its first packet and counts `nf_conntrack.insert_failed`.
//! Either source NAT has no free port left, or two packets of one flow raced. Look-alikes: a full
//! table counts `drop` alone; a hash chain that is too long counts `chainlength` as well.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, RuleVerdict, Severity,
};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::conntrack::{self, Refused};
use crate::rule::Rule;
use crate::{command, traced};

/// See the module.
pub(super) struct ConntrackInsertFailed;

const ID: &str = "conntrack-insert-failed";

impl Rule for ConntrackInsertFailed {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let refused = Refused::of(namespace);
            if refused.taken > 0 {
                conclude(case, namespace, refused);
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, refused: Refused) {
    let claims = conntrack::claim(case, namespace, refused.taken);
    let traced = packets(&claims);
    let group = traced::gather(case, claims).into_iter().next();
    let mut evidence = group.as_ref().map(traced::Group::proof).unwrap_or_default();
    let mut counter = |name: &str, value: u64| {
        if value > 0 {
            evidence.push(EvidenceItem::new(EvidenceKind::Counter, name, value));
        }
    };
    counter("nf_conntrack.insert_failed", refused.taken);
    counter("nf_conntrack.chainlength", refused.long_chain);
    counter("nf_conntrack.clashres", namespace.delta("nf_conntrack.clashres").unwrap_or(0));
    evidence.extend(conntrack::fill_item(namespace));
    let snat = source_nat(namespace);
    let object = snat.clone().unwrap_or_else(|| "connection tracking".into());
    let conclusion = Conclusion {
        variant: if snat.is_some() { Some("snat-ports") } else { None },
        severity: Severity::Critical,
        confidence: if traced > 0 { Confidence::Confirmed } else { Confidence::Likely },
        loss: Loss { packets: refused.taken, traced, counted: refused.taken },
        site: match &group {
            Some(group) => group.site(case, Some(object.clone())),
            None => whydrop_model::Site {
                object: Some(object.clone()),
                ..case.site_of(Some(namespace.inode))
            },
        },
        summary: match &snat {
            Some(rule) => format!(
                "The first packets of new flows are dropped, because source NAT finds no free port for \
                 them: {rule}"
            ),
            None => "The first packets of new flows are dropped, because connection tracking already \
                     has a flow with their addresses and ports"
                .into(),
        },
        evidence,
        remedies: vec![Remedy {
            summary: match &snat {
                Some(_) => "Give that rule more ports (`:1024-65535`, `fully-random`) or more addresses; \
                            each destination needs as many ports as it gets new flows per second x their \
                            lifetime with timeout",
                None => "Two packets of one socket raced through NAT (parallel A and AAAA queries): a \
                         resolver on each node, `options single-request-reopen` in resolv.conf, or no \
                         NAT for this traffic",
            }
            .into(),
            commands: command::within(namespace, "conntrack -S").into_iter().collect(),
            useless: vec!["net.netfilter.nf_conntrack_max: the table has room".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

/// The rule that translates sources, if there is exactly one chain that does.
fn source_nat(namespace: &Namespace) -> Option<String> {
    let chains = namespace.netfilter.iter().flat_map(|netfilter| &netfilter.chains);
    let translates = |text: &str| {
        ["snat", "masquerade", "SNAT", "MASQUERADE"].iter().any(|word| text.contains(word))
    };
    let mut rules = chains.filter(|chain| !chain.dormant).flat_map(|chain| {
        let ours = chain
            .rules
            .iter()
            .filter(|rule| translates(&rule.text) && !rule.verdicts.contains(&RuleVerdict::Drop));
        ours.map(move |rule| {
            let whydrop_model::Chain { family, table, name, .. } = chain;
            format!("rule {} of {family} {table} {name}: {}", rule.handle, rule.text)
        })
    });
    let first = rules.next()?;
    Some(if rules.next().is_some() { "one of the source NAT rules".into() } else { first })
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Chain, Netfilter, Rule};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn source_nat_without_a_free_port() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "nf_conntrack.drop", 29);
        sample::count(&mut evidence, "nf_conntrack.insert_failed", 29);
        evidence.tracer.totals = vec![sample::total("NETFILTER_DROP", "nf_hook_slow", 29)];
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), (super::ID, 29));
        assert_eq!((finding.variant.as_deref(), report.findings.len()), (None, 1));

        let rule = Rule { handle: 4, text: "snat to 192.0.2.1".into(), ..Rule::default() };
        let chain = Chain { name: "post".into(), rules: vec![rule], ..Chain::default() };
        evidence.namespaces[0].netfilter =
            Some(Netfilter { chains: vec![chain], ..Netfilter::default() });
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].variant.as_deref(), Some("snat-ports"));
        assert!(report.findings[0].summary.contains("snat to 192.0.2.1"));
    }
}
