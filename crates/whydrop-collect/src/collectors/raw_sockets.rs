//! Raw IP sockets, from `inet_diag` (`net/ipv4/raw_diag.c`) or, on a kernel built without it, from
//! `/proc/net/raw` and `raw6`.

use rustix::io::Errno;
use whydrop_model::{Socket, SocketProtocol};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::inet_diag::{self, IPPROTO_RAW};
use crate::netlink::{self, Failure};
use crate::socket_table;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "raw_sockets", what: "raw IP sockets", read: Read::Sockets(list) };

fn list(
    place: &mut Place<'_>,
    diag: &mut netlink::Socket,
    each: &mut dyn FnMut(Socket),
) -> Result<(), Why> {
    let raw = (IPPROTO_RAW, SocketProtocol::Raw);
    match inet_diag::list_sockets(diag, place.buffer, raw, each) {
        Err(Failure::Refused(Errno::NOENT)) => {}
        other => return Ok(other?),
    }
    for name in ["raw", "raw6"] {
        let text = place.table(name)?.unwrap_or_default();
        socket_table::internet(&text, SocketProtocol::Raw, each);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Roots;
    use crate::netlink::{Buffer, Protocol};

    /// Needs no privilege: whichever of the two ways this kernel has, it answers.
    #[test]
    fn raw_sockets_are_told_or_there_are_none() {
        let (roots, mut buffer) = (Roots::default(), Buffer::new());
        let mut diag = netlink::Socket::open(Protocol::SockDiag).unwrap();
        let mut place = Place::here(&roots, &mut buffer);
        list(&mut place, &mut diag, &mut |socket| {
            assert_eq!(socket.protocol, SocketProtocol::Raw);
            assert_eq!(socket.local.unwrap().port, None);
        })
        .unwrap();
    }
}
