//! A tunnel device does not know where to send a packet.
//!
//! `NO_TX_TARGET` in `vxlan_xmit` or `vxlan_mdb_xmit` (6.14+; `VXLAN_NO_REMOTE` in 6.13): neither the
//! forwarding database nor a default remote says to which endpoint. `TUNNEL_TXINFO` (6.13+): the device is
//! `external` and the packet came without metadata. Look-alikes: the remote is known and cannot be routed to
//! (`IP_OUTNOROUTES`), and a bridge that floods to no port (`NO_TX_TARGET` in `br_handle_frame_finish`).

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct TunnelNoRemote;

const ID: &str = "tunnel-no-remote";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("no-fdb"),
        signatures: &[
            drops("NO_TX_TARGET", "vxlan_xmit"),
            drops("NO_TX_TARGET", "vxlan_mdb_xmit"),
            drops("VXLAN_NO_REMOTE", "*"),
        ],
        counters: &[],
    },
    Kind {
        variant: Some("no-metadata"),
        signatures: &[drops("TUNNEL_TXINFO", "*")],
        counters: &[],
    },
];

impl Rule for TunnelNoRemote {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in KINDS {
            let claims = case.claim(|total| kind.signatures.iter().any(|it| it.matches(total)));
            for group in traced::by_device(case, claims) {
                let grown = group.link_counters(&["tx_dropped"]);
                let told = if kind.variant == Some("no-fdb") {
                    no_entry(&group)
                } else {
                    no_metadata(&group)
                };
                group.agreed(grown).conclude(case, ID, Severity::Critical, kind, told);
            }
        }
    }
}

fn no_entry(group: &Group<'_>) -> Told {
    let device = group.device_name();
    let stations = group.exemplars().iter().filter_map(|one| one.ether.as_ref());
    let stations = traced::listed(stations.map(|ether| ether.destination.clone()))
        .unwrap_or_else(|| "stations not seen in detail".into());
    Told {
        object: Some(format!("forwarding database of {device}")),
        summary: format!(
            "{device} knows no endpoint for {stations} and has no default remote: give it an entry, or mend \
             what announces it"
        ),
        cure: format!(
            "Where EVPN, a CNI or a controller fills the database, mend the announcement. Where frames to \
             unknown stations are meant to be flooded: `bridge fdb append 00:00:00:00:00:00 dev {device} \
             dst <remote>`"
        ),
        command: group.device.map(|device| format!("bridge fdb show dev {device}")),
        useless: &["routes and MTU of the underlay: no outer packet was made"],
        ..Told::default()
    }
}

fn no_metadata(group: &Group<'_>) -> Told {
    let device = group.device_name();
    Told {
        object: Some(format!("external mode of {device}")),
        summary: format!(
            "{device} takes its remote from each packet (external), and these came without one: route them \
             with an encapsulation, or give them to a device with a fixed remote"
        ),
        cure: format!(
            "Let the route carry it (`ip route replace <prefix> encap ip id <vni> dst <remote> dev {device}`), \
             or tc `tunnel_key set`, or the agent that owns the device"
        ),
        command: group.device.map(|device| format!("ip route show dev {device}")),
        useless: &["a forwarding entry or a default remote: an external device looks at neither"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn both_variants_and_no_bridge() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("NO_TX_TARGET", "vxlan_xmit", 30),
            sample::total("TUNNEL_TXINFO", "vxlan_xmit", 20),
            sample::total("NO_TX_TARGET", "br_handle_frame_finish", 10),
        ];
        let report = diagnose(&evidence, &Thresholds::default());
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.cause == "tunnel-no-remote")
            .map(|finding| (finding.variant.as_deref(), finding.packets))
            .collect();
        assert_eq!(found, [(Some("no-fdb"), 30), (Some("no-metadata"), 20)]);
    }
}
