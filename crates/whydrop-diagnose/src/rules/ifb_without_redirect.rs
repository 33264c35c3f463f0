//! Traffic was routed into an ifb device, which only takes redirected packets.
//!
//! `ifb_xmit` (`drivers/net/ifb.c`, 6.18) discards a packet without an original device and counts it in
//! the ifb's `rx_dropped`; it counts as consumed, so the tracer sees nothing. Nothing else is counted
//! there: what a qdisc of the ifb drops is counted as sent, and traced.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Link, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct IfbWithoutRedirect;

const ID: &str = "ifb-without-redirect";

impl Rule for IfbWithoutRedirect {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let ifbs = namespace.links.iter().filter(|link| link.kind.as_deref() == Some("ifb"));
            for link in ifbs {
                let dropped = link.stats.get("rx_dropped").map_or(0, |pair| pair.delta());
                if dropped > 0 {
                    conclude(case, namespace, link, dropped);
                }
            }
        }
    }
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, link: &Link, dropped: u64) {
    let device = &link.name;
    let addresses: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
    let counter = format!("{device} rx_dropped");
    let mut evidence = vec![EvidenceItem::new(EvidenceKind::Counter, counter, dropped)];
    if !addresses.is_empty() {
        let name = format!("addresses of {device}");
        evidence.push(EvidenceItem::new(EvidenceKind::State, name, addresses.join(", ")));
    }
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Critical,
        confidence: if addresses.is_empty() { Confidence::Likely } else { Confidence::Confirmed },
        loss: Loss::counted(dropped),
        site: Site {
            device: Some(device.clone()),
            object: Some(format!("routes and addresses on {device}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "Traffic is routed into {device}, an ifb that only takes what tc redirects to it: take its \
             routes and addresses away"
        ),
        evidence,
        remedies: vec![Remedy {
            summary: format!(
                "Keep routes, addresses and sockets off {device}; feed it by a tc mirred redirect at the \
                 ingress of the device to be shaped"
            ),
            commands: command::within(namespace, &format!("ip route show dev {device}"))
                .into_iter()
                .collect(),
            useless: vec![
                "a longer queue on the ifb: what has no original device is refused".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Link, Pair};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn only_an_ifb_counts_so() {
        for (kind, found) in [(Some("ifb"), true), (Some("veth"), false), (None, false)] {
            let mut evidence = sample::evidence();
            let kind = kind.map(str::to_owned);
            let mut link = Link { ifindex: 3, name: "i0".into(), kind, ..Link::default() };
            link.stats.insert("rx_dropped".into(), Pair { before: 2, after: 42 });
            evidence.namespaces[0].links.push(link);
            let report = diagnose(&evidence, &Thresholds::default());
            let packets: Vec<_> = report.findings.iter().map(|it| it.packets).collect();
            assert_eq!(packets, if found { vec![40] } else { vec![] });
            assert_eq!(report.ledger.lost, if found { 40 } else { 0 });
        }
    }
}
