//! What a link message says about links of a certain kind: `IFLA_LINKINFO` and `IFLA_XDP`
//! (`include/uapi/linux/if_link.h`).
//!
//! Fills in fields of a link; an attribute that is missing or unknown leaves its field as it is.

use whydrop_model::{Bridge, BridgePort, Link, Vlan, Xdp};

use crate::netlink::{Attributes, text, u16_at, u32_at};
use crate::tunnel_info;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// What a VLAN is if the kernel does not say so (before 3.10).
const ETH_P_8021Q: u16 = 0x8100;

const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;

const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_LOCKED: u16 = 39;
/// `BR_STATE_*` of `include/uapi/linux/if_bridge.h`.
const BR_STATES: [&str; 5] = ["disabled", "listening", "learning", "forwarding", "blocking"];

const IFLA_BOND_SLAVE_STATE: u16 = 1;

const IFLA_MACVLAN_BC_QUEUE_LEN_USED: u16 = 8;

const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
/// `XDP_ATTACHED_*`, of which 0 means none.
const XDP_MODES: [&str; 4] = ["driver", "generic", "offload", "multiple"];

/// Reads `IFLA_LINKINFO`.
pub(crate) fn read(info: &[u8], link: &mut Link) {
    let find = |wanted| Attributes(info).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    link.kind = find(IFLA_INFO_KIND).map(text);
    if let (Some(kind), Some(data)) = (&link.kind, find(IFLA_INFO_DATA)) {
        match kind.as_str() {
            "vlan" => link.vlan = vlan(data),
            "bridge" => link.bridge = Some(bridge(data)),
            "macvlan" | "macvtap" => {
                link.macvlan_bc_queue_len = Attributes(data)
                    .find(|(kind, _)| *kind == IFLA_MACVLAN_BC_QUEUE_LEN_USED)
                    .and_then(|(_, value)| u32_at(value, 0));
            }
            other => link.tunnel = tunnel_info::read(other, data),
        }
    }
    let Some(data) = find(IFLA_INFO_SLAVE_DATA) else { return };
    match find(IFLA_INFO_SLAVE_KIND).map(text).as_deref() {
        Some("bridge") => link.bridge_port = Some(bridge_port(data)),
        Some("bond") => {
            link.bond_backup = Attributes(data)
                .find(|(kind, _)| *kind == IFLA_BOND_SLAVE_STATE)
                .and_then(|(_, value)| is_set(value));
        }
        _ => {}
    }
}

fn is_set(value: &[u8]) -> Option<bool> {
    value.first().map(|&byte| byte != 0)
}

fn vlan(data: &[u8]) -> Option<Vlan> {
    let (mut id, mut protocol) = (None, ETH_P_8021Q);
    for (kind, value) in Attributes(data) {
        match kind {
            IFLA_VLAN_ID => id = u16_at(value, 0),
            // In network byte order, unlike the rest.
            IFLA_VLAN_PROTOCOL => protocol = u16_at(value, 0).map_or(protocol, u16::from_be),
            _ => {}
        }
    }
    Some(Vlan { id: id?, protocol })
}

fn bridge(data: &[u8]) -> Bridge {
    let mut bridge = Bridge::default();
    for (kind, value) in Attributes(data) {
        match kind {
            IFLA_BR_STP_STATE => bridge.stp_state = u32_at(value, 0).unwrap_or(0),
            IFLA_BR_VLAN_FILTERING => bridge.vlan_filtering = is_set(value).unwrap_or(false),
            _ => {}
        }
    }
    bridge
}

fn bridge_port(data: &[u8]) -> BridgePort {
    // What a kernel cannot switch off it does.
    let mut port = BridgePort {
        learning: true,
        unicast_flood: true,
        mcast_flood: true,
        bcast_flood: true,
        ..BridgePort::default()
    };
    for (kind, value) in Attributes(data) {
        let field = match kind {
            IFLA_BRPORT_STATE => {
                let state = value.first().map(|&state| usize::from(state));
                port.state = state.map_or(String::new(), |state| {
                    BR_STATES.get(state).map_or(state.to_string(), |name| (*name).to_owned())
                });
                continue;
            }
            IFLA_BRPORT_MODE => &mut port.hairpin,
            IFLA_BRPORT_LEARNING => &mut port.learning,
            IFLA_BRPORT_UNICAST_FLOOD => &mut port.unicast_flood,
            IFLA_BRPORT_MCAST_FLOOD => &mut port.mcast_flood,
            IFLA_BRPORT_BCAST_FLOOD => &mut port.bcast_flood,
            IFLA_BRPORT_ISOLATED => &mut port.isolated,
            IFLA_BRPORT_LOCKED => &mut port.locked,
            _ => continue,
        };
        *field = is_set(value).unwrap_or(*field);
    }
    port
}

