//! Follows the sockets of one namespace, other than TCP listeners, through the window.
//!
//! Pure bookkeeping: gets what a listing showed, keeps little of it, and makes the model's
//! [`Socket`]s at the end. Of ten thousand sockets the earlier listing leaves two numbers for each
//! that ever dropped or retransmitted; the later one leaves those worth telling and counts the rest.
//! It neither reads nor decides when to look.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use whydrop_model::{Process, Socket, SocketCount, SocketProtocol, SocketState, TcpPeers};

mod peers;
mod queues;
mod selection;

use peers::Peers;
pub(crate) use queues::Queues;
use selection::Selection;

/// Sockets whose owners are searched for before anything is wrong with them.
const MOST_SEARCHED_EARLY: usize = 4096;

/// The sockets of a namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Kinds that were listed when the window opened; without that, the end tells nothing.
    opened: BTreeSet<SocketProtocol>,
    /// Drops and retransmits then, of those that had any.
    earlier: HashMap<u64, Earlier>,
    /// Receive queues that are looked at.
    pub(crate) queues: Queues,
    /// Inodes whose owners are still to be searched for the first time.
    unsearched: BTreeSet<u64>,
    /// Pids by inode.
    owners: BTreeMap<u64, Vec<u32>>,
    counts: BTreeMap<(SocketProtocol, SocketState), u32>,
    peers: Option<Peers>,
    selection: Selection,
}

#[derive(Debug, Clone, Copy, Default)]
struct Earlier {
    drops: u64,
    retransmits: u64,
}

/// What the namespace gets in the evidence.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) counts: Vec<SocketCount>,
    pub(crate) peers: Option<TcpPeers>,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        Self {
            opened: BTreeSet::new(),
            earlier: HashMap::new(),
            queues: Queues::default(),
            unsearched: BTreeSet::new(),
            owners: BTreeMap::new(),
            counts: BTreeMap::new(),
            peers: None,
            selection: Selection::default(),
        }
    }

    /// Takes in a socket as it was when the window opened.
    pub(crate) fn open_with(&mut self, socket: Socket) {
        let retransmits = socket.tcp.map_or(0, |tcp| tcp.total_retrans.after);
        if socket.drops.after > 0 || retransmits > 0 {
            let earlier = Earlier { drops: socket.drops.after, retransmits };
            self.earlier.insert(key(&socket), earlier);
        }
        if (takes_from_anybody(&socket) || socket.protocol == SocketProtocol::Udp)
            && socket.inode != 0
            && self.unsearched.len() < MOST_SEARCHED_EARLY
        {
            self.unsearched.insert(socket.inode);
        }
        if is_followed(&socket) {
            self.queues.follow(socket);
        }
    }

    /// All sockets of this kind were taken in; or there were none, since the namespace is new.
    pub(crate) fn opened(&mut self, protocol: SocketProtocol) {
        self.opened.insert(protocol);
    }

    /// Whether the end of this kind can be compared with its beginning.
    pub(crate) fn is_opened(&self, protocol: SocketProtocol) -> bool {
        self.opened.contains(&protocol)
    }

    /// Takes in a socket as it is when the window closes.
    pub(crate) fn close_with(&mut self, mut socket: Socket) {
        *self.counts.entry((socket.protocol, socket.state)).or_insert(0) += 1;
        let earlier = self.earlier.get(&key(&socket)).copied().unwrap_or_default();
        socket.drops.before = earlier.drops;
        if let Some(tcp) = &mut socket.tcp {
            tcp.total_retrans.before = earlier.retransmits;
        }
        if is_followed(&socket) {
            self.queues.merge_into(&mut socket);
        }
        if socket.protocol == SocketProtocol::Tcp {
            self.peers.get_or_insert_default().note(&socket);
        }
        self.selection.offer(socket);
    }

    /// All sockets of this kind were taken in.
    pub(crate) fn closed(&mut self, protocol: SocketProtocol) {
        match protocol {
            SocketProtocol::Tcp => {
                self.peers.get_or_insert_default();
            }
            // What is still followed now closed within the window.
            SocketProtocol::Udp => {
                for mut socket in self.queues.take_rest() {
                    let earlier = self.earlier.get(&key(&socket)).copied().unwrap_or_default();
                    socket.drops.before = earlier.drops;
                    self.selection.offer(socket);
                }
            }
            _ => {}
        }
    }

    /// Sockets of this kind could not be listed to the end, so nothing is told of any.
    pub(crate) fn forget(&mut self, protocol: SocketProtocol) {
        self.opened.remove(&protocol);
        self.counts.retain(|(counted, _), _| *counted != protocol);
        self.selection.forget(protocol);
        if protocol == SocketProtocol::Tcp {
            self.peers = None;
        }
    }

    /// Inodes whose owners are to be found: those that may get into trouble, once, and those that
    /// are in it. `closing`: search again for the latter, whose owners may have changed since.
    pub(crate) fn unowned(&self, closing: bool) -> BTreeSet<u64> {
        let mut wanted = self.unsearched.clone();
        wanted.extend(self.queues.in_trouble().filter(|it| !self.owners.contains_key(it)));
        if closing {
            wanted.extend(self.in_trouble());
        }
        wanted
    }

    /// Inodes of the sockets that something is wrong with.
    pub(crate) fn in_trouble(&self) -> impl Iterator<Item = u64> {
        self.selection.in_trouble().chain(self.queues.in_trouble()).filter(|inode| *inode != 0)
    }

    /// Takes in what a search for `unowned` found. Owners known before are kept if it found none.
    pub(crate) fn note_owners(&mut self, wanted: &BTreeSet<u64>, owners: &BTreeMap<u64, Vec<u32>>) {
        for inode in wanted {
            self.unsearched.remove(inode);
            match owners.get(inode) {
                Some(pids) => {
                    self.owners.insert(*inode, pids.clone());
                }
                // Searched for, so that it is not searched for at each look.
                None => {
                    self.owners.entry(*inode).or_default();
                }
            }
        }
    }

    /// Whether some socket in trouble has no known owner.
    pub(crate) fn any_unowned_in_trouble(&self) -> bool {
        self.in_trouble().any(|inode| self.owners.get(&inode).is_none_or(Vec::is_empty))
    }

    /// What is told of the namespace. `processes`: all that were found, by pid.
    pub(crate) fn finish(self, processes: &BTreeMap<u32, Process>) -> Told {
        let mut sockets = self.selection.finish();
        for socket in &mut sockets {
            let pids = self.owners.get(&socket.inode).map(Vec::as_slice).unwrap_or_default();
            let mut owners = pids.iter().filter_map(|pid| processes.get(pid));
            socket.owners = if selection::is_quiet_udp(socket) {
                // Of many quiet UDP sockets, all about their owners would be most of what is told.
                owners.next().map(name_of).into_iter().collect()
            } else {
                owners.cloned().collect()
            };
        }
        let counts = self
            .counts
            .into_iter()
            .map(|((protocol, state), sockets)| SocketCount { protocol, state, sockets })
            .collect();
        Told { sockets, counts, peers: self.peers.map(Peers::finish) }
    }
}

