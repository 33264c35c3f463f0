//! Which socket a packet was for: by the socket that the kernel named, or by the packet's addresses
//! among the sockets of its namespace.
//!
//! The kernel looks for the socket with the packet's port whose address, device and peer do not
//! contradict the packet (`compute_score()` in `net/ipv4/udp.c` and `net/ipv4/inet_hashtables.c`,
//! 6.18). What it found no socket for may still have one nearby, and what contradicts tells the fault.

use std::net::IpAddr;

use whydrop_model::{
    Endpoint, Exemplar, Flow, Listener, Namespace, Process, ProcessRef, Site, Socket,
    SocketProtocol,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A socket with a port: a TCP listener or connection, or a UDP socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'e> {
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
    /// Own address and port.
    pub(crate) local: Endpoint,
    /// The only peer it hears, if it is connected.
    pub(crate) remote: Option<Endpoint>,
    /// Index of the device it is bound to; 0 for any.
    pub(crate) ifindex: u32,
    v6only: bool,
    inode: u64,
    owners: &'e [Process],
}

/// Why a socket does not get a packet for its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    /// It is bound to another address.
    Address,
    /// It takes no IPv4, or no IPv6.
    Family,
    /// It is bound to a device that the packet did not come in by.
    Device,
    /// It is connected to another peer.
    Peer,
}

impl<'e> Holder<'e> {
    fn of_listener(listener: &'e Listener) -> Self {
        Self {
            protocol: "tcp",
            local: listener.endpoint(),
            remote: None,
            ifindex: listener.ifindex,
            v6only: listener.v6only,
            inode: listener.inode,
            owners: &listener.owners,
        }
    }

    /// `None` for a socket without a port.
    fn of_socket(socket: &'e Socket) -> Option<Self> {
        let protocol = match socket.protocol {
            SocketProtocol::Udp => "udp",
            SocketProtocol::Tcp => "tcp",
            _ => return None,
        };
        Some(Self {
            protocol,
            local: socket.local?,
            remote: socket.remote,
            ifindex: socket.ifindex,
            v6only: socket.v6only,
            inode: socket.inode,
            owners: &socket.owners,
        })
    }

    /// As sites name it: `udp 10.0.0.1:53`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.protocol, self.local)
    }

    /// The process to name.
    pub(crate) fn process(&self) -> Option<ProcessRef> {
        self.owners.first().map(|one| ProcessRef { pid: one.pid, comm: one.comm.clone() })
    }

    /// Its process in words.
    pub(crate) fn owner(&self) -> String {
        self.process().map_or("a program (not visible to this user)".into(), |one| {
            format!("{} (pid {})", one.comm, one.pid)
        })
    }

    /// What it takes packets from, in words: `127.0.0.1:53`, with its device and peer.
    pub(crate) fn place(&self, namespace: &Namespace) -> String {
        let device = match self.ifindex {
            0 => String::new(),
            ifindex => {
                let link = namespace.links.iter().find(|link| link.ifindex == ifindex);
                format!("%{}", link.map_or("another device", |link| link.name.as_str()))
            }
        };
        let peer = self.remote.map(|peer| format!(", connected to {peer}")).unwrap_or_default();
        format!("{}{device}{peer}", self.local)
    }

    /// This site, with the socket and its process.
    pub(crate) fn at(&self, site: Site) -> Site {
        Site { socket: Some(self.name()), process: self.process(), ..site }
    }

    /// What keeps a packet for this port from the socket; `None` if the socket gets it.
    fn obstacle(&self, flow: &Flow, arrivals: &[u32]) -> Option<Obstacle> {
        let (own, to) = (self.local.address, flow.destination.address);
        // An IPv6 socket for any address takes IPv4 as well, unless told otherwise.
        let family = own.is_ipv4() == to.is_ipv4()
            || (own.is_ipv6() && own.is_unspecified() && !self.v6only);
        if !family {
            return Some(Obstacle::Family);
        }
        if !own.is_unspecified() && own != to {
            return Some(Obstacle::Address);
        }
        if self.ifindex != 0 && !arrivals.contains(&self.ifindex) {
            return Some(Obstacle::Device);
        }
        let peer = self.remote.is_none_or(|peer| peer == flow.source);
        (!peer).then_some(Obstacle::Peer)
    }
}

