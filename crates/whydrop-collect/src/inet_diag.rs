//! The requests and messages of `inet_diag` (`include/uapi/linux/inet_diag.h`), which lists TCP, UDP
//! and raw sockets.
//!
//! Knows the layout only; which sockets matter is the business of the collectors. Sockets are handed
//! over one by one, so that a hundred thousand of them need no room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use whydrop_model::{Endpoint, Pair, Socket, SocketMemory, SocketProtocol, SocketState, TcpLoss};

use crate::netlink::{self, Attributes, Buffer, Failure, u16_at, u32_at, u64_at};

/// Message types, here and in `sock_diag.h`.
const TCPDIAG_GETSOCK: u16 = 18;
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
pub(crate) const IPPROTO_TCP: u8 = 6;
pub(crate) const IPPROTO_UDP: u8 = 17;
pub(crate) const IPPROTO_RAW: u8 = 255;
/// Bytes of `struct inet_diag_sockid`; all zero selects every socket.
const SOCKID: usize = 48;
/// Bytes of `struct inet_diag_msg`.
const INET_DIAG_MSG: usize = 72;
/// Attributes, and what to ask for: bit `N - 1` for attribute `N`.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_PROTOCOL: u16 = 10;
/// Told of every IPv6 socket that listens or is unconnected.
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_CGROUP_ID: u16 = 21;
pub(crate) const WITH_MEMORY: u8 = 1 << (INET_DIAG_SKMEMINFO - 1);
pub(crate) const WITH_INFO: u8 = 1 << (INET_DIAG_INFO - 1);

/// Index of the drops in `INET_DIAG_SKMEMINFO` (`SK_MEMINFO_DROPS`).
const SK_MEMINFO_DROPS: usize = 8;
/// Offsets in `struct tcp_info` (`include/uapi/linux/tcp.h`); it only ever grows at its end.
const TCPI_LOST: usize = 32;
const TCPI_RETRANS: usize = 36;
const TCPI_RTT: usize = 68;
const TCPI_TOTAL_RETRANS: usize = 100;

/// A set of states of `include/net/tcp_states.h`, by number.
pub(crate) const fn states(numbers: &[u8]) -> u32 {
    let (mut set, mut at) = (0, 0);
    while at < numbers.len() {
        set |= 1 << numbers[at];
        at += 1;
    }
    set
}

/// Which sockets to list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) protocol: u8,
    /// Of these states.
    pub(crate) states: u32,
    /// What to tell of each besides the message itself.
    pub(crate) extension: u8,
}

/// Lists the TCP sockets of both address families; `each` gets every `struct inet_diag_msg` with its
/// attributes.
///
/// The kernel walks the sockets of all namespaces for each dump, so one walk for both address
/// families is half the price of one for each. Only the older request can ask for that: it never
/// names a family. Where a kernel refuses it, each family is asked for.
pub(crate) fn list_tcp(
    socket: &mut netlink::Socket,
    buffer: &mut Buffer,
    states: u32,
    extension: u8,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), Failure> {
    match socket.walk(TCPDIAG_GETSOCK, &request(states, extension), buffer, each) {
        Err(Failure::Refused(Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP)) => {
            list(socket, buffer, Query { protocol: IPPROTO_TCP, states, extension }, each)
        }
        other => other,
    }
}

/// Lists the sockets of a protocol, one address family after the other.
pub(crate) fn list(
    socket: &mut netlink::Socket,
    buffer: &mut Buffer,
    query: Query,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), Failure> {
    let kind = SOCK_DIAG_BY_FAMILY;
    socket.walk(kind, &request_by_family(AF_INET, query), buffer, each)?;
    match socket.walk(kind, &request_by_family(AF_INET6, query), buffer, each) {
        // A kernel without IPv6 has no such sockets.
        Err(Failure::Refused(Errno::NOENT)) => Ok(()),
        other => other,
    }
}

/// Any state there is.
const EVERY_STATE: u32 = 0xffff;

