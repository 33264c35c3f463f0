//! A flag of a bridge port, or the bridge's VLAN filter, forbids the frame.
//!
//! `NO_TX_TARGET` in `br_handle_frame_finish`: no port floods to unknown stations, or on a bridge that
//! filters VLANs none that does is a member of the frame's. Without a reason in the same function
//! (`net/bridge/br_input.c`, 6.18): the port is isolated from the one it should leave by, or locked and
//! does not know the sender; the ports' flags tell which. Without a reason in `br_allowed_ingress`
//! (`br_vlan.c`, with `__allowed_ingress` inlined or not): the port is no member of the frame's VLAN, or
//! has no PVID for a frame without a tag.

use whydrop_model::{DropTotal, Evidence, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct BridgePortPolicy;

const ID: &str = "bridge-port-policy";
const KIND: Kind = Kind { variant: None, signatures: &[], counters: &[] };

/// Variant, the line that ends it, and the one that shows it.
const VARIANTS: [(&str, &str, &str); 4] = [
    ("locked", "bridge link set dev <port> locked off", "bridge -d link"),
    ("isolated", "bridge link set dev <port> isolated off", "bridge -d link"),
    ("flood-off", "bridge link set dev <port> flood on", "bridge -d link"),
    ("vlan", "bridge vlan add dev <port> vid <id> [pvid untagged]", "bridge vlan show"),
];

impl Rule for BridgePortPolicy {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        for (wanted, cure, command) in VARIANTS {
            let claims = case.claim(|total| variant(evidence, total) == Some(wanted));
            for group in traced::gather(case, claims) {
                let port = group.device_name();
                let (object, why) = match wanted {
                    "vlan" => (
                        format!("VLAN membership of bridge port {port}"),
                        "their VLAN is not allowed on it, or on any port that they could leave by"
                            .into(),
                    ),
                    flag => (
                        format!("flags of bridge port {port} ({flag})"),
                        format!("as configured: {flag}"),
                    ),
                };
                let told = Told {
                    variant: Some(wanted),
                    object: Some(object),
                    summary: format!(
                        "Frames that come in by bridge port {port} are dropped, {why}"
                    ),
                    cure: format!(
                        "If this traffic is wanted: `{cure}`, and the same where the port is configured"
                    ),
                    command: Some(command.into()),
                    useless: &["a static fdb entry on another port: the port is looked at first"],
                };
                group.conclude(case, ID, Severity::Notice, &KIND, told);
            }
        }
    }
}

fn variant(evidence: &Evidence, total: &DropTotal) -> Option<&'static str> {
    let symbol = total.site.as_ref()?.symbol.as_str();
    if total.reason == "NOT_SPECIFIED"
        && matches!(symbol, "br_allowed_ingress" | "__allowed_ingress")
    {
        return Some("vlan");
    }
    if symbol != "br_handle_frame_finish" {
        return None;
    }
    let links = &evidence.namespace(total.netns?)?.links;
    let ingress = links.iter().find(|link| link.ifindex == total.ifindex)?;
    let port = ingress.bridge_port.as_ref()?;
    let master = links.iter().find(|link| Some(link.ifindex) == ingress.master);
    let filters = master.and_then(|link| link.bridge).is_some_and(|bridge| bridge.vlan_filtering);
    let mut others = links
        .iter()
        .filter(|link| link.master == ingress.master && link.ifindex != ingress.ifindex)
        .filter_map(|link| link.bridge_port.as_ref());
    let floods = others.any(|other| other.unicast_flood && other.state == "forwarding");
    match total.reason.as_str() {
        "NO_TX_TARGET" if filters && floods => Some("vlan"),
        "NO_TX_TARGET" => Some("flood-off"),
        "NOT_SPECIFIED" if port.locked => Some("locked"),
        "NOT_SPECIFIED" if port.isolated => Some("isolated"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Bridge, BridgePort, Evidence, Link};

    use crate::{Thresholds, diagnose, sample};

    /// Two ports of a bridge, which both flood; frames come in by the first.
    fn bridge(vlan_filtering: bool, reason: &str, symbol: &str) -> Evidence {
        let mut evidence = sample::evidence();
        let mut total = sample::total(reason, symbol, 30);
        total.device = Some("pa".into());
        evidence.tracer.totals = vec![total];
        let port =
            BridgePort { state: "forwarding".into(), unicast_flood: true, ..BridgePort::default() };
        let links = &mut evidence.namespaces[0].links;
        let settings = Bridge { stp_state: 0, vlan_filtering };
        links.push(Link { ifindex: 9, bridge: Some(settings), up: true, ..Link::default() });
        for (ifindex, name) in [(2, "pa"), (3, "pb")] {
            let (name, bridge_port) = (name.to_owned(), Some(port.clone()));
            links.push(Link { ifindex, name, master: Some(9), bridge_port, ..Link::default() });
        }
        evidence
    }

    fn told(evidence: &Evidence) -> (String, Option<String>) {
        let mut report = diagnose(evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.findings[0].packets), (1, 30));
        let finding = report.findings.remove(0);
        (finding.cause, finding.variant)
    }

    #[test]
    fn the_vlan_filter_is_told_from_flags() {
        let policy = |variant: &str| (super::ID.to_owned(), Some(variant.to_owned()));
        for symbol in ["br_allowed_ingress", "__allowed_ingress"] {
            assert_eq!(told(&bridge(true, "NOT_SPECIFIED", symbol)), policy("vlan"));
        }
        let unknown = |filters| bridge(filters, "NO_TX_TARGET", "br_handle_frame_finish");
        assert_eq!(told(&unknown(true)), policy("vlan"), "the other port would flood");
        assert_eq!(told(&unknown(false)), policy("flood-off"));
        let mut off = unknown(true);
        for link in &mut off.namespaces[0].links {
            if let Some(port) = &mut link.bridge_port {
                port.unicast_flood = false;
            }
        }
        assert_eq!(told(&off), policy("flood-off"));
        let silent = bridge(true, "NOT_SPECIFIED", "br_handle_frame_finish");
        assert_eq!(told(&silent).0, "bridge-fdb-misdirected");
    }
}
