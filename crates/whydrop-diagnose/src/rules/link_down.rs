//! Packets were sent to a device that has no carrier.
//!
//! Without a carrier the root qdisc is `noop`, which drops everything: `QDISC_DROP` in `__dev_queue_xmit`
//! (`net/sched/sch_generic.c`, 6.18), counted in the device's `tx_dropped`. Look-alike: a queue that is
//! too short bears the same reason, on a device that is up.
//!
//! Until the kernel gets there, a second later at most (`net/core/link_watch.c`), what is sent to the end
//! of a pair is handed to the other end, which is down and refuses it: a drop without a reason, in
//! `__dev_forward_skb2` (`net/core/dev.c`). Look-alike: what is longer than that end takes.

use whydrop_model::{DropTotal, Evidence, Link, Severity};

use crate::case::Case;
use crate::command;
use crate::rule::Rule;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct LinkDown;

const ID: &str = "link-down";
/// What every host must accept (RFC 791), so that hardly a link has a smaller MTU.
pub(super) const EVERY_MTU: u32 = 576;
/// Ethernet header and VLAN tag, which come on top of the MTU (`__is_skb_forwardable()`,
/// `include/linux/netdevice.h`).
pub(super) const HEADERS: u32 = 14 + 4;
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for LinkDown {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| {
            refused_while_down(evidence, total)
                || total.reason == "QDISC_DROP"
                    && device(evidence, total).is_some_and(|link| link.carrier == Some(false))
        });
        for group in traced::by_device(case, claims) {
            let told = told(evidence, &group);
            group.conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

/// True of drops at the other end of a pair, if they were not too long for it and it was down at some
/// time.
pub(super) fn refused_while_down(evidence: &Evidence, total: &DropTotal) -> bool {
    let Some(link) = device(evidence, total).filter(|_| is_refused(total)) else { return false };
    let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
    let behind = namespace.and_then(|namespace| traced::behind(evidence, namespace, link));
    let end = behind.map(|(_, end)| end).filter(|_| link.kind.as_deref() == Some("veth"));
    let longest = u64::from(end.map_or(EVERY_MTU, |end| end.mtu) + HEADERS);
    let flapped = link.carrier_changes.is_some_and(|changes| changes.delta() > 0);
    (flapped || link.carrier == Some(false)) && total.bytes <= total.packets.saturating_mul(longest)
}

/// One end of a pair handed them to the other, which did not take them.
pub(super) fn is_refused(total: &DropTotal) -> bool {
    let symbol = total.site.as_ref().map(|site| site.symbol.as_str());
    total.reason == "NOT_SPECIFIED"
        && matches!(symbol, Some("__dev_forward_skb2" | "__dev_forward_skb"))
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
    let (summary, cure) = if group.link().is_some_and(|link| link.carrier == Some(true)) {
        (
            format!(
                "{name} had no carrier for a time, and what was sent to it was dropped: keep {what} up"
            ),
            format!("Find out what takes {usual} down"),
        )
    } else {
        (
            format!("{name} has no carrier, and what is sent to it is dropped: bring up {what}"),
            match up {
                Some(line) => format!("`{line}`, and make that permanent where it is configured"),
                None => format!("Bring {usual} up"),
            },
        )
    };
    Told {
        variant: Some(variant),
        object: Some(format!("carrier of {name}")),
        summary,
        cure,
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
    use whydrop_model::{Finding, Link, LowerLink, Pair};

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

    /// What is said of thirty packets of 60 bytes that the other end did not take.
    fn refused(carrier: bool, changes: u64, mtu: u32) -> (String, String) {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("NOT_SPECIFIED", "__dev_forward_skb2", 30)];
        let kind = || Some("veth".into());
        let veth0 = Link {
            ifindex: 2,
            name: "veth0".into(),
            kind: kind(),
            carrier: Some(carrier),
            carrier_changes: Some(Pair { before: 2, after: 2 + changes }),
            lower: Some(LowerLink { ifindex: 3, ..LowerLink::default() }),
            ..Link::default()
        };
        let veth9 = Link { ifindex: 3, name: "veth9".into(), mtu, kind: kind(), ..Link::default() };
        evidence.namespaces[0].links.extend([veth0, veth9]);
        let mut report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.findings[0].packets), (1, 30));
        let finding = report.findings.remove(0);
        (finding.cause, finding.summary)
    }

    #[test]
    fn what_the_other_end_refuses_tells_its_length_or_its_state() {
        let (cause, summary) = refused(false, 1, 1500);
        assert!(cause == "link-down" && summary.contains("has no carrier"), "{cause}: {summary}");
        let (cause, summary) = refused(true, 2, 1500);
        assert!(cause == "link-down" && summary.contains("for a time"), "{cause}: {summary}");
        assert_eq!(refused(true, 0, 1500).0, "link-mtu-mismatch", "nothing was down");
        assert_eq!(refused(true, 2, 40).0, "link-mtu-mismatch", "they are too long");
    }

    #[test]
    fn what_is_not_known_is_not_named() {
        let elsewhere = Some(LowerLink { ifindex: 3, netnsid: Some(0), netns: None });
        let finding_there = finding(Some("veth"), elsewhere);
        assert!(finding_there.summary.ends_with("its other end"), "{}", finding_there.summary);
        assert_eq!(finding(None, None).variant.as_deref(), Some("no-carrier"));
    }
}
