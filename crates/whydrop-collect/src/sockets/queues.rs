//! Follows receive queues from look to look.

use std::collections::BTreeMap;

use whydrop_model::{QueueStep, Socket};

use super::selection::is_near;
use crate::inet_diag::QueueNow;
use crate::look::add_step;

/// Sockets followed at once. On a host with more, the rest is read at the ends of the window only.
const MOST_FOLLOWED: usize = 20_000;
/// Sockets kept that closed in the window with something wrong.
const MOST_CLOSED: usize = 1024;
/// Steps kept of one queue; see [`add_step`].
const MOST_STEPS: usize = 1024;

/// The queues of a namespace, by cookie.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    followed: BTreeMap<u64, Followed>,
    /// How many were open at the latest look.
    alive: usize,
    /// How many were open at the look with most.
    most: usize,
}

#[derive(Debug)]
struct Followed {
    socket: Socket,
    /// Present in the latest look.
    alive: bool,
    /// Lost something since it is followed, or came near to it.
    trouble: bool,
}

/// One look, which is taken in socket by socket.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    queues: &'a mut Queues,
    at_ms: u64,
    /// Something waits in some queue, or something changed: worth looking again soon.
    pub(crate) busy: bool,
}

impl Queues {
    /// How many sockets are followed now.
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    /// How many were followed at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Begins to follow a socket that was there before the window.
    pub(super) fn follow(&mut self, socket: Socket) {
        let drops = socket.drops.after;
        self.insert(socket, drops);
    }

    fn insert(&mut self, mut socket: Socket, drops_before: u64) {
        if self.followed.len() < MOST_FOLLOWED {
            socket.drops.before = drops_before;
            let cookie = socket.cookie;
            self.followed.insert(cookie, Followed { socket, alive: true, trouble: false });
            self.alive += 1;
        }
    }

    /// Begins a look.
    pub(crate) fn look(&mut self, at_ms: u64) -> Look<'_> {
        for followed in self.followed.values_mut() {
            followed.alive = false;
        }
        Look { queues: self, at_ms, busy: false }
    }

    /// Puts what the looks saw of a socket into it.
    pub(super) fn merge_into(&mut self, socket: &mut Socket) {
        if let Some(followed) = self.followed.remove(&socket.cookie) {
            socket.steps = followed.socket.steps;
            socket.looks = followed.socket.looks;
        }
    }

    /// Those in trouble that are left, and forgets all others.
    pub(super) fn take_rest(&mut self) -> impl Iterator<Item = Socket> {
        let rest = std::mem::take(&mut self.followed);
        rest.into_values().filter(|followed| followed.trouble).map(|followed| followed.socket)
    }

    /// Inodes of those in trouble.
    pub(super) fn in_trouble(&self) -> impl Iterator<Item = u64> {
        self.followed.values().filter(|it| it.trouble).map(|it| it.socket.inode)
    }
}

