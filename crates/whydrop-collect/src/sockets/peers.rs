//! Adds up TCP connections by the prefix of their peer, to tell a bad path from a bad host.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whydrop_model::{PeerPrefix, Socket, TcpPeers};

/// Prefixes told.
const WORST: usize = 32;
/// Prefixes added up apart. With more peers, those that come later and retransmit nothing are only
/// in the totals.
const MOST: usize = 65_536;

/// Connections by prefix.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_prefix: BTreeMap<IpAddr, PeerPrefix>,
    totals: TcpPeers,
}

impl Peers {
    /// Takes in a connection with its retransmits of the window.
    pub(super) fn note(&mut self, socket: &Socket) {
        let (Some(remote), Some(tcp)) = (socket.remote, socket.tcp) else {
            self.totals.sockets += 1;
            return;
        };
        let retransmits = tcp.total_retrans.delta32();
        let retransmitting = u32::from(retransmits > 0);
        self.totals.sockets += 1;
        self.totals.retransmitting += retransmitting;
        self.totals.retransmits += retransmits;
        let (address, length) = prefix(remote.address);
        if self.by_prefix.len() >= MOST
            && retransmits == 0
            && !self.by_prefix.contains_key(&address)
        {
            return;
        }
        let entry = self.by_prefix.entry(address).or_insert(PeerPrefix {
            address,
            length,
            sockets: 0,
            retransmitting: 0,
            retransmits: 0,
            least_rtt_us: u32::MAX,
        });
        entry.sockets += 1;
        entry.retransmitting += retransmitting;
        entry.retransmits += retransmits;
        entry.least_rtt_us = entry.least_rtt_us.min(tcp.rtt_us);
    }

    pub(super) fn finish(self) -> TcpPeers {
        let mut peers = self.totals;
        peers.prefixes = self.by_prefix.len() as u32;
        let mut worst: Vec<PeerPrefix> =
            self.by_prefix.into_values().filter(|prefix| prefix.retransmits > 0).collect();
        peers.prefixes_retransmitting = worst.len() as u32;
        worst.sort_by_key(|prefix| (u64::MAX - prefix.retransmits, prefix.address));
        worst.truncate(WORST);
        peers.worst = worst;
        peers
    }
}

/// The network that an address is taken to be of.
fn prefix(address: IpAddr) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            (Ipv4Addr::new(a, b, c, 0).into(), 24)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            (Ipv6Addr::from_bits(bits).into(), 64)
        }
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Endpoint, Pair, SocketProtocol, TcpLoss};

    use super::*;

    fn to(peer: &str, retransmits: u64) -> Socket {
        let total_retrans = Pair { before: 10, after: 10 + retransmits };
        Socket {
            remote: Some(Endpoint { address: peer.parse().unwrap(), port: Some(80) }),
            tcp: Some(TcpLoss { total_retrans, rtt_us: 500, ..TcpLoss::default() }),
            ..Socket::new(SocketProtocol::Tcp)
        }
    }

    #[test]
    fn connections_are_added_up_by_prefix() {
        let mut peers = Peers::default();
        for socket in [
            to("192.0.2.1", 3),
            to("192.0.2.200", 4),
            to("192.0.2.201", 0),
            to("198.51.100.1", 0),
            to("2001:db8::1", 9),
            Socket::new(SocketProtocol::Tcp),
        ] {
            peers.note(&socket);
        }
        let peers = peers.finish();
        assert_eq!((peers.sockets, peers.retransmitting, peers.retransmits), (6, 3, 16));
        assert_eq!((peers.prefixes, peers.prefixes_retransmitting), (3, 2));
        let worst: Vec<_> = peers
            .worst
            .iter()
            .map(|it| (it.address.to_string(), it.length, it.sockets, it.retransmits))
            .collect();
        assert_eq!(worst[0], ("2001:db8::".into(), 64, 1, 9));
        assert_eq!(worst[1], ("192.0.2.0".into(), 24, 3, 7));
        assert_eq!(peers.worst[1].least_rtt_us, 500);
    }

    #[test]
    fn the_number_of_prefixes_told_is_bounded() {
        let mut peers = Peers::default();
        for at in 0..=255 {
            peers.note(&to(&format!("10.0.{at}.1"), at + 1));
        }
        let peers = peers.finish();
        assert_eq!((peers.worst.len(), peers.prefixes_retransmitting), (WORST, 256));
        assert_eq!(peers.worst[0].address.to_string(), "10.0.255.0");
    }
}
