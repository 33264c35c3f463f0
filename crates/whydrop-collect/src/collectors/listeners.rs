//! TCP sockets in state LISTEN with their accept queues, from `inet_diag`
//! (`net/ipv4/inet_diag.c`). One call is one look; `look` follows the queues through the window.

use std::net::IpAddr;

use whydrop_model::SocketProtocol;

use crate::collector::{Collector, Read};
use crate::error::Why;
use crate::inet_diag::{self, WITH_MEMORY};
use crate::netlink::{Buffer, Socket};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "listeners", what: "listening TCP sockets", read: Read::Looks };

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
    pub(crate) v6only: bool,
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
    let states = inet_diag::states(&[TCP_LISTEN]);
    let mut listeners = Vec::new();
    inet_diag::list_tcp(socket, buffer, states, WITH_MEMORY, &mut |payload| {
        listeners.extend(parse(payload));
    })?;
    Ok(listeners)
}

pub(crate) fn parse(payload: &[u8]) -> Option<Seen> {
    let socket = inet_diag::parse(payload, SocketProtocol::Tcp)?;
    let local = socket.local?;
    Some(Seen {
        cookie: socket.cookie,
        address: local.address,
        port: local.port?,
        ifindex: socket.ifindex,
        v6only: socket.v6only,
        queued: socket.recv_queue,
        backlog: socket.send_queue,
        uid: socket.uid?,
        inode: socket.inode,
        drops: socket.drops.after as u32,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::inet_diag::{IPPROTO_TCP, Query};
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
        assert!(!six.v6only && !four.v6only);
    }

    #[test]
    fn a_socket_without_memory_information_has_no_drops() {
        let message = &fixture::netlink("linux-6.18-listeners.bin")[0];
        // Bytes of `struct inet_diag_msg`.
        assert_eq!(parse(&message[..72]).unwrap().drops, 0);
        assert_eq!(parse(&message[..71]), None);
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
        let states = inet_diag::states(&[TCP_LISTEN]);
        let query = Query { protocol: IPPROTO_TCP, states, extension: WITH_MEMORY };
        let mut apart = Vec::new();
        let mut take = |payload: &[u8]| apart.extend(parse(payload));
        inet_diag::list(&mut socket, &mut buffer, query, &mut take).unwrap();
        assert_eq!(together.len(), ports.len());
        assert_eq!(together, mine(apart));
        // Bound to an address of IPv6 it takes no IPv4, though nobody set the option.
        assert!(together.iter().all(|seen| seen.v6only == seen.address.is_ipv6()));
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut("linux-6.18-listeners.bin", |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
