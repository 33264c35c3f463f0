//! Which sockets are worth telling, worst first, in bounded room.

use std::cmp::Reverse;

use whydrop_model::{Socket, SocketProtocol};

use super::takes_from_anybody;

/// Sockets told of each class, at most. What does not fit is still counted.
const IN_TROUBLE: usize = 1024;
/// Of TCP connections fewer: what they drop is harmless more often than not.
const TCP_IN_TROUBLE: usize = 128;
const RETRANSMITTING: usize = 64;
const WAITING: usize = 128;
const QUIET: usize = 256;
/// Connected UDP sockets: the oldest are servers rather than clients.
const CONNECTED: usize = 64;

/// The sockets that will be told.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Something is wrong with them.
    trouble: Worst<IN_TROUBLE>,
    /// Likewise, of TCP connections.
    tcp_trouble: Worst<TCP_IN_TROUBLE>,
    /// Their packets were lost somewhere.
    retransmitting: Worst<RETRANSMITTING>,
    /// Something waits in their queue.
    waiting: Worst<WAITING>,
    /// They get packets from anybody and nothing is wrong.
    quiet: Worst<QUIET>,
    /// They hold a port, and what comes from others than their peer finds nobody.
    connected: Worst<CONNECTED>,
}

impl Selection {
    pub(super) fn offer(&mut self, socket: Socket) {
        if is_in_trouble(&socket) {
            match socket.protocol {
                SocketProtocol::Tcp => self.tcp_trouble.offer(socket),
                _ => self.trouble.offer(socket),
            }
        } else if socket.tcp.is_some_and(|tcp| tcp.total_retrans.delta32() > 0) {
            self.retransmitting.offer(socket);
        } else if socket.protocol == SocketProtocol::Unix {
            // Its queue is not full, and a server that has connections to accept is a healthy one.
        } else if socket.recv_queue > 0 {
            self.waiting.offer(socket);
        } else if takes_from_anybody(&socket) {
            self.quiet.offer(socket);
        } else if socket.protocol == SocketProtocol::Udp {
            self.connected.offer(socket);
        }
    }

    /// Leaves out all of a kind.
    pub(super) fn forget(&mut self, protocol: SocketProtocol) {
        for class in [
            &mut self.trouble.0,
            &mut self.tcp_trouble.0,
            &mut self.retransmitting.0,
            &mut self.waiting.0,
            &mut self.quiet.0,
            &mut self.connected.0,
        ] {
            class.retain(|socket| socket.protocol != protocol);
        }
    }

    /// Inodes of those in trouble.
    pub(super) fn in_trouble(&self) -> impl Iterator<Item = u64> {
        self.trouble.0.iter().chain(&self.tcp_trouble.0).map(|socket| socket.inode)
    }

    /// All of them, those in trouble first.
    pub(super) fn finish(self) -> Vec<Socket> {
        let mut all = self.trouble.finish();
        all.extend(self.tcp_trouble.finish());
        all.extend(self.retransmitting.finish());
        all.extend(self.waiting.finish());
        all.extend(self.quiet.finish());
        all.extend(self.connected.finish());
        all
    }
}

/// At least three quarters of what it may hold: worth a look, if not yet a loss.
pub(super) fn is_near(queued: u32, limit: u32) -> bool {
    limit > 0 && u64::from(queued) * 4 >= u64::from(limit) * 3
}

/// It lost something in the window, or came near to it.
fn is_in_trouble(socket: &Socket) -> bool {
    socket.drops.delta32() > 0
        || match socket.protocol {
            SocketProtocol::Unix => socket.recv_queue > 0 && socket.recv_queue >= socket.send_queue,
            _ => socket.memory.is_some_and(|memory| is_near(socket.peak(), memory.rcvbuf)),
        }
}

/// A UDP socket without anything wrong and without anything waiting.
pub(super) fn is_quiet_udp(socket: &Socket) -> bool {
    socket.protocol == SocketProtocol::Udp && socket.recv_queue == 0 && !is_in_trouble(socket)
}

