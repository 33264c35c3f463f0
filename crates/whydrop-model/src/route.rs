//! Routes and policy rules that discard packets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What the kernel's routing knows that can lose packets, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Routes {
    /// Routes of all tables by `ipv4` and `ipv6`; those read, if `partial`.
    pub counts: BTreeMap<String, u32>,
    /// Routes that discard: `blackhole`, `unreachable`, `prohibit`, and `throw`, which ends the look
    /// into its table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discarding: Vec<Route>,
    /// Default routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<Route>,
    /// Other routes to somewhere (`unicast`), the first of each address family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unicast: Vec<Route>,
    /// Further such routes, left out because there are so many.
    #[serde(default)]
    pub unicast_left_out: u32,
    /// Policy rules that discard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Policy rules in all; three of IPv4 and two of IPv6 are always there.
    #[serde(default)]
    pub rule_count: u32,
    /// Address families (`ipv4`, `ipv6`) whose routes are so many that only the first were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `unicast`, `blackhole`, `unreachable`, `prohibit`, `throw`.
    pub kind: String,
    /// Destination; of a default route, all zero.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Routing table; 254 is `main`, 255 `local`.
    pub table: u32,
    /// Metric; 0 is the first choice.
    #[serde(default)]
    pub priority: u32,
    /// Next hop; `None` if on-link, discarding or of several next hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Devices it leaves by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<u32>,
}

/// A policy rule that discards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyRule {
    /// True for IPv6.
    pub ipv6: bool,
    /// `blackhole`, `unreachable` or `prohibit`.
    pub action: String,
    /// Lower numbers come first.
    pub priority: u32,
    /// Source it looks at, as `10.0.0.0/8`; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Destination, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Device that packets must have come in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// Mark that packets must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
}
