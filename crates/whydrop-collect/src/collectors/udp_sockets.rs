//! UDP sockets, from `inet_diag` (`net/ipv4/udp_diag.c`) or, on a kernel built without it, from
//! `/proc/net/udp` and `udp6`. Unconnected ones are looked at again and again; `sockets` follows
//! them through the window.

use rustix::io::Errno;
use whydrop_model::{Socket, SocketProtocol};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::inet_diag::{self, IPPROTO_UDP, Query, WITH_MEMORY};
use crate::netlink::{self, Buffer, Failure};
use crate::socket_table;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "udp_sockets", what: "UDP sockets", read: Read::Sockets(list) };

/// `include/net/tcp_states.h`.
const TCP_CLOSE: u8 = 7;

fn list(
    place: &mut Place<'_>,
    diag: &mut netlink::Socket,
    each: &mut dyn FnMut(Socket),
) -> Result<(), Why> {
    let udp = (IPPROTO_UDP, SocketProtocol::Udp);
    match inet_diag::list_sockets(diag, place.buffer, udp, each) {
        Err(Failure::Refused(Errno::NOENT)) => list_table(place, each),
        other => Ok(other?),
    }
}

fn list_table(place: &Place<'_>, each: &mut dyn FnMut(Socket)) -> Result<(), Why> {
    for name in ["udp", "udp6"] {
        let text = place.table(name)?.unwrap_or_default();
        socket_table::internet(&text, SocketProtocol::Udp, each);
    }
    Ok(())
}

/// Hands the `struct inet_diag_msg` of every unconnected UDP socket to `each`.
pub(crate) fn look(
    diag: &mut netlink::Socket,
    buffer: &mut Buffer,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), Why> {
    let states = inet_diag::states(&[TCP_CLOSE]);
    let query = Query { protocol: IPPROTO_UDP, states, extension: WITH_MEMORY };
    match inet_diag::list(diag, buffer, query, each) {
        // The tables are too dear to be read at each look.
        Err(Failure::Refused(Errno::NOENT)) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::fixture;
    use crate::netlink::Protocol;

    #[test]
    fn the_tables_tell_the_same_without_memory() {
        let (roots, mut buffer) = (fixture::roots("linux-6.18"), Buffer::new());
        let mut found = Vec::new();
        list_table(&Place::here(&roots, &mut buffer), &mut |socket| found.push(socket)).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|socket| socket.memory.is_none()));
        let roots = fixture::roots("empty");
        list_table(&Place::here(&roots, &mut buffer), &mut |_| panic!("no table")).unwrap();
    }

    /// Needs no privilege: anyone may ask for sockets.
    #[test]
    fn a_look_leaves_out_connected_sockets() {
        let [waits, talks] = [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        talks.connect(waits.local_addr().unwrap()).unwrap();
        let ports = [&waits, &talks].map(|socket| socket.local_addr().unwrap().port());
        let port = |socket: &Socket| socket.local.and_then(|it| it.port).unwrap();
        let mut diag = netlink::Socket::open(Protocol::SockDiag).unwrap();
        let (roots, mut buffer) = (crate::Roots::default(), Buffer::new());
        let mut looked = Vec::new();
        look(&mut diag, &mut buffer, &mut |payload| {
            looked.extend(inet_diag::parse(payload, SocketProtocol::Udp));
        })
        .unwrap();
        looked.retain(|socket| ports.contains(&port(socket)));
        assert_eq!(looked.iter().map(port).collect::<Vec<_>>(), [ports[0]]);
        let mut listed = Vec::new();
        list(&mut Place::here(&roots, &mut buffer), &mut diag, &mut |it| listed.push(it)).unwrap();
        listed.retain(|socket| ports.contains(&port(socket)));
        assert_eq!(listed.len(), 2);
        let talks = listed.iter().find(|socket| port(socket) == ports[1]).unwrap();
        assert_eq!(talks.remote.unwrap().port, Some(ports[0]));
    }
}