/// Reads `IFLA_XDP`; `None` if no program is attached.
pub(crate) fn xdp(nested: &[u8]) -> Option<Xdp> {
    let (mut mode, mut programs) = (None, Vec::new());
    for (kind, value) in Attributes(nested) {
        match kind {
            IFLA_XDP_ATTACHED => {
                let attached = usize::from(*value.first()?).checked_sub(1)?;
                mode = Some(XDP_MODES.get(attached).map_or("unknown", |name| *name));
            }
            // The id itself comes first, then once more by mode.
            IFLA_XDP_PROG_ID..=IFLA_XDP_HW_PROG_ID => programs.extend(u32_at(value, 0)),
            _ => {}
        }
    }
    programs.sort_unstable();
    programs.dedup();
    Some(Xdp { mode: mode?.to_owned(), programs })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::push_attribute;

    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            push_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    fn of_kind(kind: &[u8], data: &[u8]) -> Link {
        let mut link = Link::default();
        read(&nested(&[(1, kind), (2, data)]), &mut link);
        link
    }

    fn of_slave_kind(kind: &[u8], data: &[u8]) -> Link {
        let mut link = Link::default();
        read(&nested(&[(1, b"veth\0"), (4, kind), (5, data)]), &mut link);
        link
    }

    #[test]
    fn vlan_of_either_protocol() {
        let id = 100_u16.to_ne_bytes();
        let tagged = of_kind(b"vlan\0", &nested(&[(1, &id), (5, &[0x88, 0xa8])]));
        assert_eq!(tagged.vlan, Some(Vlan { id: 100, protocol: 0x88a8 }));
        let old = of_kind(b"vlan\0", &nested(&[(1, &id)]));
        assert_eq!(old.vlan, Some(Vlan { id: 100, protocol: 0x8100 }));
        assert_eq!(of_kind(b"vlan\0", &nested(&[(2, &[0; 8])])).vlan, None);
        assert_eq!(of_kind(b"vxlan\0", &nested(&[(1, &id)])).vlan, None);
    }

    #[test]
    fn ports_of_bridges_old_and_new() {
        let old = of_slave_kind(b"bridge\0", &nested(&[(1, &[4]), (4, &[1]), (8, &[0])]));
        let port = old.bridge_port.unwrap();
        assert_eq!(port.state, "blocking");
        assert!(port.hairpin && !port.learning && !port.isolated);
        assert!(port.unicast_flood && port.mcast_flood && port.bcast_flood, "never told");
        let new = of_slave_kind(
            b"bridge\0",
            &nested(&[(1, &[3]), (9, &[0]), (27, &[0]), (30, &[0]), (33, &[1]), (39, &[1])]),
        );
        let port = new.bridge_port.unwrap();
        assert_eq!(port.state, "forwarding");
        assert!(port.isolated && port.locked && port.learning);
        assert!(!port.unicast_flood && !port.mcast_flood && !port.bcast_flood);
        let odd = of_slave_kind(b"bridge\0", &nested(&[(1, &[9])]));
        assert_eq!(odd.bridge_port.unwrap().state, "9");
    }

    #[test]
    fn bonds_macvlans_and_bridges() {
        let slave = of_slave_kind(b"bond\0", &nested(&[(1, &[1])]));
        assert_eq!((slave.bond_backup, slave.bridge_port), (Some(true), None));
        let used = 1000_u32.to_ne_bytes();
        let macvlan = of_kind(b"macvlan\0", &nested(&[(7, &[9, 0, 0, 0]), (8, &used)]));
        assert_eq!(macvlan.macvlan_bc_queue_len, Some(1000));
        let bridge = of_kind(b"bridge\0", &nested(&[(5, &[1, 0, 0, 0]), (7, &[1])]));
        assert_eq!(bridge.bridge, Some(Bridge { stp_state: 1, vlan_filtering: true }));
    }

    #[test]
    fn xdp_modes() {
        let id = 77_u32.to_ne_bytes();
        assert_eq!(xdp(&nested(&[(2, &[0])])), None);
        assert_eq!(xdp(&[]), None);
        let generic = xdp(&nested(&[(2, &[2]), (4, &id), (6, &id)])).unwrap();
        assert_eq!(generic, Xdp { mode: "generic".into(), programs: vec![77] });
        let multiple = xdp(&nested(&[(2, &[4]), (6, &id), (7, &[8, 0, 0, 0])])).unwrap();
        assert_eq!(multiple, Xdp { mode: "multiple".into(), programs: vec![8, 77] });
        assert_eq!(xdp(&nested(&[(2, &[200]), (4, &id)])).unwrap().mode, "unknown");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in [&b"vlan\0"[..], b"bridge\0", b"macvlan\0", b"bond\0"] {
                of_kind(kind, &bytes);
                of_slave_kind(kind, &bytes);
            }
            read(&bytes, &mut Link::default());
            xdp(&bytes);
        }
    }
}
