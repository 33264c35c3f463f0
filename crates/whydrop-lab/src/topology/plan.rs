//! The topologies as tables.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One end of a wire (a veth pair).
pub(super) struct End {
    pub(super) role: &'static str,
    pub(super) device: &'static str,
    pub(super) mac: &'static str,
    /// None for the port of a bridge.
    pub(super) addresses: Option<(Ipv4Addr, Ipv6Addr)>,
}

pub(super) struct Plan {
    pub(super) roles: &'static [&'static str],
    pub(super) wires: &'static [(End, End)],
    /// Role and `ip` line, carried out once the wires are up.
    pub(super) lines: &'static [(&'static str, &'static str)],
    /// The same, only where there is IPv6.
    pub(super) lines6: &'static [(&'static str, &'static str)],
    /// Roles that pass on what is not for them.
    pub(super) forwarding: &'static [&'static str],
}

const fn end(role: &'static str, device: &'static str, mac: &'static str) -> End {
    End { role, device, mac, addresses: None }
}

/// An end with addresses; those of IPv6 are told by their first, second and last word.
const fn host(
    role: &'static str,
    device: &'static str,
    mac: &'static str,
    v4: [u8; 4],
    v6: (u16, u16, u16),
) -> End {
    let [a, b, c, d] = v4;
    let v4 = Ipv4Addr::new(a, b, c, d);
    let v6 = Ipv6Addr::new(v6.0, v6.1, 0, 0, 0, 0, 0, v6.2);
    End { role, device, mac, addresses: Some((v4, v6)) }
}

const MAC_A: &str = "02:00:00:00:00:0a";
const MAC_B: &str = "02:00:00:00:00:0b";
const MAC_C: &str = "02:00:00:00:00:0c";

/// The crafted peers live behind a neighbour that b need not ask for.
const CRAFTED_PEERS: &[(&str, &str)] = &[
    ("b", "neigh add 10.99.0.77 lladdr 02:00:00:00:00:4d dev veth0 nud permanent"),
    ("b", "route add 10.99.77.0/24 via 10.99.0.77"),
];

const CRAFTED_PEERS6: &[(&str, &str)] = &[
    ("b", "neigh add fd99::4d lladdr 02:00:00:00:00:4d dev veth0 nud permanent"),
    ("b", "route add fd99:77::/64 via fd99::4d"),
];

pub(super) const PAIR: Plan = Plan {
    roles: &["a", "b"],
    wires: &[(
        host("a", "veth0", MAC_A, [10, 99, 0, 1], (0xfd99, 0, 1)),
        host("b", "veth0", MAC_B, [10, 99, 0, 2], (0xfd99, 0, 2)),
    )],
    lines: CRAFTED_PEERS,
    lines6: CRAFTED_PEERS6,
    forwarding: &[],
};

pub(super) const PAIR_TWO_LINKS: Plan = Plan {
    roles: &["a", "b"],
    wires: &[
        (
            host("a", "veth0", MAC_A, [10, 99, 0, 1], (0xfd99, 0, 1)),
            host("b", "veth0", MAC_B, [10, 99, 0, 2], (0xfd99, 0, 2)),
        ),
        (
            host("a", "veth1", "02:00:00:00:01:0a", [10, 98, 0, 1], (0xfd98, 0, 1)),
            host("b", "veth1", "02:00:00:00:01:0b", [10, 98, 0, 2], (0xfd98, 0, 2)),
        ),
    ],
    lines: CRAFTED_PEERS,
    lines6: CRAFTED_PEERS6,
    forwarding: &[],
};

pub(super) const ROUTER: Plan = Plan {
    roles: &["a", "r", "b"],
    wires: &[
        (
            host("a", "veth0", MAC_A, [10, 99, 1, 1], (0xfd99, 1, 1)),
            host("r", "va", "02:00:00:00:00:1a", [10, 99, 1, 254], (0xfd99, 1, 0xfe)),
        ),
        (
            host("b", "veth0", MAC_B, [10, 99, 2, 2], (0xfd99, 2, 2)),
            host("r", "vb", "02:00:00:00:00:1b", [10, 99, 2, 254], (0xfd99, 2, 0xfe)),
        ),
    ],
    lines: &[
        ("a", "route add default via 10.99.1.254"),
        ("b", "route add default via 10.99.2.254"),
    ],
    lines6: &[("a", "route add default via fd99:1::fe"), ("b", "route add default via fd99:2::fe")],
    forwarding: &["r"],
};

pub(super) const BRIDGE: Plan = Plan {
    roles: &["a", "b", "c", "r"],
    wires: &[
        (
            host("a", "veth0", MAC_A, [10, 99, 0, 1], (0xfd99, 0, 1)),
            end("r", "pa", "02:00:00:00:00:1a"),
        ),
        (
            host("b", "veth0", MAC_B, [10, 99, 0, 2], (0xfd99, 0, 2)),
            end("r", "pb", "02:00:00:00:00:1b"),
        ),
        (
            host("c", "veth0", MAC_C, [10, 99, 0, 3], (0xfd99, 0, 3)),
            end("r", "pc", "02:00:00:00:00:1c"),
        ),
    ],
    lines: &[
        ("a", "neigh add 10.99.0.2 lladdr 02:00:00:00:00:0b dev veth0 nud permanent"),
        ("a", "neigh add 10.99.0.3 lladdr 02:00:00:00:00:0c dev veth0 nud permanent"),
        ("b", "neigh add 10.99.0.1 lladdr 02:00:00:00:00:0a dev veth0 nud permanent"),
        ("b", "neigh add 10.99.0.3 lladdr 02:00:00:00:00:0c dev veth0 nud permanent"),
        ("c", "neigh add 10.99.0.1 lladdr 02:00:00:00:00:0a dev veth0 nud permanent"),
        ("c", "neigh add 10.99.0.2 lladdr 02:00:00:00:00:0b dev veth0 nud permanent"),
        ("r", "link add br0 type bridge mcast_snooping 0"),
        ("r", "link set br0 up"),
        ("r", "link set pa master br0"),
        ("r", "link set pb master br0"),
        ("r", "link set pc master br0"),
    ],
    lines6: &[],
    forwarding: &[],
};
