//! The host's own interface is administratively down.
//!
//! A tun device that is down refuses what its program writes: `DEV_READY` in `tun_get_user`
//! (`drivers/net/tun.c`, 6.18) with EIO. Packets already on their way to a device that goes down die as
//! `DEV_READY` in `enqueue_to_backlog`. The routes of a device that is down are gone: local sends fail and
//! count as `OutNoRoutes`, which is told so only where a device with addresses of that family is down.
//! Look-alikes: a device that is up and has no carrier; a bridge that is down, which its ports tell.

use std::net::IpAddr;

use whydrop_model::{
    Confidence, DropTotal, Evidence, EvidenceItem, EvidenceKind, Link, Namespace, Remedy, Severity,
    Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct InterfaceDown;

const ID: &str = "interface-down";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

const SIGNATURES: &[Signature] =
    &[drops("DEV_READY", "tun_get_user"), drops("DEV_READY", "enqueue_to_backlog")];

/// Whether an address is of a family.
type Family = fn(&IpAddr) -> bool;

/// What a local send without a route counts, by family.
const REFUSED: [(&str, Family); 2] =
    [("Ip.OutNoRoutes", IpAddr::is_ipv4), ("snmp6.Ip6OutNoRoutes", IpAddr::is_ipv6)];

impl Rule for InterfaceDown {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims = case.claim(|total| {
            let ours = SIGNATURES.iter().any(|it| it.matches(total));
            ours && link(evidence, total).is_none_or(|link| !link.up)
        });
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let written = group.first().and_then(|total| total.site.as_ref());
            let written = written.is_some_and(|site| site.symbol == "tun_get_user");
            let told = Told {
                variant: Some(if written { "tun" } else { "device" }),
                object: Some(format!("state of {device}")),
                summary: format!(
                    "{device} is down, and {} is refused: set it up",
                    if written { "what its program writes" } else { "what it is given" }
                ),
                cure: format!("Set {device} up, and make that permanent where it is configured"),
                command: group.device.map(|device| format!("ip link set {device} up")),
                useless: &["queues and rings of the device: it takes nothing while it is down"],
            };
            let down = group.link().is_some_and(|link| !link.up);
            let state =
                down.then(|| EvidenceItem::new(EvidenceKind::State, device, "down".to_owned()));
            group.agreed(state).conclude(case, ID, Severity::Critical, &KIND, told);
        }
        for namespace in case.namespaces() {
            for (counter, family) in REFUSED {
                refused(case, namespace, counter, family);
            }
        }
    }
}

fn link<'e>(evidence: &'e Evidence, total: &DropTotal) -> Option<&'e Link> {
    let links = &evidence.namespace(total.netns?)?.links;
    links.iter().find(|link| link.ifindex == total.ifindex)
}

/// Local sends that found no route while a device with addresses of their family is down. Several such
/// devices leave it open which was meant.
fn refused(case: &mut Case<'_>, namespace: &Namespace, counter: &'static str, family: Family) {
    let refused = case.unbooked(namespace, counter).unwrap_or(0);
    let down = namespace.links.iter().filter(|link| !link.up && link.addresses.iter().any(family));
    let down: Vec<_> = down.collect();
    let (Some(first), true) = (down.first(), refused > 0) else { return };
    case.book(namespace, counter, refused);
    let names: Vec<_> = down.iter().map(|link| link.name.as_str()).collect();
    let names = names.join(", ");
    let mut evidence = vec![EvidenceItem::new(EvidenceKind::Counter, counter, refused)];
    for link in &down {
        evidence.push(EvidenceItem::new(
            EvidenceKind::State,
            link.name.clone(),
            "down, with addresses".to_owned(),
        ));
    }
    let set_up = command::within(namespace, &format!("ip link set {} up", first.name));
    let conclusion = Conclusion {
        variant: Some("device"),
        severity: Severity::Critical,
        confidence: Confidence::Possible,
        loss: Loss::counted(refused),
        site: Site {
            device: (down.len() == 1).then(|| first.name.clone()),
            object: Some(format!("state of {names}")),
            ..case.site_of(Some(namespace.inode))
        },
        summary: format!(
            "Local programs find no route while {names} is down, which takes its routes away. It is this if \
             what they send to is in one of its networks or was routed by it: then set it up"
        ),
        evidence,
        remedies: vec![Remedy {
            summary: format!(
                "`ip route get <destination that fails>` while it is down and again when it is up makes \
                 sure: the counter does not tell the destination. Set {names} up, add the routes that were \
                 not its networks again, and make that permanent where it is configured"
            ),
            commands: set_up.filter(|_| down.len() == 1).into_iter().collect(),
            useless: vec![
                "routes over another interface: they leave asymmetric paths behind".into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Link};

    use crate::{Thresholds, diagnose, sample};

    fn with_device(up: bool, address: &str) -> Evidence {
        let mut evidence = sample::evidence();
        let addresses = vec![address.parse().expect("an address")];
        let link = Link { ifindex: 2, name: "eth1".into(), up, addresses, ..Link::default() };
        evidence.namespaces[0].links.push(link);
        evidence
    }

    #[test]
    fn a_tun_that_is_down_and_one_that_is_up() {
        for (up, cause) in [(false, "interface-down"), (true, "unexplained")] {
            let mut evidence = with_device(up, "192.0.2.9");
            evidence.tracer.totals = vec![sample::total("DEV_READY", "tun_get_user", 30)];
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!(report.findings[0].cause, cause);
            assert_eq!(report.ledger.lost, 30);
        }
    }

    #[test]
    fn sends_without_a_route_need_a_device_that_is_down() {
        for (up, address, lost) in
            [(false, "192.0.2.9", 30), (true, "192.0.2.9", 0), (false, "2001:db8::9", 0)]
        {
            let mut evidence = with_device(up, address);
            sample::count(&mut evidence, "Ip.OutNoRoutes", 30);
            let report = diagnose(&evidence, &Thresholds::default());
            let found = report.findings.iter().any(|it| it.cause == "interface-down");
            assert_eq!((found, report.ledger.lost), (lost > 0, lost), "{up} {address}");
        }
    }
}
