//! Packet sockets (`AF_PACKET`), from `packet_diag` (`net/packet/diag.c`).
//!
//! What they drop is lost to an observer only, never to the network. A socket with a receive ring
//! counts its drops apart (`PACKET_STATISTICS`); only its owner may read that, and reading clears
//! it, so it is not read here.

use rustix::io::Errno;
use whydrop_model::{PacketRing, Socket, SocketProtocol};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::inet_diag::{self, SOCK_DIAG_BY_FAMILY};
use crate::netlink::{self, Attributes, Failure, u16_at, u32_at};
use crate::socket_table;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "packet_sockets", what: "packet sockets", read: Read::Sockets(list) };

const AF_PACKET: u8 = 17;
/// What to tell (`include/uapi/linux/packet_diag.h`): `PACKET_SHOW_INFO`, `_RING_CFG`, `_MEMINFO`.
const SHOW: u32 = 0x1 | 0x4 | 0x10;
/// Bytes of `struct packet_diag_msg`.
const PACKET_DIAG_MSG: usize = 16;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_RX_RING: u16 = 2;
const PACKET_DIAG_UID: u16 = 5;
const PACKET_DIAG_MEMINFO: u16 = 6;

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
        Err(Failure::Refused(Errno::NOENT)) => {
            list_table(&place.table("packet")?.unwrap_or_default(), each);
            Ok(())
        }
        other => Ok(other?),
    }
}

/// `struct packet_diag_req`.
fn request() -> Vec<u8> {
    let mut request = vec![AF_PACKET, 0, 0, 0];
    for number in [0, SHOW, 0, 0] {
        request.extend(number.to_ne_bytes());
    }
    request
}

pub(crate) fn parse(payload: &[u8]) -> Option<Socket> {
    let mut socket = Socket::new(SocketProtocol::Packet);
    socket.number = u16_at(payload, 2)?;
    socket.inode = u32_at(payload, 4)?.into();
    let [low, high] = [u32_at(payload, 8)?, u32_at(payload, 12)?].map(u64::from);
    socket.cookie = low | high << 32;
    for (kind, value) in Attributes(payload.get(PACKET_DIAG_MSG..)?) {
        match kind {
            PACKET_DIAG_INFO => socket.ifindex = u32_at(value, 0).unwrap_or(0),
            PACKET_DIAG_RX_RING => socket.ring = ring(value),
            PACKET_DIAG_UID => socket.uid = u32_at(value, 0),
            PACKET_DIAG_MEMINFO => {
                socket.memory = inet_diag::memory(value);
                socket.drops.after = inet_diag::drops(value).into();
                socket.recv_queue = socket.memory.map_or(0, |memory| memory.rmem_alloc);
            }
            _ => {}
        }
    }
    Some(socket)
}

fn ring(value: &[u8]) -> Option<PacketRing> {
    Some(PacketRing {
        block_size: u32_at(value, 0)?,
        block_nr: u32_at(value, 4)?,
        frame_size: u32_at(value, 8)?,
        frame_nr: u32_at(value, 12)?,
    })
}

/// `/proc/net/packet`; it tells no drops.
pub(crate) fn list_table(text: &str, each: &mut dyn FnMut(Socket)) {
    socket_table::for_each(text, |line| {
        let Some(inode) = line.number("Inode") else { return };
        let mut socket = Socket::new(SocketProtocol::Packet);
        socket.number = line.hex("Proto").and_then(|it| it.try_into().ok()).unwrap_or_default();
        socket.ifindex = line.number("Iface").unwrap_or(0);
        socket.recv_queue = line.number("Rmem").unwrap_or(0);
        socket.uid = line.number("User");
        socket.inode = inode;
        each(socket);
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const FIXTURE: &str = "linux-6.18-packet-sockets.bin";

    #[test]
    fn a_recorded_dump() {
        let found: Vec<Socket> =
            fixture::netlink(FIXTURE).iter().filter_map(|it| parse(it)).collect();
        assert_eq!(found.iter().map(|it| it.number).collect::<Vec<_>>(), [0x0806, 3, 3]);
        let full = &found[1];
        assert_eq!((full.recv_queue, full.memory.unwrap().rcvbuf), (4992, 4608));
        assert_eq!((full.drops.after, full.inode, full.uid), (26, 1_907_501, Some(0)));
        assert_eq!(full.ring, None);
        let ring = found[2].ring.unwrap();
        assert_eq!((ring.block_size, ring.block_nr), (4096, 2));
        assert_eq!((ring.frame_size, ring.frame_nr), (2048, 4));
    }

    #[test]
    fn the_table_tells_the_same_sockets() {
        let path = fixture::roots("linux-6.18").proc.join("thread-self/net/packet");
        let mut found = Vec::new();
        list_table(&fs::read_to_string(path).unwrap(), &mut |socket| found.push(socket));
        let told: Vec<_> = found.iter().map(|it| (it.number, it.recv_queue, it.inode)).collect();
        assert_eq!(told, [(0x0806, 0, 1_907_500), (3, 4992, 1_907_501), (3, 0, 1_907_502)]);
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
        }

        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,80}", line in "[ 0-9a-f]{0,60}") {
            list_table(&text, &mut |_| {});
            list_table(&format!("sk Proto Iface Rmem User Inode\n{line}\n"), &mut |_| {});
        }
    }
}
