//! TCP connections, from `inet_diag` (`net/ipv4/inet_diag.c`, `tcp_diag.c`). Listeners are those of
//! `listeners`.

use whydrop_model::{Socket, SocketProtocol};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::inet_diag::{self, WITH_INFO, WITH_MEMORY};
use crate::netlink;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "tcp_sockets", what: "TCP connections", read: Read::Sockets(list) };

/// All states but SYN_RECV, TIME_WAIT, LISTEN and NEW_SYN_RECV: those have no queue, no buffer and
/// no retransmits of data, and there may be very many.
const CONNECTIONS: u32 = inet_diag::states(&[1, 2, 4, 5, 7, 8, 9, 11]);

fn list(
    place: &mut Place<'_>,
    diag: &mut netlink::Socket,
    each: &mut dyn FnMut(Socket),
) -> Result<(), Why> {
    let mut take = |payload: &[u8]| {
        if let Some(socket) = inet_diag::parse(payload, SocketProtocol::Tcp) {
            each(socket);
        }
    };
    let extension = WITH_MEMORY | WITH_INFO;
    Ok(inet_diag::list_tcp(diag, place.buffer, CONNECTIONS, extension, &mut take)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::Roots;
    use crate::netlink::{Buffer, Protocol};

    /// Needs no privilege: anyone may ask for sockets.
    #[test]
    fn both_ends_of_a_connection_are_found_and_its_listener_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let ports = [client.local_addr().unwrap().port(), listener.local_addr().unwrap().port()];
        let (roots, mut buffer) = (Roots::default(), Buffer::new());
        let mut diag = netlink::Socket::open(Protocol::SockDiag).unwrap();
        let mut found = Vec::new();
        list(&mut Place::here(&roots, &mut buffer), &mut diag, &mut |socket| found.push(socket))
            .unwrap();
        let port = |socket: &Socket| socket.local.and_then(|it| it.port).unwrap();
        found.retain(|socket| ports.contains(&port(socket)));
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|socket| socket.tcp.is_some()));
    }
}