/// Hands every socket of a protocol without connections to `each`, with its memory.
pub(crate) fn list_sockets(
    diag: &mut netlink::Socket,
    buffer: &mut Buffer,
    (number, protocol): (u8, SocketProtocol),
    each: &mut dyn FnMut(Socket),
) -> Result<(), Failure> {
    let mut take = |payload: &[u8]| {
        if let Some(socket) = parse(payload, protocol) {
            each(socket);
        }
    };
    let query = Query { protocol: number, states: EVERY_STATE, extension: WITH_MEMORY };
    list(diag, buffer, query, &mut take)
}

/// `struct inet_diag_req`. The family is not looked at.
fn request(states: u32, extension: u8) -> Vec<u8> {
    let mut request = vec![AF_INET, 0, 0, extension];
    request.extend([0; SOCKID]);
    request.extend(states.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request
}

/// `struct inet_diag_req_v2`.
fn request_by_family(family: u8, query: Query) -> Vec<u8> {
    let mut request = vec![family, query.protocol, query.extension, 0];
    request.extend(query.states.to_ne_bytes());
    request.extend([0; SOCKID]);
    request
}

/// A socket from a `struct inet_diag_msg`; `None` if it is not understood. Its counters hold the
/// present value only, as the later of the pair.
pub(crate) fn parse(payload: &[u8], protocol: SocketProtocol) -> Option<Socket> {
    let local = address(payload, 8)?;
    let remote = address(payload, 24)?;
    let ports = [4, 6].map(|at| u16_at(payload, at).map(u16::from_be));
    let mut socket = Socket {
        state: SocketState::from_number(*payload.get(1)?),
        ifindex: u32_at(payload, 40)?,
        cookie: cookie(payload)?,
        recv_queue: u32_at(payload, 56)?,
        send_queue: u32_at(payload, 60)?,
        uid: u32_at(payload, 64),
        inode: u32_at(payload, 68)?.into(),
        ..Socket::new(protocol)
    };
    let port = |port| (protocol != SocketProtocol::Raw).then_some(port);
    socket.local = Some(Endpoint { address: local, port: port(ports[0]?) });
    let [_, remote_port] = ports;
    if !remote.is_unspecified() {
        socket.remote = Some(Endpoint { address: remote, port: port(remote_port?) });
    }
    if protocol == SocketProtocol::Raw {
        // What stands for the port of a raw socket is its protocol.
        socket.number = ports[0]?;
    }
    for (kind, value) in Attributes(payload.get(INET_DIAG_MSG..)?) {
        match kind {
            INET_DIAG_SKMEMINFO => {
                socket.memory = memory(value);
                socket.drops.after = drops(value).into();
            }
            INET_DIAG_INFO if protocol == SocketProtocol::Tcp => socket.tcp = tcp(value),
            INET_DIAG_PROTOCOL if protocol == SocketProtocol::Raw => {
                socket.number = value.first().copied().unwrap_or_default().into();
            }
            INET_DIAG_SKV6ONLY => socket.v6only = value.first().is_some_and(|only| *only != 0),
            INET_DIAG_CGROUP_ID => socket.cgroup = u64_at(value, 0),
            _ => {}
        }
    }
    Some(socket)
}

/// The local port of a `struct inet_diag_msg`.
pub(crate) fn port(payload: &[u8]) -> Option<u16> {
    u16_at(payload, 4).map(u16::from_be)
}

/// A queue at one moment, without the rest of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueNow {
    pub(crate) cookie: u64,
    /// Charged to the receive buffer.
    pub(crate) queued: u32,
    /// Size of the receive buffer; 0 if not told.
    pub(crate) limit: u32,
    pub(crate) drops: u32,
}

/// As [`parse`], for a look at the queue alone.
pub(crate) fn parse_queue(payload: &[u8]) -> Option<QueueNow> {
    let mut queue =
        QueueNow { cookie: cookie(payload)?, queued: u32_at(payload, 56)?, limit: 0, drops: 0 };
    let told = Attributes(payload.get(INET_DIAG_MSG..)?)
        .find(|(kind, _)| *kind == INET_DIAG_SKMEMINFO)
        .map(|(_, value)| value);
    if let Some(value) = told {
        queue.queued = u32_at(value, 0).unwrap_or(queue.queued);
        queue.limit = u32_at(value, 4).unwrap_or(0);
        queue.drops = drops(value);
    }
    Some(queue)
}