/// What names a process, and nothing else of it.
fn name_of(process: &Process) -> Process {
    let Process { pid, comm, state, unit, container, .. } = process;
    Process {
        pid: *pid,
        comm: comm.clone(),
        state: *state,
        unit: unit.clone(),
        container: container.clone(),
        ..Process::default()
    }
}

/// What stays the same of a socket: its cookie or, where `/proc` does not tell one, its inode. The
/// two cannot meet: cookies count from one.
fn key(socket: &Socket) -> u64 {
    if socket.cookie == 0 { socket.inode | 1 << 63 } else { socket.cookie }
}

/// Gets packets from anybody who sends some, so that its drops are worth telling even if there are
/// none.
fn takes_from_anybody(socket: &Socket) -> bool {
    match socket.protocol {
        SocketProtocol::Udp => socket.state == SocketState::Close,
        SocketProtocol::Raw | SocketProtocol::Packet => true,
        SocketProtocol::Tcp | SocketProtocol::Unix | SocketProtocol::Netlink => false,
    }
}

/// Its queue is looked at again and again.
fn is_followed(socket: &Socket) -> bool {
    socket.protocol == SocketProtocol::Udp
        && socket.state == SocketState::Close
        && socket.cookie != 0
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Endpoint, Pair, SocketMemory, TcpLoss};

    use super::*;

    fn udp(cookie: u64, drops: u64, queued: u32) -> Socket {
        let memory = SocketMemory { rmem_alloc: queued, rcvbuf: 1000, ..SocketMemory::default() };
        Socket {
            cookie,
            inode: 100 + cookie,
            recv_queue: queued,
            memory: Some(memory),
            drops: Pair { before: 0, after: drops },
            ..Socket::new(SocketProtocol::Udp)
        }
    }

    fn tcp(cookie: u64, retransmits: u64) -> Socket {
        let total_retrans = Pair { before: 0, after: retransmits };
        Socket {
            cookie,
            inode: 100 + cookie,
            state: SocketState::Established,
            remote: Some(Endpoint { address: [192, 0, 2, 1].into(), port: Some(80) }),
            tcp: Some(TcpLoss { total_retrans, ..TcpLoss::default() }),
            ..Socket::new(SocketProtocol::Tcp)
        }
    }

    fn window(before: Vec<Socket>, after: Vec<Socket>) -> Sockets {
        let mut sockets = Sockets::new();
        for socket in before {
            sockets.open_with(socket);
        }
        for protocol in [SocketProtocol::Udp, SocketProtocol::Tcp] {
            sockets.opened(protocol);
        }
        for socket in after {
            sockets.close_with(socket);
        }
        for protocol in [SocketProtocol::Udp, SocketProtocol::Tcp] {
            sockets.closed(protocol);
        }
        sockets
    }

    #[test]
    fn drops_of_the_past_are_told_as_such() {
        let sockets = window(vec![udp(1, 7, 0)], vec![udp(1, 7, 0), udp(2, 5, 0)]);
        let trouble: Vec<u64> = sockets.in_trouble().collect();
        assert_eq!(trouble, [102], "born in the window, so all its drops are new");
        let told = sockets.finish(&BTreeMap::new()).sockets;
        let drops: Vec<_> = told.iter().map(|it| (it.cookie, it.drops)).collect();
        let pair = |before, after| Pair { before, after };
        assert_eq!(drops, [(2, pair(0, 5)), (1, pair(7, 7))]);
    }

    #[test]
    fn of_connections_only_those_with_something_to_tell_are_kept() {
        let full = SocketMemory { rmem_alloc: 90, rcvbuf: 100, ..SocketMemory::default() };
        let after = vec![
            tcp(1, 3),
            tcp(2, 9),
            tcp(3, 0),
            Socket { recv_queue: 5, memory: Some(full), ..tcp(4, 0) },
        ];
        let sockets = window(vec![tcp(1, 3), tcp(2, 4), tcp(3, 0), tcp(4, 0)], after);
        let told = sockets.finish(&BTreeMap::new());
        let kept: Vec<u64> = told.sockets.iter().map(|it| it.cookie).collect();
        assert_eq!(kept, [4, 2]);
        assert_eq!(told.sockets[1].tcp.unwrap().total_retrans, Pair { before: 4, after: 9 });
        let peers = told.peers.unwrap();
        assert_eq!((peers.sockets, peers.retransmitting, peers.retransmits), (4, 1, 5));
        let [count] = told.counts[..] else { panic!("{:?}", told.counts) };
        assert_eq!((count.state, count.sockets), (SocketState::Established, 4));
    }

    #[test]
    fn owners_are_searched_for_once_and_again_at_the_end_if_in_trouble() {
        let mut sockets = window(vec![udp(1, 0, 0), udp(2, 0, 0)], Vec::new());
        let wanted = sockets.unowned(false);
        assert_eq!(wanted, BTreeSet::from([101, 102]));
        sockets.note_owners(&wanted, &BTreeMap::from([(101, vec![9])]));
        assert!(sockets.unowned(false).is_empty(), "also those without an owner");
        sockets.close_with(udp(1, 4, 0));
        sockets.close_with(udp(2, 4, 0));
        assert_eq!(sockets.unowned(true), wanted);
        sockets.note_owners(&wanted, &BTreeMap::new());
        assert!(sockets.any_unowned_in_trouble());
        let process = Process { pid: 9, ..Process::default() };
        let told = sockets.finish(&BTreeMap::from([(9, process)])).sockets;
        let owners: Vec<_> = told.iter().map(|it| it.process().map(|it| it.pid)).collect();
        assert_eq!(owners, [Some(9), None]);
    }

    #[test]
    fn the_owner_of_a_quiet_socket_is_named_and_no_more() {
        let connected = || Socket { state: SocketState::Established, ..udp(1, 0, 0) };
        let mut sockets = window(vec![connected()], Vec::new());
        let wanted = sockets.unowned(false);
        sockets.note_owners(&wanted, &BTreeMap::from([(101, vec![9, 10])]));
        sockets.close_with(connected());
        let process = |pid| Process { pid, cgroup: Some("/a".into()), ..Process::default() };
        let processes = BTreeMap::from([9, 10].map(|pid| (pid, process(pid))));
        let told = sockets.finish(&processes).sockets;
        assert_eq!(told[0].owners, [Process { pid: 9, ..Process::default() }]);
    }

    #[test]
    fn a_kind_that_could_not_be_listed_is_not_told_at_all() {
        let mut sockets = window(vec![tcp(1, 3), udp(2, 0, 0)], vec![tcp(1, 9), udp(2, 0, 0)]);
        sockets.forget(SocketProtocol::Tcp);
        assert!(!sockets.is_opened(SocketProtocol::Tcp));
        let told = sockets.finish(&BTreeMap::new());
        assert!(told.sockets.iter().all(|it| it.protocol == SocketProtocol::Udp));
        assert_eq!((told.sockets.len(), told.counts.len(), told.peers), (1, 1, None));
    }

    #[test]
    fn a_table_without_cookies_is_keyed_by_inode() {
        let at = |drops| Socket { cookie: 0, ..udp(1, drops, 0) };
        let told = window(vec![at(3)], vec![at(5)]).finish(&BTreeMap::new()).sockets;
        assert_eq!(told[0].drops, Pair { before: 3, after: 5 });
    }
}