/// All sockets of a namespace that hold the port of this packet.
fn on_port<'e>(namespace: &'e Namespace, flow: &Flow) -> impl Iterator<Item = Holder<'e>> {
    let (port, protocol) = (flow.destination.port, flow.protocol);
    let listeners = namespace.listeners.iter().map(Holder::of_listener);
    let udp = namespace.sockets.iter().filter(|one| one.protocol == SocketProtocol::Udp);
    let sockets = udp.filter_map(Holder::of_socket);
    let of_protocol = move |holder: &Holder<'_>| match holder.protocol {
        "tcp" => protocol == TCP,
        _ => protocol == UDP,
    };
    let on_port = move |holder: &Holder<'_>| port.is_some() && holder.local.port == port;
    listeners.chain(sockets).filter(of_protocol).filter(on_port)
}

/// The devices that a packet counts as having come in by: the one it did, and that one's master
/// (a VRF).
fn arrivals(namespace: &Namespace, ifindex: u32) -> Vec<u32> {
    let link = namespace.links.iter().find(|link| link.ifindex == ifindex);
    [ifindex].into_iter().chain(link.and_then(|link| link.master)).collect()
}

/// True for an address that the namespace's devices have.
fn is_here(namespace: &Namespace, address: IpAddr) -> bool {
    address.is_loopback() || namespace.links.iter().any(|link| link.addresses.contains(&address))
}

/// The socket that a packet was for: the one that the kernel named as its receiver or owner, or, for
/// a packet to this host, the one that its addresses lead to, a connected one before others.
pub(crate) fn of<'e>(namespace: &'e Namespace, exemplar: &Exemplar) -> Option<Holder<'e>> {
    let named = exemplar.socket.map(|socket| socket.inode).filter(|inode| *inode != 0);
    if let Some(inode) = named {
        let listeners = namespace.listeners.iter().map(Holder::of_listener);
        let mut all = listeners.chain(namespace.sockets.iter().filter_map(Holder::of_socket));
        if let Some(holder) = all.find(|holder| holder.inode == inode) {
            return Some(holder);
        }
    }
    let flow = exemplar.flow.as_ref().filter(|it| is_here(namespace, it.destination.address))?;
    let arrivals = arrivals(namespace, exemplar.ifindex);
    let takers = on_port(namespace, flow).filter(|one| one.obstacle(flow, &arrivals).is_none());
    takers.max_by_key(|one| (one.remote.is_some(), !one.local.address.is_unspecified()))
}