fn cookie(payload: &[u8]) -> Option<u64> {
    let [low, high] = [u32_at(payload, 44)?, u32_at(payload, 48)?].map(u64::from);
    Some(low | high << 32)
}

/// The address at an offset of the message, by the message's family. An IPv4 address mapped into
/// IPv6 is told as what it is.
fn address(payload: &[u8], at: usize) -> Option<IpAddr> {
    match *payload.first()? {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(payload.get(at..at + 4)?).ok()?).into()),
        AF_INET6 => {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(payload.get(at..at + 16)?).ok()?);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

/// The array of `sock_diag_put_meminfo`; older kernels told fewer numbers.
pub(crate) fn memory(value: &[u8]) -> Option<SocketMemory> {
    let field = |index: usize| u32_at(value, index * 4).unwrap_or(0);
    (value.len() >= 8).then(|| SocketMemory {
        rmem_alloc: field(0),
        rcvbuf: field(1),
        wmem_alloc: field(2),
        sndbuf: field(3),
        fwd_alloc: field(4),
        wmem_queued: field(5),
        optmem: field(6),
        backlog: field(7),
    })
}

/// The drops in the same array; 0 before 4.10, which did not tell them.
pub(crate) fn drops(value: &[u8]) -> u32 {
    u32_at(value, SK_MEMINFO_DROPS * 4).unwrap_or(0)
}

