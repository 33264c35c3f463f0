//! What a link message says about tunnels: `IFLA_INFO_DATA` of their kinds
//! (`include/uapi/linux/if_link.h` and `if_tunnel.h`).
//!
//! Each kind numbers its attributes on its own; a table says which is which. An attribute that is
//! missing or unknown leaves its field empty.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whydrop_model::Tunnel;

use crate::netlink::{Attributes, u32_at};

/// The attributes of one family of kinds; 0 where it has none such.
struct Numbers {
    kinds: &'static [&'static str],
    vni: u16,
    remote: [u16; 2],
    local: [u16; 2],
    port: u16,
    external: u16,
}

const FAMILIES: [Numbers; 5] = [
    Numbers { kinds: &["vxlan"], vni: 1, remote: [2, 16], local: [4, 17], port: 15, external: 25 },
    Numbers { kinds: &["geneve"], vni: 1, remote: [2, 7], local: [0, 0], port: 5, external: 6 },
    Numbers {
        kinds: &["gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"],
        vni: 0,
        remote: [7, 0],
        local: [6, 0],
        port: 0,
        external: 18,
    },
    Numbers {
        kinds: &["ipip", "sit", "ip6tnl"],
        vni: 0,
        remote: [3, 0],
        local: [2, 0],
        port: 0,
        external: 19,
    },
    Numbers {
        kinds: &["vti", "vti6"],
        vni: 0,
        remote: [5, 0],
        local: [4, 0],
        port: 0,
        external: 0,
    },
];

/// The settings of a tunnel of this kind; `None` if it is none.
pub(crate) fn read(kind: &str, data: &[u8]) -> Option<Tunnel> {
    let numbers = FAMILIES.iter().find(|family| family.kinds.contains(&kind))?;
    let mut tunnel = Tunnel::default();
    for (attribute, value) in Attributes(data) {
        match attribute {
            0 => {}
            it if it == numbers.vni => tunnel.vni = u32_at(value, 0),
            it if numbers.remote.contains(&it) => tunnel.remote = address(value),
            it if numbers.local.contains(&it) => tunnel.local = address(value),
            it if it == numbers.port => {
                tunnel.port = value.first_chunk().copied().map(u16::from_be_bytes);
            }
            // A flag to some kinds, a number to others.
            it if it == numbers.external => tunnel.external = value.first() != Some(&0),
            _ => {}
        }
    }
    if tunnel.external {
        tunnel.vni = None;
    }
    Some(tunnel)
}

/// `None` for the address that stands for none.
fn address(value: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = match value.len() {
        4 => Ipv4Addr::from(*value.first_chunk::<4>()?).into(),
        16 => Ipv6Addr::from(*value.first_chunk::<16>()?).into(),
        _ => return None,
    };
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::push_attribute;

    fn of(kind: &str, attributes: &[(u16, &[u8])]) -> Tunnel {
        let mut data = Vec::new();
        for (number, value) in attributes {
            push_attribute(&mut data, *number, value);
        }
        read(kind, &data).expect("a tunnel")
    }

    #[test]
    fn vxlan_of_either_family() {
        let id = 10_u32.to_ne_bytes();
        let port = 4789_u16.to_be_bytes();
        let plain = of("vxlan", &[(1, &id), (2, &[192, 0, 2, 1]), (15, &port), (25, &[0])]);
        assert_eq!((plain.vni, plain.port, plain.external), (Some(10), Some(4789), false));
        assert_eq!(plain.remote, "192.0.2.1".parse().ok());
        let mut other = [0; 16];
        other[15] = 1;
        let v6 = of("vxlan", &[(16, &other), (17, &[0; 16])]);
        assert_eq!((v6.remote, v6.local), ("::1".parse().ok(), None));
        let external = of("vxlan", &[(1, &[0; 4]), (25, &[1])]);
        assert_eq!((external.vni, external.external), (None, true));
    }

    #[test]
    fn tunnels_of_other_kinds() {
        let geneve = of("geneve", &[(1, &7_u32.to_ne_bytes()), (6, &[])]);
        assert_eq!((geneve.vni, geneve.external), (None, true), "a flag without a value");
        let ends: [(u16, &[u8]); 4] = [
            (2, &[192, 0, 2, 2]),
            (3, &[192, 0, 2, 3]),
            (6, &[192, 0, 2, 6]),
            (7, &[192, 0, 2, 7]),
        ];
        let ipip = of("ipip", &ends);
        assert_eq!((ipip.local, ipip.remote), ("192.0.2.2".parse().ok(), "192.0.2.3".parse().ok()));
        let gre = of("gretap", &ends);
        assert_eq!((gre.local, gre.remote), ("192.0.2.6".parse().ok(), "192.0.2.7".parse().ok()));
        assert_eq!(read("veth", &[]), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for family in &FAMILIES {
                read(family.kinds[0], &bytes);
            }
        }
    }
}