/// Where no socket gets a packet, the one that holds its port and comes nearest to getting it, with
/// what is in the way; `None` if there is none, or if one gets it now (it was not there yet then).
pub(crate) fn nearest<'e>(
    namespace: &'e Namespace,
    flow: &Flow,
    ifindex: u32,
) -> Option<(Holder<'e>, Obstacle)> {
    let arrivals = arrivals(namespace, ifindex);
    let mut near: Option<(Holder<'e>, Obstacle)> = None;
    for holder in on_port(namespace, flow) {
        let obstacle = holder.obstacle(flow, &arrivals)?;
        // A port that a client got by chance is not a service at another address.
        let by_chance = is_ephemeral(flow.destination.port) && obstacle != Obstacle::Peer;
        // A server's own socket before one that talks to a single peer.
        let rank = |one: &Holder<'_>, what| (one.remote.is_some(), what);
        let better = near.is_none_or(|(other, what)| rank(&holder, obstacle) < rank(&other, what));
        if better && !by_chance {
            near = Some((holder, obstacle));
        }
    }
    near
}

/// True for a port of the range that clients get theirs from (`net.ipv4.ip_local_port_range`, by
/// default from 32768).
pub(crate) fn is_ephemeral(port: Option<u16>) -> bool {
    port.is_some_and(|port| port >= 32768)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn end(address: &str, port: u16) -> Endpoint {
        Endpoint { address: address.parse().expect("an address"), port: Some(port) }
    }

    fn udp(local: &str, remote: Option<Endpoint>) -> Socket {
        Socket { local: Some(end(local, 53)), remote, ..Socket::new(SocketProtocol::Udp) }
    }

    fn flow(to: &str) -> Flow {
        let source = if to.contains(':') { "2001:db8::9" } else { "192.0.2.9" };
        Flow {
            source: end(source, 4000),
            destination: end(to, 53),
            protocol: UDP,
            tcp_flags: None,
            icmp: None,
        }
    }

    fn obstacle(sockets: Vec<Socket>, flow: &Flow) -> Option<Obstacle> {
        let namespace = Namespace { sockets, ..Namespace::default() };
        nearest(&namespace, flow, 2).map(|(_, obstacle)| obstacle)
    }

    #[test]
    fn what_contradicts_is_told() {
        let here = flow("192.0.2.1");
        let bound = Socket { ifindex: 5, ..udp("0.0.0.0", None) };
        let six = Socket { v6only: true, ..udp("::", None) };
        let talks = udp("192.0.2.1", Some(end("192.0.2.7", 4000)));
        for (sockets, found) in [
            (vec![udp("127.0.0.1", None)], Some(Obstacle::Address)),
            (vec![bound], Some(Obstacle::Device)),
            (vec![six], Some(Obstacle::Family)),
            (vec![talks.clone()], Some(Obstacle::Peer)),
            (vec![talks.clone(), udp("127.0.0.1", None)], Some(Obstacle::Address)),
            (vec![talks, udp("0.0.0.0", None)], None),
            (vec![udp("::", None)], None),
            (vec![], None),
        ] {
            assert_eq!(obstacle(sockets.clone(), &here), found, "{sockets:?}");
        }
        assert_eq!(
            obstacle(vec![udp("0.0.0.0", None)], &flow("2001:db8::1")),
            Some(Obstacle::Family)
        );
    }

    #[test]
    fn a_master_counts_as_the_way_in() {
        let link = whydrop_model::Link { ifindex: 2, master: Some(5), ..Default::default() };
        let sockets = vec![Socket { ifindex: 5, ..udp("0.0.0.0", None) }];
        let namespace = Namespace { sockets, links: vec![link], ..Namespace::default() };
        assert!(nearest(&namespace, &flow("192.0.2.1"), 2).is_none());
    }

    #[test]
    fn other_protocols_and_ports_have_other_sockets() {
        let mut tcp = flow("192.0.2.1");
        tcp.protocol = TCP;
        assert_eq!(obstacle(vec![udp("127.0.0.1", None)], &tcp), None);
        let mut other = flow("192.0.2.1");
        other.destination.port = Some(54);
        assert_eq!(obstacle(vec![udp("127.0.0.1", None)], &other), None);
    }

    #[test]
    fn the_socket_of_a_packet_is_the_named_one_or_that_of_its_addresses() {
        let total = sample::total("XFRM_POLICY", "udp_queue_rcv_one_skb", 1);
        let mut exemplar = sample::exemplar(&total, 1);
        exemplar.flow = Some(flow("192.0.2.1"));
        let named = Socket { inode: 7, ..udp("127.0.0.1", None) };
        let sockets = vec![named, Socket { inode: 8, ..udp("0.0.0.0", None) }];
        let mut namespace = Namespace { sockets, ..Namespace::default() };
        assert_eq!(of(&namespace, &exemplar).map(|one| one.inode), None, "it goes elsewhere");
        let addresses = vec![flow("192.0.2.1").destination.address];
        namespace.links = vec![whydrop_model::Link { addresses, ..Default::default() }];
        assert_eq!(of(&namespace, &exemplar).map(|one| one.inode), Some(8));
        exemplar.socket = Some(whydrop_model::SocketRef {
            family: 2,
            state: 7,
            local_port: 53,
            inode: 7,
            receiver: true,
            filtered: false,
        });
        assert_eq!(
            of(&namespace, &exemplar).map(|one| one.name()).as_deref(),
            Some("udp 127.0.0.1:53")
        );
    }
}
