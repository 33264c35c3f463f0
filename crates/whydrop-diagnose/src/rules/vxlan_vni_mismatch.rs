//! VXLAN packets arrive for a network that no device here carries.
//!
//! `VXLAN_VNI_NOT_FOUND` in `vxlan_rcv` (`drivers/net/vxlan/vxlan_core.c`, 6.13+): the UDP port is right,
//! the network identifier is not. Look-alikes: no device listens on the port (`NO_SOCKET`), or the header
//! is not VXLAN (`VXLAN_INVALID_HDR`).

use whydrop_model::{EvidenceItem, EvidenceKind, Link, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct VxlanVniMismatch;

const ID: &str = "vxlan-vni-mismatch";

const KIND: Kind =
    Kind { variant: None, signatures: &[drops("VXLAN_VNI_NOT_FOUND", "*")], counters: &[] };

impl Rule for VxlanVniMismatch {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, KIND.signatures) {
            let from = group.sources();
            let numbers = group.exemplars().iter().filter_map(|one| one.vni);
            let asked = traced::listed(numbers.map(|vni| vni.to_string()));
            let here = carried(&group);
            let asked = asked.unwrap_or_else(|| "a number not seen in detail".into());
            let state = (!here.is_empty()).then(|| {
                EvidenceItem::new(EvidenceKind::State, "VXLAN devices here", here.clone())
            });
            let here = if here.is_empty() { "there is none".into() } else { here };
            let told = Told {
                object: Some(format!("VXLAN network {asked} from {from}")),
                summary: format!(
                    "VXLAN packets for network {asked} come from {from}, and no device here carries it \
                     ({here}): use the same VNI on both ends"
                ),
                cure: format!(
                    "Recreate the VXLAN device of the end that is wrong: its id cannot be changed. If the \
                     network was retired here, take this host out of the forwarding database of {from}"
                ),
                command: Some("ip -d link show type vxlan".into()),
                useless: &[
                    "MTU, firewall and rp_filter: the packets already reached the VXLAN code",
                ],
                ..Told::default()
            };
            group.agreed(state).conclude(case, ID, Severity::Warning, &KIND, told);
        }
    }
}

/// What the VXLAN devices of the namespace carry, in words.
fn carried(group: &Group<'_>) -> String {
    let links = group.namespace.map_or(&[][..], |namespace| &namespace.links);
    let vni = |link: &Link| {
        let tunnel = link.tunnel.filter(|_| link.kind.as_deref() == Some("vxlan"))?;
        let vni = tunnel.vni.map_or("any number told to it".into(), |vni| vni.to_string());
        Some(format!("{} carries {vni}", link.name))
    };
    links.iter().filter_map(vni).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, Link, Tunnel};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn both_numbers_are_named() {
        let mut evidence = sample::evidence();
        let total = sample::total("VXLAN_VNI_NOT_FOUND", "vxlan_rcv", 30);
        let mut exemplar = sample::exemplar(&total, 4000);
        exemplar.vni = Some(10);
        evidence.tracer.exemplars = vec![exemplar];
        evidence.tracer.totals = vec![total];
        evidence.namespaces[0].links.push(Link {
            name: "vx0".into(),
            kind: Some("vxlan".into()),
            tunnel: Some(Tunnel { vni: Some(11), ..Tunnel::default() }),
            ..Link::default()
        });
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("vxlan-vni-mismatch", 30));
        assert_eq!(finding.confidence, Confidence::Confirmed);
        assert!(finding.summary.contains("network 10"), "{}", finding.summary);
        assert!(finding.summary.contains("vx0 carries 11"), "{}", finding.summary);
    }

    #[test]
    fn a_port_nobody_listens_on_is_another_matter() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("NO_SOCKET", "__udp4_lib_rcv", 3),
            sample::total("VXLAN_INVALID_HDR", "vxlan_rcv", 3),
        ];
        let report = diagnose(&evidence, &Thresholds::default());
        assert!(report.findings.iter().all(|it| it.cause != "vxlan-vni-mismatch"));
    }
}
