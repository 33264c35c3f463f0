//! TCP sockets in state LISTEN with their accept queues, from `inet_diag`
//! (`net/ipv4/inet_diag.c`). One call is one look; `look` follows the queues through the window.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::collector::{Collector, Read};
use crate::error::Why;
use crate::netlink::{Attributes, Buffer, Dump, Failure, Socket, u16_at, u32_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "listeners", what: "listening TCP sockets", read: Read::Looks };

/// Message types of `include/uapi/linux/inet_diag.h` and `sock_diag.h`.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// Bytes of `struct inet_diag_sockid`; all zero selects every socket.
const SOCKID: usize = 48;
/// Bytes of `struct inet_diag_msg`.
const INET_DIAG_MSG: usize = 72;
const INET_DIAG_SKMEMINFO: u16 = 7;
/// Index of the drops in `INET_DIAG_SKMEMINFO` (`SK_MEMINFO_DROPS`).
const SK_MEMINFO_DROPS: usize = 8;
/// `include/net/tcp_states.h`.
const TCP_LISTEN: u8 = 10;

/// A listener at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The kernel's own number of this socket, never used twice in a boot.
    pub(crate) cookie: u64,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) ifindex: u32,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    /// `sk_ack_backlog`.
    pub(crate) queued: u32,
    /// `sk_max_ack_backlog`.
    pub(crate) backlog: u32,
    /// `sk_drops`.
    pub(crate) drops: u32,
}

/// All listeners of the socket's namespace.
pub(crate) fn dump(socket: &mut Socket, buffer: &mut Buffer) -> Result<Vec<Seen>, Why> {
    let extension = 1 << (INET_DIAG_SKMEMINFO - 1);
    Ok(dump_tcp(socket, buffer, TCP_LISTEN, extension, parse)?.items)
}

/// Dumps the TCP sockets in one state. `parse` gets each `struct inet_diag_msg` with its attributes.
///
/// The kernel walks the sockets of all namespaces for each dump, so one walk for both address
/// families is half the price of one for each. Only the older request can ask for that: it never
/// names a family. Where a kernel refuses it, each family is asked for.
pub(crate) fn dump_tcp<T>(
    socket: &mut Socket,
    buffer: &mut Buffer,
    state: u8,
    extension: u8,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Dump<T>, Failure> {
    match socket.dump(TCPDIAG_GETSOCK, &request(state, extension), buffer, &parse) {
        Err(Failure::Refused(Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP)) => {
            dump_by_family(socket, buffer, state, extension, parse)
        }
        other => other,
    }
}

fn dump_by_family<T>(
    socket: &mut Socket,
    buffer: &mut Buffer,
    state: u8,
    extension: u8,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Dump<T>, Failure> {
    let mut of_family = |family| {
        let request = request_by_family(family, state, extension);
        socket.dump(SOCK_DIAG_BY_FAMILY, &request, buffer, &parse)
    };
    let mut both = of_family(AF_INET)?;
    match of_family(AF_INET6) {
        Ok(mut dump) => both.items.append(&mut dump.items),
        // A kernel without IPv6 has no such sockets.
        Err(Failure::Refused(Errno::NOENT)) => {}
        Err(failure) => return Err(failure),
    }
    Ok(both)
}

/// `struct inet_diag_req`. The family is not looked at.
fn request(state: u8, extension: u8) -> Vec<u8> {
    let mut request = vec![AF_INET, 0, 0, extension];
    request.extend([0; SOCKID]);
    request.extend((1_u32 << state).to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request
}

/// `struct inet_diag_req_v2`.
fn request_by_family(family: u8, state: u8, extension: u8) -> Vec<u8> {
    let mut request = vec![family, IPPROTO_TCP, extension, 0];
    request.extend((1_u32 << state).to_ne_bytes());
    request.extend([0; SOCKID]);
    request
}

/// The local port of a `struct inet_diag_msg`.
pub(crate) fn port(payload: &[u8]) -> Option<u16> {
    u16_at(payload, 4).map(u16::from_be)
}

fn parse(payload: &[u8]) -> Option<Seen> {
    let address = match *payload.first()? {
        AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(payload.get(8..12)?).ok()?).into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(payload.get(8..24)?).ok()?).into(),
        _ => return None,
    };
    let cookie = [u32_at(payload, 44)?, u32_at(payload, 48)?].map(u64::from);
    let drops = Attributes(payload.get(INET_DIAG_MSG..)?)
        .find(|(kind, _)| *kind == INET_DIAG_SKMEMINFO)
        .and_then(|(_, value)| u32_at(value, SK_MEMINFO_DROPS * 4));
    Some(Seen {
        cookie: cookie[0] | cookie[1] << 32,
        address,
        port: port(payload)?,
        ifindex: u32_at(payload, 40)?,
        queued: u32_at(payload, 56)?,
        backlog: u32_at(payload, 60)?,
        uid: u32_at(payload, 64)?,
        inode: u32_at(payload, 68)?.into(),
        drops: drops.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::Protocol;

    #[test]
    fn a_recorded_dump() {
        let seen: Vec<Seen> = fixture::netlink("linux-6.18-listeners.bin")
            .iter()
            .filter_map(|it| parse(it))
            .collect();
        assert_eq!(seen.len(), 2);
        let four = seen.iter().find(|seen| seen.port == 8080).unwrap();
        assert_eq!(four.address.to_string(), "127.0.0.2");
        assert_eq!((four.queued, four.backlog, four.drops), (3, 2, 4));
        assert_ne!((four.inode, four.cookie), (0, 0));
        let six = seen.iter().find(|seen| seen.port == 8081).unwrap();
        assert_eq!(six.address.to_string(), "::");
        assert_eq!((six.queued, six.backlog, six.drops), (0, 7, 0));
    }

    #[test]
    fn a_socket_without_memory_information_has_no_drops() {
        let message = &fixture::netlink("linux-6.18-listeners.bin")[0];
        assert_eq!(parse(&message[..INET_DIAG_MSG]).unwrap().drops, 0);
        assert_eq!(parse(&message[..INET_DIAG_MSG - 1]), None);
    }

    /// Needs no privilege: anyone may ask for sockets.
    #[test]
    fn both_ways_to_ask_give_the_same() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").ok();
        let mut ports = vec![four.local_addr().unwrap().port()];
        ports.extend(six.iter().map(|six| six.local_addr().unwrap().port()));
        let mut socket = Socket::open(Protocol::SockDiag).unwrap();
        let mut buffer = Buffer::new();
        let mine = |items: Vec<Seen>| {
            let mut items: Vec<Seen> =
                items.into_iter().filter(|seen| ports.contains(&seen.port)).collect();
            items.sort_by_key(|seen| seen.cookie);
            items
        };
        let together = mine(dump(&mut socket, &mut buffer).unwrap());
        let extension = 1 << (INET_DIAG_SKMEMINFO - 1);
        let apart = dump_by_family(&mut socket, &mut buffer, TCP_LISTEN, extension, parse).unwrap();
        assert_eq!(together.len(), ports.len());
        assert_eq!(together, mine(apart.items));
    }

    #[test]
    fn a_cut_message_never_panics() {
        for message in fixture::netlink("linux-6.18-listeners.bin") {
            for length in 0..message.len() {
                parse(&message[..length]);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
            port(&bytes);
        }
    }
}
