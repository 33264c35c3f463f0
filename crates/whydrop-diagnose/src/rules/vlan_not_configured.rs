//! Tagged frames arrive for a VLAN that has no device here.
//!
//! `__netif_receive_skb_core` (`net/core/dev.c`, 6.18) marks such a frame as another host's and takes the
//! tag off, so that `OTHERHOST` in `ip_rcv_core` or `ip6_rcv_core` comes without it. What gives it away: the
//! frame carries the very address of the device it came in by, and for no other reason would it be taken
//! for another's. Look-alike: frames whose address is foreign, for us or for others.

use whydrop_model::{DropTotal, Evidence, EvidenceItem, EvidenceKind, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct VlanNotConfigured;

const ID: &str = "vlan-not-configured";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

impl Rule for VlanNotConfigured {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let claims =
            case.claim(|total| total.reason == "OTHERHOST" && to_this_device(evidence, total));
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            // Before 6.2 the tag is still there.
            let ids = group.exemplars().iter().filter_map(|one| one.vlan);
            let id = traced::listed(ids.map(|id| id.to_string()));
            let vlan = id.map_or("a VLAN".into(), |id| format!("VLAN {id}"));
            let known = known(&group);
            let told = Told {
                object: Some(format!("VLAN devices on {device}")),
                summary: format!(
                    "Frames for {device} arrive with the tag of {vlan} that has no device here (here: \
                     {known}): add the VLAN device, or take the VLAN off the trunk"
                ),
                cure: format!(
                    "`tcpdump` shows the id. If the VLAN is wanted: `ip link add link {device} name \
                     {device}.<id> type vlan id <id>`, set it up and give it its address; if not, remove it \
                     from the switch port"
                ),
                command: group.device.map(|device| format!("tcpdump -eni {device} -c 5 vlan")),
                useless: &["promiscuous mode or another MAC address: the address was right"],
                ..Told::default()
            };
            let state = EvidenceItem::new(
                EvidenceKind::State,
                format!("VLAN devices on {device}"),
                known.clone(),
            );
            group.agreed([state]).conclude(case, ID, Severity::Notice, &KIND, told);
        }
    }
}

/// True if frames seen in detail carry the address of the device that received them.
fn to_this_device(evidence: &Evidence, total: &DropTotal) -> bool {
    let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
    let links = namespace.map_or(&[][..], |namespace| &namespace.links);
    let link = links.iter().find(|link| link.ifindex == total.ifindex);
    let Some(own) = link.and_then(|link| link.mac.as_ref()) else { return false };
    let exemplars = evidence.tracer.exemplars.iter().filter(|one| one.is_of(total));
    let mut ethers = exemplars.filter_map(|one| one.ether.as_ref()).peekable();
    ethers.peek().is_some() && ethers.all(|ether| ether.destination == *own)
}

/// The VLANs that have a device on this one, in words.
fn known(group: &Group<'_>) -> String {
    let links = group.namespace.map_or(&[][..], |namespace| &namespace.links);
    let lower = group.first().map(|total| total.ifindex);
    let ids = links.iter().filter_map(|link| {
        let here = link.lower.is_some_and(|it| Some(it.ifindex) == lower && it.netns.is_none());
        link.vlan.filter(|_| here).map(|vlan| vlan.id.to_string())
    });
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() { "none".into() } else { ids.join(", ") }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Ether, Link, LowerLink, Vlan};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_address_of_the_frame_tells() {
        for (destination, cause) in [
            ("02:00:00:00:00:0b", Some("vlan-not-configured")),
            ("02:00:00:00:00:99", None),
            ("ff:ff:ff:ff:ff:ff", None),
        ] {
            let mut evidence = sample::evidence();
            let total = sample::total("OTHERHOST", "ip_rcv_core", 30);
            let mut exemplar = sample::exemplar(&total, 4000);
            let source = "02:00:00:00:00:0a".to_owned();
            exemplar.ether = Some(Ether { source, destination: destination.into() });
            evidence.tracer.exemplars = vec![exemplar];
            evidence.tracer.totals = vec![total];
            let mac = Some("02:00:00:00:00:0b".to_owned());
            let links = &mut evidence.namespaces[0].links;
            links.push(Link { ifindex: 2, name: "veth0".into(), mac, ..Link::default() });
            links.push(Link {
                ifindex: 3,
                vlan: Some(Vlan { id: 7, protocol: 0x8100 }),
                lower: Some(LowerLink { ifindex: 2, ..LowerLink::default() }),
                ..Link::default()
            });
            let report = diagnose(&evidence, &Thresholds::default());
            let found = report.findings.first();
            assert_eq!(found.map(|it| it.cause.as_str()), cause, "{destination}");
            if let Some(finding) = found {
                assert_eq!(finding.packets, 30);
                assert!(finding.summary.contains("(here: 7)"), "{}", finding.summary);
            }
        }
    }
}