impl Look<'_> {
    /// Takes in one queue. `whole` is asked for the rest of a socket not seen before.
    pub(crate) fn note(&mut self, now: QueueNow, whole: impl FnOnce() -> Option<Socket>) {
        if !self.queues.followed.contains_key(&now.cookie) {
            let Some(socket) = whole() else { return };
            // Born in the window, so its drops count from zero.
            self.queues.insert(socket, 0);
        }
        let Some(followed) = self.queues.followed.get_mut(&now.cookie) else { return };
        followed.alive = true;
        let socket = &mut followed.socket;
        let drops = u64::from(now.drops);
        let step = QueueStep { at_ms: self.at_ms, queued: now.queued, drops };
        let changed = add_step(&mut socket.steps, step, MOST_STEPS);
        socket.looks += 1;
        socket.drops.after = drops;
        socket.recv_queue = now.queued;
        followed.trouble |= socket.drops.delta32() > 0 || is_near(now.queued, now.limit);
        self.busy |= changed || now.queued > 0;
    }

    /// Ends the look: forgets the sockets that closed, if nothing was wrong with them.
    pub(crate) fn finish(self) -> bool {
        let (mut alive, mut closed) = (0, 0);
        self.queues.followed.retain(|_, followed| {
            alive += usize::from(followed.alive);
            closed += usize::from(!followed.alive && followed.trouble);
            followed.alive || (followed.trouble && closed <= MOST_CLOSED)
        });
        self.queues.alive = alive;
        self.queues.most = alive.max(self.queues.most);
        self.busy
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, SocketProtocol};

    use super::*;

    fn now(cookie: u64, queued: u32, drops: u32) -> QueueNow {
        QueueNow { cookie, queued, limit: 1000, drops }
    }

    fn socket(cookie: u64, drops: u64) -> Socket {
        let drops = Pair { before: 0, after: drops };
        Socket { cookie, inode: 100 + cookie, drops, ..Socket::new(SocketProtocol::Udp) }
    }

    fn look(queues: &mut Queues, at_ms: u64, all: &[QueueNow]) -> bool {
        let mut look = queues.look(at_ms);
        for now in all {
            look.note(*now, || Some(socket(now.cookie, now.drops.into())));
        }
        look.finish()
    }

    #[test]
    fn only_changes_become_steps() {
        let mut queues = Queues::default();
        queues.follow(socket(1, 7));
        assert!(look(&mut queues, 0, &[now(1, 0, 7)]));
        assert!(!look(&mut queues, 100, &[now(1, 0, 7)]), "quiet");
        assert!(look(&mut queues, 200, &[now(1, 300, 7)]));
        assert!(look(&mut queues, 300, &[now(1, 300, 7)]), "something waits");
        assert_eq!(queues.in_trouble().count(), 0);
        assert!(look(&mut queues, 400, &[now(1, 800, 9)]));
        assert_eq!(queues.in_trouble().collect::<Vec<_>>(), [101]);
        let mut told = socket(1, 9);
        queues.merge_into(&mut told);
        let steps: Vec<_> =
            told.steps.iter().map(|step| (step.at_ms, step.queued, step.drops)).collect();
        assert_eq!(steps, [(0, 0, 7), (200, 300, 7), (400, 800, 9)]);
        assert_eq!(told.looks, 5);
    }

    #[test]
    fn a_queue_near_its_limit_is_trouble_without_a_drop() {
        let mut queues = Queues::default();
        look(&mut queues, 0, &[now(1, 749, 0), now(2, 750, 0)]);
        look(&mut queues, 100, &[now(1, 0, 0), now(2, 0, 0)]);
        assert_eq!(queues.in_trouble().collect::<Vec<_>>(), [102]);
    }

    #[test]
    fn of_closed_sockets_only_those_in_trouble_are_kept() {
        let mut queues = Queues::default();
        look(&mut queues, 0, &[now(1, 0, 0), now(2, 0, 3), now(3, 0, 0)]);
        assert_eq!(queues.alive(), 3);
        look(&mut queues, 100, &[now(3, 0, 0)]);
        assert_eq!((queues.alive(), queues.most(), queues.followed.len()), (1, 3, 2));
        let rest: Vec<Socket> = queues.take_rest().collect();
        assert_eq!(rest.iter().map(|it| it.cookie).collect::<Vec<_>>(), [2]);
        assert_eq!(rest[0].drops, Pair { before: 0, after: 3 });
    }

    #[test]
    fn room_is_bounded() {
        let mut queues = Queues::default();
        let all: Vec<QueueNow> = (1..=MOST_FOLLOWED as u64 + 5).map(|at| now(at, 0, 1)).collect();
        look(&mut queues, 0, &all);
        assert_eq!(queues.followed.len(), MOST_FOLLOWED);
        look(&mut queues, 100, &[]);
        assert_eq!(queues.followed.len(), MOST_CLOSED);
    }
}
