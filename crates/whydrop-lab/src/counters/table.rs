//! Where counters are read: the kernel's text tables, and what `ip`, `tc` and `nft` print as JSON.
//! Each place gives names and values; what a name means is for scenarios to know.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::LabError;
use crate::command::Line;
use crate::netns::Netns;

/// Names and values of one place.
pub(super) type Table = BTreeMap<String, u64>;

/// A place that counters are read from. The first word of a counter's name tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// `Group.Name`: `/proc/net/snmp` and `/proc/net/netstat`.
    Protocols,
    /// `snmp6.Name`: `/proc/net/snmp6`.
    Ipv6,
    /// `xfrm.Name`: `/proc/net/xfrm_stat`.
    Xfrm,
    /// `nf_conntrack.NAME`: `/proc/net/stat/nf_conntrack`, all CPUs together.
    Conntrack,
    /// `udp.PORT.drops`: `/proc/net/udp` and `udp6`, all sockets of a local port together.
    UdpSockets,
    /// `dev.DEVICE.rx_NAME` and `tx_NAME`: the link statistics as `ip` names them.
    Devices,
    /// `tc.DEVICE.KIND.NAME`: the statistics of qdiscs, those of a device and kind together.
    Qdiscs,
    /// `nft.COMMENT.packets`: the counter of the rules with this comment.
    Rules,
}

impl Place {
    /// Where a counter is read.
    pub(super) fn of(name: &str) -> Self {
        match name.split_once('.').map(|(first, _)| first) {
            Some("snmp6") => Self::Ipv6,
            Some("xfrm") => Self::Xfrm,
            Some("nf_conntrack") => Self::Conntrack,
            Some("udp") => Self::UdpSockets,
            Some("dev") => Self::Devices,
            Some("tc") => Self::Qdiscs,
            Some("nft") => Self::Rules,
            _ => Self::Protocols,
        }
    }

    /// True if what it counts may not exist yet, or no longer: then it counted nothing.
    pub(super) fn comes_and_goes(self) -> bool {
        matches!(self, Self::UdpSockets | Self::Qdiscs | Self::Rules)
    }

    /// Reads it inside a namespace.
    pub(super) fn read(self, netns: &Netns) -> Result<Table, LabError> {
        let mut table = Table::new();
        match self {
            Self::Protocols => {
                for text in files(netns, &["snmp", "netstat"])? {
                    protocols(&text, &mut table);
                }
            }
            Self::Ipv6 => {
                for text in files(netns, &["snmp6"])? {
                    flat("snmp6", &text, &mut table);
                }
            }
            Self::Xfrm => {
                for text in files(netns, &["xfrm_stat"])? {
                    flat("xfrm", &text, &mut table);
                }
            }
            Self::Conntrack => {
                for text in files(netns, &["stat/nf_conntrack"])? {
                    per_cpu("nf_conntrack", &text, &mut table);
                }
            }
            Self::UdpSockets => {
                for text in files(netns, &["udp", "udp6"])? {
                    udp_sockets(&text, &mut table);
                }
            }
            Self::Devices => devices(&json(netns, "ip -s -s -json link show")?, &mut table),
            Self::Qdiscs => qdiscs(&json(netns, "tc -s -json qdisc show")?, &mut table),
            Self::Rules => rules(&json(netns, "nft -j list ruleset")?, &mut table),
        }
        Ok(table)
    }
}

/// Texts of `/proc/net/NAME`. Without IPv6 or xfrm statistics their files are absent.
fn files(netns: &Netns, names: &[&str]) -> Result<Vec<String>, LabError> {
    // Not /proc/net: that shows the namespace of the process, not of the thread that moved.
    let read = |name: &&str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let texts = netns.within(|| names.iter().map(read).collect::<Vec<_>>())?;
    let absent = |name: &str| name.ends_with('6') || name == "xfrm_stat";
    let mut all = Vec::new();
    for (name, text) in names.iter().zip(texts) {
        match text {
            Ok(text) => all.push(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && absent(name) => {}
            Err(error) => {
                let what = format!("reading /proc/net/{name} in {}", netns.name());
                return Err(LabError::io(what)(error));
            }
        }
    }
    Ok(all)
}

fn json(netns: &Netns, line: &str) -> Result<Value, LabError> {
    let wrong = |message: String| LabError::Command { command: line.to_owned(), message };
    let text = Line::try_from(line.to_owned()).map_err(wrong)?.run(netns)?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("no JSON: {error}")))
}

/// Pairs of lines: names, then values, each starting with the group.
fn protocols(text: &str, table: &mut Table) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((_, values)) = values.split_once(':') else { continue };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // Tcp.MaxConn is -1: a setting among the counters.
            if let Ok(value) = value.parse() {
                table.insert(format!("{group}.{name}"), value);
            }
        }
    }
}

/// A name and a value per line.
fn flat(group: &str, text: &str, table: &mut Table) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            table.insert(format!("{group}.{name}"), value);
        }
    }
}

