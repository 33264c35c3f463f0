//! An XDP program dropped packets, as it was told to.
//!
//! Where the driver makes a packet first (veth), or the stack runs the program, it dies without a reason in
//! `veth_xdp_rcv_skb` or `do_xdp_generic` (6.18). On other devices nothing is traced, and only the driver's
//! own statistic counts it. Look-alike: a program that fails; the rule about that comes first and takes what
//! the tracepoints say.

use whydrop_model::{Confidence, EvidenceItem, EvidenceKind, Remedy, Severity, Site};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::command;
use crate::rule::Rule;
use crate::xdp::{self, GENERIC, NATIVE, Place};

/// See the module.
pub(super) struct XdpProgramDrop;

const ID: &str = "xdp-program-drop";

impl Rule for XdpProgramDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for place in xdp::places(case.evidence()) {
            let generic = case.claim(|total| xdp::is_at(place, GENERIC, total));
            let traced = packets(&generic);
            conclude(case, place, "generic", Loss::traced(traced));
            let native = case.claim(|total| xdp::is_at(place, NATIVE, total));
            let traced = packets(&native);
            // The driver counts what a failing program loses too.
            let evidence = case.evidence();
            let failed: u64 = xdp::events(evidence, place, "xdp:xdp_exception")
                .filter(|(code, _)| xdp::exception(code).is_some())
                .map(|(_, count)| count)
                .sum();
            let link = xdp::link(evidence, place);
            let counted = link.map_or(0, xdp::refused).saturating_sub(failed);
            let loss = Loss { packets: traced.max(counted), traced, counted };
            conclude(case, place, "native", loss);
        }
    }
}

fn conclude(case: &mut Case<'_>, place: Place, variant: &'static str, loss: Loss) {
    if loss.packets == 0 {
        return;
    }
    let evidence = case.evidence();
    let link = xdp::link(evidence, place);
    let program = xdp::program(evidence, link);
    let device = link.map_or("a device", |link| link.name.as_str());
    let mut proof = Vec::new();
    if loss.traced > 0 {
        let symbol = if variant == "native" { "veth_xdp_rcv_skb" } else { "do_xdp_generic" };
        let name = format!("NOT_SPECIFIED@{symbol}");
        proof.push(EvidenceItem::new(EvidenceKind::Tracer, name, loss.traced));
    }
    if loss.counted > 0 {
        let name = format!("{device} ethtool xdp_drops");
        proof.push(EvidenceItem::new(EvidenceKind::Counter, name, loss.counted));
    }
    let attached = link.is_some_and(|link| link.xdp.is_some());
    if attached {
        proof.push(EvidenceItem::new(EvidenceKind::State, "attached", program.clone()));
    }
    let mode = if variant == "native" { "xdpdrv" } else { "xdpgeneric" };
    let namespace = place.0.and_then(|inode| evidence.namespace(inode));
    let shown = link.map(xdp::show);
    let within = |line: String| command::within(namespace?, &line);
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Notice,
        confidence: if attached || loss.counted > 0 {
            Confidence::Confirmed
        } else {
            Confidence::Likely
        },
        loss,
        site: Site {
            device: link.map(|link| link.name.clone()),
            object: Some(program.clone()),
            ..case.site_of(place.0)
        },
        summary: format!("{program} drops packets before the stack sees them, as it was told to"),
        evidence: proof,
        remedies: vec![Remedy {
            summary: format!(
                "If this traffic is wanted, change the policy or the map of the agent that loads the program. \
                 Only one that nobody owns any more is taken off: `ip link set dev {device} {mode} off`"
            ),
            commands: shown.and_then(within).into_iter().collect(),
            useless: vec![
                "firewall rules: netfilter comes later and cannot let these packets through".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Driver, Evidence, Link, Pair, Xdp};

    use crate::{Thresholds, diagnose, sample};

    fn with_device(driver: &str, statistics: &[(&str, u64)]) -> Evidence {
        let mut evidence = sample::evidence();
        let mut link = Link {
            ifindex: 2,
            name: "veth0".into(),
            xdp: Some(Xdp { mode: "driver".into(), programs: vec![77] }),
            driver: Some(Driver { name: driver.into(), ..Driver::default() }),
            ..Link::default()
        };
        for &(name, after) in statistics {
            link.ethtool.insert(name.to_owned(), Pair { before: 0, after });
        }
        evidence.namespaces[0].links.push(link);
        evidence
    }

    fn found(evidence: &Evidence) -> Vec<(Option<String>, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|it| it.cause == "xdp-program-drop"));
        report.findings.into_iter().map(|it| (it.variant, it.packets)).collect()
    }

    #[test]
    fn what_is_traced_and_counted_is_one_loss() {
        let mut evidence = with_device("veth", &[("rx_queue_0_xdp_drops", 44)]);
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "veth_xdp_rcv_skb", 44)];
        assert_eq!(found(&evidence), [(Some("native".into()), 44)]);
    }

    #[test]
    fn on_a_real_device_only_its_statistic_tells() {
        let counts = [("rx_xdp_drops", 40), ("rx0_xdp_drops", 30), ("rx1_xdp_drops", 10)];
        assert_eq!(found(&with_device("virtio_net", &counts)), [(Some("native".into()), 40)]);
        assert_eq!(found(&with_device("virtio_net", &[])), []);
    }

    #[test]
    fn the_stack_runs_a_generic_one() {
        let mut evidence = with_device("veth", &[]);
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "do_xdp_generic", 5)];
        assert_eq!(found(&evidence), [(Some("generic".into()), 5)]);
    }
}
