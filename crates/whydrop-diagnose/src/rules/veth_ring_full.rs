//! The ring between the ends of a veth pair overflowed.
//!
//! A receiving end with GRO or an XDP program has a ring of 256 entries; a packet that finds it full is
//! freed without a reason in `veth_xmit` (`drivers/net/veth.c`, 6.18). By then it belongs to the receiving
//! end, while the sending one's `tx_dropped` counts it. Look-alike: without GRO and XDP the packet goes to a
//! CPU's backlog.

use whydrop_model::{EvidenceItem, EvidenceKind, Link, Namespace, Severity};

use crate::case::Case;
use crate::command;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct VethRingFull;

const ID: &str = "veth-ring-full";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[drops("NOT_SPECIFIED", "veth_xmit"), drops("FULL_RING", "veth_xmit")],
    counters: &[],
};

impl Rule for VethRingFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| KIND.signatures.iter().any(|it| it.matches(total)));
        for group in traced::by_device(case, claims) {
            let sender = group.link_behind(evidence);
            let told = told(&group, sender);
            let grown = sender.and_then(|(_, link)| {
                let dropped = link.stats.get("tx_dropped").map_or(0, |pair| pair.delta());
                let name = format!("{} tx_dropped, at the sending end", link.name);
                (dropped > 0).then(|| EvidenceItem::new(EvidenceKind::Counter, name, dropped))
            });
            group.agreed(grown).conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

fn told(group: &Group<'_>, sender: Option<(&Namespace, &Link)>) -> Told {
    let device = group.device_name();
    let xdp = group.link().is_some_and(|link| link.xdp.is_some());
    let from = sender.map_or("its other end", |(_, link)| link.name.as_str());
    let queue = sender.and_then(|(namespace, link)| {
        command::within(namespace, &format!("tc qdisc replace dev {} root fq_codel", link.name))
    });
    let queue = queue.map_or(String::new(), |command| format!(": `{command}`"));
    let shorter = if xdp {
        String::new()
    } else {
        format!(". Before 6.16: GRO off on {device} makes it use the longer backlog of the CPU")
    };
    Told {
        object: Some(format!("ring of {device}, fed by {from}")),
        summary: format!(
            "{from} sends more at once than the ring of 256 of {device} holds, which it has for {}: put a queue \
             in front, or pace the burst",
            if xdp { "its XDP program" } else { "GRO or XDP" }
        ),
        cure: format!(
            "Since 6.16 a queue discipline on {from} holds packets back instead of losing them{queue}{shorter}. \
             Else give the CPU that polls {device} more time"
        ),
        command: group.device.filter(|_| !xdp).map(|device| format!("ethtool -K {device} gro off")),
        useless: &[
            "the size of the ring: it is compiled in",
            "net.core.netdev_max_backlog: these packets do not pass it",
        ],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, Link, LowerLink, Pair, Xdp};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_other_end_is_named() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "veth_xmit", 30)];
        let links = &mut evidence.namespaces[0].links;
        let lower = Some(LowerLink { ifindex: 3, ..LowerLink::default() });
        let xdp = Some(Xdp::default());
        links.push(Link { ifindex: 2, name: "veth0".into(), lower, xdp, ..Link::default() });
        let mut sender = Link { ifindex: 3, name: "veth9".into(), ..Link::default() };
        sender.stats.insert("tx_dropped".into(), Pair { before: 0, after: 30 });
        links.push(sender);
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("veth-ring-full", 30));
        assert_eq!(finding.confidence, Confidence::Confirmed);
        assert_eq!(finding.site.object.as_deref(), Some("ring of veth0, fed by veth9"));
        assert!(finding.summary.contains("for its XDP program"), "{}", finding.summary);
    }
}