/// Names, then a row of hexadecimal values for each CPU.
fn per_cpu(group: &str, text: &str, table: &mut Table) {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            if let Ok(value) = u64::from_str_radix(value, 16) {
                *table.entry(format!("{group}.{name}")).or_default() += value;
            }
        }
    }
}

/// A row per socket: the second word is `ADDRESS:PORT` in hexadecimal, the last one the drops.
fn udp_sockets(text: &str, table: &mut Table) {
    for line in text.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let port = words.get(1).and_then(|local| local.rsplit_once(':'));
        let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let drops = words.last().and_then(|drops| drops.parse::<u64>().ok());
        if let (Some(port), Some(drops)) = (port, drops) {
            *table.entry(format!("udp.{port}.drops")).or_default() += drops;
        }
    }
}

fn devices(links: &Value, table: &mut Table) {
    for link in links.as_array().into_iter().flatten() {
        let Some(device) = link["ifname"].as_str() else { continue };
        for way in ["rx", "tx"] {
            for (name, value) in link["stats64"][way].as_object().into_iter().flatten() {
                let value = value.as_u64().unwrap_or(0);
                table.insert(format!("dev.{device}.{way}_{name}"), value);
            }
            // `ip` leaves it out as long as it is zero.
            table.entry(format!("dev.{device}.rx_otherhost")).or_default();
        }
    }
}

fn qdiscs(qdiscs: &Value, table: &mut Table) {
    for qdisc in qdiscs.as_array().into_iter().flatten() {
        let (Some(device), Some(kind)) = (qdisc["dev"].as_str(), qdisc["kind"].as_str()) else {
            continue;
        };
        for name in ["packets", "drops", "overlimits"] {
            let value = qdisc[name].as_u64().unwrap_or(0);
            *table.entry(format!("tc.{device}.{kind}.{name}")).or_default() += value;
        }
    }
}

fn rules(ruleset: &Value, table: &mut Table) {
    for rule in ruleset["nftables"].as_array().into_iter().flatten().map(|item| &item["rule"]) {
        let Some(comment) = rule["comment"].as_str() else { continue };
        for expression in rule["expr"].as_array().into_iter().flatten() {
            if let Some(packets) = expression["counter"]["packets"].as_u64() {
                *table.entry(format!("nft.{comment}.packets")).or_default() += packets;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &Table) -> Vec<(&str, u64)> {
        table.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    #[test]
    fn protocol_lines() {
        let mut table = Table::new();
        protocols("Tcp: MaxConn InSegs\nTcp: -1 5\nTcpExt: A B\nTcpExt: 1 2\n", &mut table);
        assert_eq!(rows(&table), [("Tcp.InSegs", 5), ("TcpExt.A", 1), ("TcpExt.B", 2)]);
    }

    #[test]
    fn flat_lines() {
        let mut table = Table::new();
        flat("snmp6", "Ip6InHdrErrors                  \t3\nUdp6NoPorts \t40\n", &mut table);
        assert_eq!(rows(&table), [("snmp6.Ip6InHdrErrors", 3), ("snmp6.Udp6NoPorts", 40)]);
    }

    #[test]
    fn rows_of_cpus_add_up() {
        let mut table = Table::new();
        per_cpu(
            "nf_conntrack",
            "entries  drop\n0000000a 00000010\n0000000a 00000002\n",
            &mut table,
        );
        assert_eq!(rows(&table), [("nf_conntrack.drop", 18), ("nf_conntrack.entries", 20)]);
    }

    #[test]
    fn sockets_of_a_port_add_up() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr drops\n\
            1: 0200630A:2328 00000000:0000 07 00000000:00000000 00:00000000 0 0 0 1 2 0 197\n\
            2: 0100007F:2328 00000000:0000 07 00000000:00000000 00:00000000 0 0 0 1 2 0 3\n";
        let mut table = Table::new();
        udp_sockets(text, &mut table);
        assert_eq!(rows(&table), [("udp.9000.drops", 200)]);
    }

    #[test]
    fn what_tools_print() {
        let mut table = Table::new();
        let links = r#"[{"ifname":"veth0","stats64":{"rx":{"dropped":30},"tx":{"errors":1}}}]"#;
        devices(&serde_json::from_str(links).unwrap(), &mut table);
        let tc = r#"[{"kind":"tbf","dev":"veth0","packets":10,"drops":190,"overlimits":215},{}]"#;
        qdiscs(&serde_json::from_str(tc).unwrap(), &mut table);
        let nft = r#"{"nftables":[{"metainfo":{}},{"rule":{"comment":"closed",
            "expr":[{"match":{}},{"counter":{"packets":34,"bytes":1}},{"drop":null}]}}]}"#;
        rules(&serde_json::from_str(nft).unwrap(), &mut table);
        let expected = [
            ("dev.veth0.rx_dropped", 30),
            ("dev.veth0.rx_otherhost", 0),
            ("dev.veth0.tx_errors", 1),
            ("nft.closed.packets", 34),
            ("tc.veth0.tbf.drops", 190),
            ("tc.veth0.tbf.overlimits", 215),
            ("tc.veth0.tbf.packets", 10),
        ];
        assert_eq!(rows(&table), expected);
    }
}
