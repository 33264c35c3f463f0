//! Listening unix sockets with their accept queues, from `unix_diag` (`net/unix/diag.c`).
//!
//! Where a server does not accept, `connect()` to it waits or fails with EAGAIN, which is how a web
//! server sees a full application server behind it.

use rustix::io::Errno;
use whydrop_model::{Socket, SocketProtocol, SocketState};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::inet_diag::SOCK_DIAG_BY_FAMILY;
use crate::netlink::{self, Attributes, Failure, u32_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "unix_listeners", what: "listening unix sockets", read: Read::Sockets(list) };

const AF_UNIX: u8 = 1;
/// `include/net/tcp_states.h`, as a bit.
const LISTENING: u32 = 1 << 10;
/// What to tell (`include/uapi/linux/unix_diag.h`): `UDIAG_SHOW_NAME`, `_RQLEN`, `_UID`.
const SHOW: u32 = 0x1 | 0x10 | 0x40;
/// Bytes of `struct unix_diag_msg`.
const UNIX_DIAG_MSG: usize = 16;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_UID: u16 = 7;

fn list(
    place: &mut Place<'_>,
    diag: &mut netlink::Socket,
    each: &mut dyn FnMut(Socket),
) -> Result<(), Why> {
    let mut take = |payload: &[u8]| {
        if let Some(socket) = parse(payload) {
            each(socket);
        }
    };
    match diag.walk(SOCK_DIAG_BY_FAMILY, &request(), place.buffer, &mut take) {
        // Built without `unix_diag`; nothing else tells these queues.
        Err(Failure::Refused(Errno::NOENT)) => Ok(()),
        other => Ok(other?),
    }
}

/// `struct unix_diag_req`.
fn request() -> Vec<u8> {
    let mut request = vec![AF_UNIX, 0, 0, 0];
    for number in [LISTENING, 0, SHOW, 0, 0] {
        request.extend(number.to_ne_bytes());
    }
    request
}

pub(crate) fn parse(payload: &[u8]) -> Option<Socket> {
    let mut socket = Socket::new(SocketProtocol::Unix);
    socket.state = SocketState::from_number(*payload.get(2)?);
    socket.inode = u32_at(payload, 4)?.into();
    let [low, high] = [u32_at(payload, 8)?, u32_at(payload, 12)?].map(u64::from);
    socket.cookie = low | high << 32;
    for (kind, value) in Attributes(payload.get(UNIX_DIAG_MSG..)?) {
        match kind {
            UNIX_DIAG_NAME => socket.name = Some(path(value)),
            UNIX_DIAG_RQLEN => {
                socket.recv_queue = u32_at(value, 0).unwrap_or(0);
                socket.send_queue = u32_at(value, 4).unwrap_or(0);
            }
            UNIX_DIAG_UID => socket.uid = u32_at(value, 0),
            _ => {}
        }
    }
    Some(socket)
}

/// A path may end with a zero byte; an abstract name begins with one and may hold more.
fn path(bytes: &[u8]) -> String {
    match bytes {
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name).replace('\0', "@")),
        _ => netlink::text(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const FIXTURE: &str = "linux-6.18-unix-listeners.bin";

    #[test]
    fn a_recorded_dump() {
        let found: Vec<Socket> =
            fixture::netlink(FIXTURE).iter().filter_map(|it| parse(it)).collect();
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_deref().unwrap(), it.recv_queue, it.send_queue))
            .collect();
        assert_eq!(told, [("/tmp/sk/full.sock", 2, 1), ("@wdcol", 0, 7)]);
        assert!(found.iter().all(|it| it.state == SocketState::Listen && it.uid == Some(0)));
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut(FIXTURE, |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
            path(&bytes);
        }
    }
}
