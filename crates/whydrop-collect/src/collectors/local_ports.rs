//! Local ports in use towards one remote end, where connections come close to using up
//! `net.ipv4.ip_local_port_range`.
//!
//! Those in TIME_WAIT hold their port too, and the kernel walks the table of the whole host to list
//! them, so that is done only in a namespace that has nearly as many connections as its range has
//! ports. `/proc/net/sockstat` tells how many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use whydrop_model::{Endpoint, PortUse, Socket, SocketProtocol, SocketState};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::inet_diag;
use crate::netlink::Protocol;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "local_ports", what: "local ports in use", read: Read::Closing(read) };

const RANGE: &str = "net.ipv4.ip_local_port_range";
const SYSCTLS: &[&str] = &[RANGE, "net.ipv4.ip_local_reserved_ports"];
/// All states but SYN_RECV, LISTEN and NEW_SYN_RECV, which are not those of a client.
const CLIENTS: u32 = inet_diag::states(&[1, 2, 4, 5, 6, 7, 8, 9, 11]);
/// Most that is told.
const MOST: usize = 8;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    place.sysctls(SYSCTLS, facts)?;
    let Some(range) = facts.sysctls.get(RANGE).and_then(|text| range(text)) else { return Ok(()) };
    let v4 = place.table("sockstat")?.unwrap_or_default();
    let v6 = place.table("sockstat6")?.unwrap_or_default();
    // From nine tenths on.
    if connections(&v4).saturating_add(connections(&v6)) < range.len() as u64 * 9 / 10 {
        return Ok(());
    }
    let mut uses = Uses::default();
    let mut diag = place.netlink(Protocol::SockDiag)?;
    inet_diag::list_tcp(&mut diag, place.buffer, CLIENTS, 0, &mut |payload| {
        let socket = inet_diag::parse(payload, SocketProtocol::Tcp);
        uses.note(socket.as_ref(), &range);
    })?;
    facts.stack.local_ports = uses.busiest();
    Ok(())
}

/// First and last port, with a tab between them.
pub(crate) fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_ascii_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else { return None };
    (first <= last).then_some(first..=last)
}

/// Sockets `inuse`, and in TIME_WAIT (`tw`), in the line of TCP.
pub(crate) fn connections(sockstat: &str) -> u64 {
    let tcp = |line: &&str| line.starts_with("TCP: ") || line.starts_with("TCP6: ");
    let words: Vec<&str> =
        sockstat.lines().find(tcp).unwrap_or_default().split_ascii_whitespace().collect();
    let counted = words.windows(2).filter(|pair| matches!(pair[0], "inuse" | "tw"));
    counted.filter_map(|pair| pair[1].parse().ok()).fold(0, u64::saturating_add)
}

/// Ports and how many of them are in TIME_WAIT, by local address and remote end.
#[derive(Debug, Default)]
struct Uses(BTreeMap<(IpAddr, IpAddr, u16), (u32, u32)>);

impl Uses {
    fn note(&mut self, socket: Option<&Socket>, range: &RangeInclusive<u16>) {
        let Some(socket) = socket else { return };
        let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return };
        let Some(port) = remote.port else { return };
        if local.port.is_some_and(|port| range.contains(&port)) {
            let used = self.0.entry((local.address, remote.address, port)).or_default();
            used.0 += 1;
            used.1 += u32::from(socket.state == SocketState::TimeWait);
        }
    }

    fn busiest(self) -> Vec<PortUse> {
        let told = |((local, address, port), (ports, time_wait))| PortUse {
            local,
            remote: Endpoint { address, port: Some(port) },
            ports,
            time_wait,
        };
        let mut uses: Vec<PortUse> = self.0.into_iter().map(told).collect();
        uses.sort_by_key(|one| std::cmp::Reverse(one.ports));
        uses.truncate(MOST);
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_those_at_rest_are_counted() {
        let text =
            "sockets: used 9\nTCP: inuse 5 orphan 2 tw 30 alloc 99 mem 1\nUDP: inuse 3 mem 0\n";
        assert_eq!(connections(text), 35);
        assert_eq!(connections("TCP6: inuse 4\nUDP6: inuse 7\n"), 4);
        assert_eq!(connections("garbage"), 0);
    }

    #[test]
    fn a_range_has_two_ends_in_order() {
        assert_eq!(range("32768\t60999"), Some(32768..=60999));
        assert_eq!(range("9 8"), None);
        assert_eq!(range("9"), None);
    }

    #[test]
    fn ports_of_the_range_are_counted_for_each_remote_end() {
        let end = |port| Endpoint { address: "192.0.2.1".parse().unwrap(), port: Some(port) };
        let mut uses = Uses::default();
        for (port, to, state) in [
            (20000, 443, SocketState::Established),
            (20001, 443, SocketState::TimeWait),
            (20001, 80, SocketState::Established),
            (19999, 443, SocketState::Established),
        ] {
            let socket = Socket {
                local: Some(end(port)),
                remote: Some(end(to)),
                state,
                ..Socket::new(SocketProtocol::Tcp)
            };
            uses.note(Some(&socket), &(20000..=20009));
        }
        let told: Vec<_> =
            uses.busiest().iter().map(|one| (one.remote.port, one.ports, one.time_wait)).collect();
        assert_eq!(told, [(Some(443), 2, 1), (Some(80), 1, 0)]);
    }
}
