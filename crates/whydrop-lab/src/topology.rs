//! Which namespaces a scenario plays in and how they are joined.
//!
//! A topology is a table: roles, wires between them, and `ip` lines for what is particular to it.
//! Addresses are private and exist only inside the namespaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Deserialize;

use crate::LabError;
use crate::netns::{Netns, Tag};
use crate::wait::Stop;

/// Longest wait for a new device to come up; linkwatch may take a second.
const UP_LIMIT: Duration = Duration::from_secs(5);

/// First three bytes of the addresses that only crafted packets use. No namespace owns one; what is
/// sent to them goes to the first role of the topology, under a MAC address that is not its own.
pub(crate) const CRAFTED_NET: [u8; 3] = [10, 99, 77];

/// How the namespaces of a scenario are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topology {
    /// Two hosts on one wire: `a`, where clients are, and `b`, where servers are.
    Pair,
}

/// One end of a wire (a veth pair).
struct End {
    role: &'static str,
    device: &'static str,
    mac: &'static str,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

struct Plan {
    roles: &'static [&'static str],
    wires: &'static [(End, End)],
    /// Role and `ip` line, carried out once the wires are up.
    lines: &'static [(&'static str, &'static str)],
}

const PAIR: Plan = Plan {
    roles: &["a", "b"],
    wires: &[(
        End {
            role: "a",
            device: "veth0",
            mac: "02:00:00:00:00:0a",
            v4: Ipv4Addr::new(10, 99, 0, 1),
            v6: Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1),
        },
        End {
            role: "b",
            device: "veth0",
            mac: "02:00:00:00:00:0b",
            v4: Ipv4Addr::new(10, 99, 0, 2),
            v6: Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2),
        },
    )],
    // The crafted peers live behind a neighbour that b need not ask for.
    lines: &[
        ("b", "neigh add 10.99.0.77 lladdr 02:00:00:00:00:4d dev veth0 nud permanent"),
        ("b", "route add 10.99.77.0/24 via 10.99.0.77"),
    ],
};

impl Topology {
    fn plan(self) -> &'static Plan {
        match self {
            Self::Pair => &PAIR,
        }
    }

    /// The roles, in the order in which their namespaces are made.
    pub(crate) fn roles(self) -> &'static [&'static str] {
        self.plan().roles
    }

    /// The address of a role; `None` for a role without a wire.
    pub(crate) fn address(self, role: &str, ipv6: bool) -> Option<IpAddr> {
        let wires = self.plan().wires.iter();
        let end = wires.flat_map(|(left, right)| [left, right]).find(|end| end.role == role)?;
        Some(if ipv6 { end.v6.into() } else { end.v4.into() })
    }

    /// Makes the namespaces, with devices up and addresses set. Without `ipv6` there is no trace of
    /// it in them: no neighbour discovery disturbs the counts.
    pub(crate) fn build(self, tag: &Tag, ipv6: bool, stop: &Stop) -> Result<Lan, LabError> {
        let plan = self.plan();
        let mut lan = Lan(Vec::new());
        for &role in plan.roles {
            lan.0.push((role, Netns::create(tag.netns(role))?));
        }
        let mut batches: BTreeMap<&str, String> = BTreeMap::new();
        let mut line = |role, line: String| {
            let batch = batches.entry(role).or_default();
            batch.push_str(&line);
            batch.push('\n');
        };
        for &role in plan.roles {
            if !ipv6 {
                lan.disable_ipv6(role)?;
            }
            line(role, "link set lo up".into());
        }
        for (left, right) in plan.wires {
            let (device, mac) = (left.device, left.mac);
            let peer = format!("{} address {}", right.device, right.mac);
            let netns = lan.get(right.role)?.name();
            let wire = format!("address {mac} type veth peer name {peer} netns {netns}");
            lan.get(left.role)?.ip(&format!("link add {device} {wire}"))?;
            for End { role, device, v4, v6, .. } in [left, right] {
                line(role, format!("addr add {v4}/24 dev {device}"));
                if ipv6 {
                    line(role, format!("addr add {v6}/64 dev {device} nodad"));
                }
                line(role, format!("link set {device} up"));
            }
        }
        for &(role, text) in plan.lines {
            line(role, text.to_owned());
        }
        for (role, batch) in &batches {
            lan.get(role)?.ip(batch)?;
        }
        for End { role, device, .. } in plan.wires.iter().flat_map(|(left, right)| [left, right]) {
            let netns = lan.get(role)?;
            let what = format!("{device} up in {role}");
            stop.until(UP_LIMIT, &what, || Ok(netns.is_up(device)?.then_some(())))?;
        }
        Ok(lan)
    }
}

/// The namespaces of a scenario, by role. Dropping it removes them, the last made first.
#[derive(Debug)]
pub(crate) struct Lan(Vec<(&'static str, Netns)>);

impl Lan {
    /// The namespace that plays `role`.
    pub(crate) fn get(&self, role: &str) -> Result<&Netns, LabError> {
        let found = self.0.iter().find(|(name, _)| *name == role);
        found.map(|(_, netns)| netns).ok_or_else(|| LabError::Scenario {
            name: role.to_owned(),
            message: "is not a role of this topology".into(),
        })
    }

    /// Roles and namespaces.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Netns)> {
        self.0.iter().map(|(role, netns)| (*role, netns))
    }

    fn disable_ipv6(&self, role: &str) -> Result<(), LabError> {
        // A kernel without IPv6 has it off already.
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            return Ok(());
        }
        let netns = self.get(role)?;
        netns.set_sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        netns.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_addresses() {
        assert_eq!(Topology::Pair.address("b", false).unwrap().to_string(), "10.99.0.2");
        assert_eq!(Topology::Pair.address("a", true).unwrap().to_string(), "fd99::1");
        assert_eq!(Topology::Pair.address("r", false), None);
    }

    #[test]
    fn every_wire_and_line_names_a_role_of_its_plan() {
        for topology in [Topology::Pair] {
            let plan = topology.plan();
            let ends = plan.wires.iter().flat_map(|(left, right)| [left.role, right.role]);
            for role in ends.chain(plan.lines.iter().map(|(role, _)| *role)) {
                assert!(plan.roles.contains(&role), "{role}");
            }
        }
    }
}
