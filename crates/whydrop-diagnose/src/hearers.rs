//! Sockets that hear what passes by protocol or EtherType, or the kernel's own news: raw, packet and
//! netlink. Their drops are in `sk_drops`; not every one of them loses a packet to the network.

use whydrop_model::{EvidenceItem, EvidenceKind, Namespace, Site, Socket, SocketProtocol};

use crate::case::Case;

/// `ETH_P_ALL` (`include/uapi/linux/if_ether.h`): all frames.
pub(crate) const ALL_FRAMES: u16 = 3;

/// Those of this kind in a namespace that lost something in the window, and how much.
pub(crate) fn losing(
    namespace: &Namespace,
    kind: SocketProtocol,
) -> impl Iterator<Item = (&Socket, u64)> {
    let lost = |socket: &Socket| socket.drops.delta32();
    let sockets = namespace.sockets.iter().filter(move |socket| socket.protocol == kind);
    sockets.map(move |socket| (socket, lost(socket))).filter(|(_, lost)| *lost > 0)
}

/// What reports call such a socket.
pub(crate) fn name(socket: &Socket) -> String {
    match (socket.protocol, socket.number) {
        (SocketProtocol::Raw, number) => format!("raw protocol {number}"),
        (SocketProtocol::Packet, ALL_FRAMES) => "packet, all frames".into(),
        (SocketProtocol::Packet, number) => format!("packet {number:#06x}"),
        (_, number) => format!("netlink {number}"),
    }
}

/// Its process in words.
pub(crate) fn owner(socket: &Socket) -> String {
    socket.process().map_or("A program (not visible to this user)".into(), |one| {
        format!("{} (pid {})", one.comm, one.pid)
    })
}

/// Where it is.
pub(crate) fn site(case: &Case<'_>, namespace: &Namespace, socket: &Socket) -> Site {
    Site {
        socket: Some(name(socket)),
        process: socket.process(),
        object: Some(format!("receive buffer of {}", name(socket))),
        ..case.site_of(Some(namespace.inode))
    }
}

/// Its drops, and how full its buffer is.
pub(crate) fn proof(socket: &Socket) -> Vec<EvidenceItem> {
    let drops = format!("drops of {}", name(socket));
    let mut items = vec![EvidenceItem::new(EvidenceKind::Counter, drops, socket.drops.delta32())];
    if let Some(memory) = socket.memory {
        let name =
            format!("receive buffer of {}, at the end against its size, in bytes", name(socket));
        let value = format!("{} of {}", memory.rmem_alloc, memory.rcvbuf);
        items.push(EvidenceItem::new(EvidenceKind::State, name, value));
    }
    items
}
