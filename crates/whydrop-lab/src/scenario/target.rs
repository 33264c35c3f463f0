//! Where traffic goes when it does not go to a server's address.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::topology::Topology;

/// `ROLE:PORT`, or an address with a port that need not be anybody's. For an echo the port is 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Target {
    Address(SocketAddr),
    Role { role: String, port: u16 },
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let split = text.rsplit_once(':');
        let target = split.and_then(|(role, port)| {
            Some(Self::Role { role: role.to_owned(), port: port.parse().ok()? })
        });
        target.ok_or_else(|| format!("`{text}` is neither `ROLE:PORT` nor `ADDRESS:PORT`"))
    }
}

impl Target {
    /// The address; `None` if the role has none.
    pub(crate) fn address(&self, topology: Topology, ipv6: bool) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Role { role, port } => {
                Some(SocketAddr::new(topology.address(role, ipv6)?, *port))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_addresses() {
        let target = |text: &str| Target::try_from(text.to_owned());
        let address = |text| target(text).unwrap().address(Topology::Pair, true).unwrap();
        assert_eq!(address("b:9000").to_string(), "[fd99::2]:9000");
        assert_eq!(address("10.99.0.150:1").to_string(), "10.99.0.150:1");
        assert_eq!(address("[fd99::96]:1").to_string(), "[fd99::96]:1");
        for wrong in ["b", "b:port", "b:70000"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