/// What decides which of two sockets is worse.
fn rank(socket: &Socket) -> (u64, u64, u64, Reverse<u64>) {
    let fill = socket
        .memory
        .map_or(0, |memory| u64::from(socket.peak()) * 1000 / u64::from(memory.rcvbuf.max(1)));
    let retransmits = socket.tcp.map_or(0, |tcp| tcp.total_retrans.delta32());
    let queued = fill.max(u64::from(socket.recv_queue.min(1)));
    (socket.drops.delta32(), retransmits, queued, Reverse(socket.inode))
}

/// The worst `MOST` of those offered.
#[derive(Debug, Default)]
struct Worst<const MOST: usize>(Vec<Socket>);

impl<const MOST: usize> Worst<MOST> {
    fn offer(&mut self, socket: Socket) {
        self.0.push(socket);
        if self.0.len() >= MOST * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.0.sort_by_cached_key(|socket| Reverse(rank(socket)));
        self.0.truncate(MOST);
    }

    fn finish(mut self) -> Vec<Socket> {
        self.cut();
        self.0
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, QueueStep, SocketMemory, SocketState, TcpLoss};

    use super::*;

    fn socket(protocol: SocketProtocol, inode: u64) -> Socket {
        Socket { inode, ..Socket::new(protocol) }
    }

    fn holding(rmem_alloc: u32, inode: u64) -> Socket {
        let memory = SocketMemory { rmem_alloc, rcvbuf: 1000, ..SocketMemory::default() };
        Socket { memory: Some(memory), ..socket(SocketProtocol::Udp, inode) }
    }

    fn told(sockets: Vec<Socket>) -> (Vec<u64>, Vec<u64>) {
        let mut selection = Selection::default();
        for socket in sockets {
            selection.offer(socket);
        }
        let trouble = selection.in_trouble().collect();
        (trouble, selection.finish().iter().map(|socket| socket.inode).collect())
    }

    #[test]
    fn trouble_is_drops_or_a_queue_near_its_limit() {
        let drops = Pair { before: 5, after: 6 };
        let peak = QueueStep { at_ms: 0, queued: 750, drops: 0 };
        let udp = SocketProtocol::Udp;
        let unix = |queued, backlog, inode| Socket {
            recv_queue: queued,
            send_queue: backlog,
            state: SocketState::Listen,
            ..socket(SocketProtocol::Unix, inode)
        };
        let (trouble, all) = told(vec![
            Socket { drops, ..socket(udp, 1) },
            holding(749, 2),
            holding(750, 3),
            Socket { steps: vec![peak], ..holding(0, 4) },
            unix(2, 1, 5),
            unix(1, 2, 6),
            unix(0, 0, 7),
        ]);
        assert_eq!(trouble, [1, 3, 4, 5]);
        assert_eq!(all, [1, 3, 4, 5, 2], "the quiet UDP socket too, the quiet unix ones not");
    }

    #[test]
    fn of_connected_and_quiet_sockets_only_some_are_told() {
        let total_retrans = Pair { before: 1, after: 2 };
        let tcp = Some(TcpLoss { total_retrans, ..TcpLoss::default() });
        let connected = SocketState::Established;
        let (trouble, all) = told(vec![
            socket(SocketProtocol::Tcp, 1),
            socket(SocketProtocol::Netlink, 2),
            Socket { state: connected, ..socket(SocketProtocol::Udp, 3) },
            socket(SocketProtocol::Raw, 4),
            socket(SocketProtocol::Packet, 5),
            Socket { tcp, ..socket(SocketProtocol::Tcp, 6) },
            Socket { recv_queue: 9, ..socket(SocketProtocol::Netlink, 7) },
        ]);
        assert_eq!(trouble, [0; 0]);
        assert_eq!(all, [6, 7, 4, 5, 3], "of connected ones those that may be servers");
    }

    #[test]
    fn the_worst_are_kept_in_bounded_room() {
        let mut worst = Worst::<10>::default();
        for inode in 0..1000 {
            let drops = Pair { before: 0, after: inode % 500 };
            worst.offer(Socket { drops, ..socket(SocketProtocol::Udp, inode) });
            assert!(worst.0.len() < 20);
        }
        let kept: Vec<u64> = worst.finish().iter().map(|socket| socket.drops.after).collect();
        assert_eq!(kept, [499, 499, 498, 498, 497, 497, 496, 496, 495, 495]);
    }
}
