//! Which namespaces a scenario plays in and how they are joined.
//!
//! A topology is a table: roles, wires between them, and `ip` lines for what is particular to it.
//! Addresses are private and exist only inside the namespaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::LabError;
use crate::netns::{Netns, Tag};
use crate::wait::Stop;

mod plan;

use plan::{End, Plan};

/// Longest wait for a new device to come up; linkwatch may take a second.
const UP_LIMIT: Duration = Duration::from_secs(15);

/// First three bytes of the addresses that only crafted packets use. No namespace owns one; what is
/// sent to them goes to the first role of the topology, under a MAC address that is not its own.
pub(crate) const CRAFTED_NET: [u8; 3] = [10, 99, 77];
/// The first words of those of IPv6.
pub(crate) const CRAFTED_NET6: [u16; 2] = [0xfd99, 0x77];

/// How the namespaces of a scenario are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topology {
    /// Two hosts on one wire: `a`, where clients are, and `b`, where servers are.
    Pair,
    /// The same with a second wire between them: `veth1` on either side.
    PairTwoLinks,
    /// `a` and `b`, each behind a device of the router `r`: `va` and `vb`.
    Router,
    /// `a`, `b` and `c` behind the ports `pa`, `pb` and `pc` of the bridge `br0` in `r`. The hosts
    /// know each other's MAC addresses and need not ask.
    Bridge,
}

impl Topology {
    fn plan(self) -> &'static Plan {
        match self {
            Self::Pair => &plan::PAIR,
            Self::PairTwoLinks => &plan::PAIR_TWO_LINKS,
            Self::Router => &plan::ROUTER,
            Self::Bridge => &plan::BRIDGE,
        }
    }

    /// The roles, in the order in which their namespaces are made.
    pub(crate) fn roles(self) -> &'static [&'static str] {
        self.plan().roles
    }

    /// The first address of a role; `None` for a role without one.
    pub(crate) fn address(self, role: &str, ipv6: bool) -> Option<IpAddr> {
        let wires = self.plan().wires.iter();
        let mut ends = wires.flat_map(|(left, right)| [left, right]).filter(|end| end.role == role);
        let (v4, v6) = ends.find_map(|end| end.addresses)?;
        Some(if ipv6 { v6.into() } else { v4.into() })
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
            if ipv6 {
                // A router asks for no neighbour before its own link-local address was probed.
                lan.get(role)?.set_sysctl("net.ipv6.conf.default.accept_dad", "0")?;
            } else {
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
            for End { role, device, addresses, .. } in [left, right] {
                if let Some((v4, v6)) = addresses {
                    line(role, format!("addr add {v4}/24 dev {device}"));
                    if ipv6 {
                        line(role, format!("addr add {v6}/64 dev {device} nodad"));
                    }
                }
                line(role, format!("link set {device} up"));
            }
        }
        let lines6 = if ipv6 { plan.lines6 } else { &[] };
        for &(role, text) in plan.lines.iter().chain(lines6) {
            line(role, text.to_owned());
        }
        for (role, batch) in &batches {
            lan.get(role)?.ip(batch)?;
        }
        for &role in plan.forwarding {
            lan.get(role)?.set_sysctl("net.ipv4.ip_forward", "1")?;
            if ipv6 {
                lan.get(role)?.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
            }
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
        assert_eq!(Topology::Bridge.address("r", false), None);
        assert_eq!(Topology::Router.address("r", false).unwrap().to_string(), "10.99.1.254");
    }

    #[test]
    fn every_wire_and_line_names_a_role_of_its_plan() {
        use Topology::{Bridge, Pair, PairTwoLinks, Router};
        for topology in [Pair, PairTwoLinks, Router, Bridge] {
            let plan = topology.plan();
            let ends = plan.wires.iter().flat_map(|(left, right)| [left.role, right.role]);
            let lines = plan.lines.iter().chain(plan.lines6).map(|(role, _)| *role);
            for role in ends.chain(lines).chain(plan.forwarding.iter().copied()) {
                assert!(plan.roles.contains(&role), "{role}");
            }
        }
    }
}
