//! Packets were sent to a device that has no carrier.
//!
//! Without a carrier the root qdisc is `noop`, which drops everything: `QDISC_DROP` in `__dev_queue_xmit`
//! (`net/sched/sch_generic.c`, 6.18), counted in the device's `tx_dropped`. Look-alike: a queue that is
//! too short bears the same reason, on a device that is up.

use whydrop_model::{DropTotal, Evidence, Link, Severity};

use crate::case::Case;
use crate::command;
use crate::rule::Rule;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct LinkDown;

const ID: &str = "link-down";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for LinkDown {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| {
            total.reason == "QDISC_DROP"
                && device(evidence, total).is_some_and(|link| link.carrier == Some(false))
        });
        for group in traced::by_device(case, claims) {
            let told = told(evidence, &group);
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

fn told<'e>(evidence: &'e Evidence, group: &Group<'e>) -> Told {
    let name = group.device_name();
    let (variant, what, usual) = match group.link().and_then(|link| link.kind.as_deref()) {
        Some("veth") => ("peer-down", "its other end", "the other end of the veth pair"),
        Some("vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap") => {
            ("lower-down", "the device below it", "the lower device")
        }
        _ => ("no-carrier", "its link", "the cable, the switch port, or what else makes its link"),
    };
    let behind = group.link_behind(evidence).filter(|_| variant != "no-carrier");
    let (what, up) = match behind {
        Some((namespace, link)) => {
            let line = command::within(namespace, &format!("ip link set {} up", link.name));
            let place = namespace.name.as_deref().map(|name| format!(" in {name}"));
            let what = format!("{what}, {}{}", link.name, place.unwrap_or_default());
            (what, line.filter(|_| !link.up))
        }
        None => (what.to_owned(), None),
    };
    Told {
        variant: Some(variant),
        object: Some(format!("carrier of {name}")),
        summary: format!(
            "{name} has no carrier, and what is sent to it is dropped: bring up {what}"
        ),
        cure: match up {
            Some(line) => format!("`{line}`, and make that permanent where it is configured"),
            None => format!("Bring {usual} up"),
        },
        command: group.device.map(|device| format!("ip -d link show dev {device}")),
        useless: &["txqueuelen and qdisc limits: no queue is involved"],
    }
}

fn device<'e>(evidence: &'e Evidence, total: &DropTotal) -> Option<&'e Link> {
    let namespace = evidence.namespace(total.netns?)?;
    namespace.links.iter().find(|link| link.ifindex == total.ifindex)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Finding, Link, LowerLink};

    use crate::{Thresholds, diagnose, sample};

    /// Drops on a device of this kind above or opposite to another one that is down.
    fn finding(kind: Option<&str>, lower: Option<LowerLink>) -> Finding {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("QDISC_DROP", "__dev_queue_xmit", 30)];
        let links = &mut evidence.namespaces[0].links;
        let (kind, name, carrier) = (kind.map(Into::into), "veth0".into(), Some(false));
        links.push(Link { ifindex: 2, name, kind, up: true, carrier, lower, ..Link::default() });
        links.push(Link { ifindex: 3, name: "veth9".into(), ..Link::default() });
        let mut report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.findings[0].packets), (1, 30));
        report.findings.remove(0)
    }

    #[test]
    fn what_is_behind_the_device_is_named() {
        let behind = Some(LowerLink { ifindex: 3, ..LowerLink::default() });
        for (kind, variant) in [("veth", "peer-down"), ("vlan", "lower-down")] {
            let finding = finding(Some(kind), behind);
            assert_eq!(finding.variant.as_deref(), Some(variant));
            assert!(finding.summary.ends_with("veth9 in b"), "{}", finding.summary);
            let cure = &finding.remedies[0].summary;
            assert!(cure.contains("`ip netns exec b ip link set veth9 up`"), "{cure}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_named() {
        let elsewhere = Some(LowerLink { ifindex: 3, netnsid: Some(0), netns: None });
        let finding_there = finding(Some("veth"), elsewhere);
        assert!(finding_there.summary.ends_with("its other end"), "{}", finding_there.summary);
        assert_eq!(finding(None, None).variant.as_deref(), Some("no-carrier"));
    }
}
