//! A driver dropped packets that it should have sent, or a queue of its card hung.
//!
//! Told by counters of the classes `tx-loss` and `tx-hang` and by `tx_errors`, on a card whose link is
//! up and whose root queueing discipline is not `noop`; otherwise it is `link-down`. A driver that frees
//! what it cannot send is traced in its own function or in `dev_kfree_skb_any_reason()`
//! (`net/core/dev.c`, 6.18) without a reason: the same packets, taken up to the counter's number. A full
//! ring alone (`tx-stopped`) loses nothing: packets wait in the queueing discipline.

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Link, Namespace, Remedy, Site,
};

use crate::case::{Case, Conclusion, Loss, packets};
use crate::nic::Class;
use crate::nic_loss::{self, Tally};
use crate::rule::Rule;
use crate::{command, ring};

/// See the module.
pub(super) struct NicTxStall;

const ID: &str = "nic-tx-stall";

/// Functions of the core that free packets on behalf of a driver.
const FREED_FOR_DRIVERS: [&str; 2] = ["dev_kfree_skb_any_reason", "net_tx_action"];

impl Rule for NicTxStall {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for link in namespace.links.iter().filter(|link| sends(link)) {
                let lost = nic_loss::lost(link, Class::TxLoss);
                let hung = nic_loss::lost(link, Class::TxHang);
                if lost.packets > 0 || !hung.is_empty() {
                    conclude(case, namespace, link, &lost, &hung);
                }
            }
        }
    }
}

fn sends(link: &Link) -> bool {
    nic_loss::is_hardware(link)
        && link.up
        && link.carrier != Some(false)
        && link.qdisc.as_deref() != Some("noop")
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, link: &Link, lost: &Tally, hung: &Tally) {
    let name = &link.name;
    let grew = |words: &[&str]| {
        lost.counters.iter().any(|(name, _)| words.iter().any(|word| name.contains(word)))
    };
    let variant = if !hung.is_empty() {
        "timeout"
    } else if grew(&["dma", "map"]) {
        "dma"
    } else {
        "ring"
    };
    ring::book(case, namespace, link, Class::TxLoss);
    let loss = take(case, namespace, link, lost.packets);
    let mut evidence = [lost.proof(name), hung.proof(name)].concat();
    evidence.extend(nic_loss::lost(link, Class::TxStopped).proof(name));
    if loss.traced > 0 {
        let what = "freed by the driver unsent";
        evidence.push(EvidenceItem::new(EvidenceKind::Tracer, what, loss.traced));
    }
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: ring::severity(link, lost.packets.max(1), case.evidence().window.seconds),
        confidence: Confidence::Confirmed,
        loss,
        site: Site {
            device: Some(name.clone()),
            object: Some(format!("driver and firmware of {name}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: match variant {
            "timeout" => format!(
                "A queue of {name} hung and the driver reset it; nothing was sent meanwhile"
            ),
            "dma" => {
                format!("The driver of {name} could not map packets for the card and dropped them")
            }
            _ => format!("The driver of {name} dropped packets that it should have sent"),
        },
        evidence,
        remedies: vec![remedy(namespace, link, variant)],
    };
    case.conclude(ID, conclusion);
}

/// The loss by counter, with what of it was traced.
fn take(case: &mut Case<'_>, namespace: &Namespace, link: &Link, counted: u64) -> Loss {
    let prefix = nic_loss::driver(link).split('_').next().unwrap_or_default();
    let by_driver = |total: &DropTotal| {
        let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
        let own = prefix.len() > 1 && symbol.starts_with(prefix) && symbol.contains("xmit");
        own || FREED_FOR_DRIVERS.contains(&symbol)
    };
    let claims = case.claim_up_to(counted, |total| {
        total.reason == "NOT_SPECIFIED"
            && total.netns == Some(namespace.inode)
            && total.ifindex == link.ifindex
            && by_driver(total)
    });
    Loss { packets: counted, traced: packets(&claims), counted }
}

fn remedy(namespace: &Namespace, link: &Link, variant: &str) -> Remedy {
    let name = &link.name;
    let pending = link.ring.get("tx_pending").copied().unwrap_or(0);
    let most = link.ring.get("tx_max_pending").copied().unwrap_or(0);
    let (summary, line) = match variant {
        "timeout" => (
            format!(
                "Update driver and firmware of {name}; then leave one offload out at a time, segmentation \
                 first"
            ),
            format!("ethtool -K {name} tso off"),
        ),
        "dma" => (
            format!(
                "Give the card more room to map packets: a larger `swiotlb=` on the kernel's command line, \
                 or a driver that maps less; the kernel log names the one that is short for {name}"
            ),
            format!("ethtool -i {name}"),
        ),
        _ if pending > 0 && pending < most => (
            format!(
                "Let the ring for sending hold more than its {pending} of {most} descriptors; to keep it, \
                 TxBufferSize= in a systemd .link file"
            ),
            format!("ethtool -G {name} tx {}", pending.saturating_mul(2).min(most)),
        ),
        _ => (
            format!("Update driver and firmware of {name}, and see which of its counters grows"),
            format!("ethtool -S {name} | grep -iE 'tx.*(drop|err|discard)'"),
        ),
    };
    Remedy {
        summary,
        commands: command::within(namespace, &line).into_iter().collect(),
        useless: vec!["txqueuelen and qdisc limits: the packets had left the queue".into()],
    }
}