fn tcp(value: &[u8]) -> Option<TcpLoss> {
    Some(TcpLoss {
        total_retrans: Pair { before: 0, after: u32_at(value, TCPI_TOTAL_RETRANS)?.into() },
        retrans: u32_at(value, TCPI_RETRANS)?,
        lost: u32_at(value, TCPI_LOST)?,
        rtt_us: u32_at(value, TCPI_RTT)?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::Protocol;

    const EVERY: u32 = 0xffff;

    fn ours(
        protocol: SocketProtocol,
        list: impl Fn(&mut netlink::Socket, &mut Buffer, &mut dyn FnMut(&[u8])),
    ) -> Vec<Socket> {
        let mut socket = netlink::Socket::open(Protocol::SockDiag).unwrap();
        let mut found = Vec::new();
        list(&mut socket, &mut Buffer::new(), &mut |payload| {
            found.extend(parse(payload, protocol));
        });
        found.sort_by_key(|socket| socket.cookie);
        found
    }

    /// Needs no privilege: anyone may ask for sockets.
    #[test]
    fn a_connection_is_told_with_both_ends_and_its_round_trip() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (me, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let (_server, _) = listener.accept().unwrap();
        let all = ours(SocketProtocol::Tcp, |socket, buffer, each| {
            list_tcp(socket, buffer, EVERY, WITH_MEMORY | WITH_INFO, each).unwrap();
        });
        let mine = |socket: &&Socket| {
            socket.local.map(|it| (it.address, it.port)) == Some((me.ip(), Some(me.port())))
        };
        let found = all.iter().find(mine).unwrap();
        assert_eq!(found.state, SocketState::Established);
        assert_eq!(found.remote, Some(Endpoint { address: peer.ip(), port: Some(peer.port()) }));
        assert!(found.memory.unwrap().rcvbuf > 0);
        assert!(found.tcp.unwrap().rtt_us > 0);
        assert_ne!((found.inode, found.cookie), (0, 0));
        let apart = ours(SocketProtocol::Tcp, |socket, buffer, each| {
            let query = Query { protocol: IPPROTO_TCP, states: EVERY, extension: WITH_MEMORY };
            list(socket, buffer, query, each).unwrap();
        });
        let same = apart.iter().find(mine).unwrap();
        assert_eq!((same.cookie, same.inode), (found.cookie, found.inode));
    }

    #[test]
    fn a_waiting_datagram_shows_in_the_queue() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let me = socket.local_addr().unwrap();
        socket.send_to(&[0; 100], me).unwrap();
        let query = Query { protocol: IPPROTO_UDP, states: states(&[7]), extension: WITH_MEMORY };
        let all = ours(SocketProtocol::Udp, |diag, buffer, each| {
            list(diag, buffer, query, each).unwrap();
        });
        let found = all
            .iter()
            .find(|socket| socket.local.is_some_and(|it| it.port == Some(me.port())))
            .unwrap();
        assert_eq!((found.state, found.remote), (SocketState::Close, None));
        let memory = found.memory.unwrap();
        assert!(found.recv_queue >= 100 && memory.rmem_alloc >= found.recv_queue);
        assert!(memory.rcvbuf > memory.rmem_alloc);
        let mut diag = netlink::Socket::open(Protocol::SockDiag).unwrap();
        let mut queue = None;
        let mut look = |payload: &[u8]| {
            queue = queue.or(parse_queue(payload).filter(|it| it.cookie == found.cookie));
        };
        list(&mut diag, &mut Buffer::new(), query, &mut look).unwrap();
        let queue = queue.unwrap();
        assert_eq!((queue.queued, queue.limit), (memory.rmem_alloc, memory.rcvbuf));
    }

    #[test]
    fn shorter_arrays_are_those_of_older_kernels() {
        let words: Vec<u8> = (1_u32..=8).flat_map(u32::to_ne_bytes).collect();
        let all = memory(&words).unwrap();
        assert_eq!((all.rmem_alloc, all.rcvbuf, all.backlog, drops(&words)), (1, 2, 8, 0));
        assert_eq!(memory(&words[..28]).unwrap().backlog, 0);
        assert_eq!(memory(&words[..4]), None);
        assert_eq!(tcp(&words), None, "a tcp_info that ends before total_retrans tells nothing");
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        let mut payload = fixture::netlink("linux-6.18-listeners.bin")[0].clone();
        payload[0] = AF_INET6;
        payload[8..24].copy_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        let local = parse(&payload, SocketProtocol::Tcp).unwrap().local.unwrap();
        assert_eq!(local.address.to_string(), "192.0.2.1");
        payload[0] = 99;
        assert_eq!(parse(&payload, SocketProtocol::Tcp), None);
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut("linux-6.18-sockets.bin", |bytes| {
            parse(bytes, SocketProtocol::Tcp);
            parse(bytes, SocketProtocol::Raw);
            parse_queue(bytes);
        });
    }

    #[test]
    fn a_recorded_dump() {
        let messages = fixture::netlink("linux-6.18-sockets.bin");
        let udp: Vec<Socket> = messages
            .iter()
            .filter_map(|it| parse(it, SocketProtocol::Udp))
            .filter(|socket| socket.local.is_some_and(|it| it.port == Some(5353)))
            .collect();
        assert_eq!(udp.len(), 1);
        let memory = udp[0].memory.unwrap();
        assert_eq!((memory.rmem_alloc, memory.rcvbuf, memory.fwd_alloc), (4160, 4608, 4032));
        assert_eq!((udp[0].recv_queue, udp[0].drops.after), (4160, 15));
        assert_eq!((udp[0].uid, udp[0].inode), (Some(0), 1_907_486));
        assert!(udp[0].cgroup.is_some());
        let waiting: Vec<Socket> = messages
            .iter()
            .filter_map(|it| parse(it, SocketProtocol::Tcp))
            .filter(|socket| socket.local.is_some_and(|it| it.port == Some(8080)))
            .collect();
        let [waiting] = &waiting[..] else { panic!("{waiting:?}") };
        assert_eq!((waiting.state, waiting.recv_queue), (SocketState::Established, 5));
        assert_eq!(waiting.remote.unwrap().port, Some(58270));
        let tcp = waiting.tcp.unwrap();
        assert_eq!((tcp.total_retrans.after, tcp.rtt_us), (0, 21));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            for protocol in [SocketProtocol::Tcp, SocketProtocol::Udp, SocketProtocol::Raw] {
                parse(&bytes, protocol);
            }
            parse_queue(&bytes);
            port(&bytes);
            memory(&bytes);
            tcp(&bytes);
        }

        #[test]
        fn hostile_attributes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut payload = fixture::netlink("linux-6.18-listeners.bin")[0].clone();
            payload.truncate(INET_DIAG_MSG);
            payload.extend(bytes);
            prop_assert!(parse(&payload, SocketProtocol::Tcp).is_some());
            prop_assert!(parse_queue(&payload).is_some());
        }
    }
}
