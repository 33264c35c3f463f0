//! The search for the processes that hold sockets.
//!
//! Decides which sockets to search for and hands out what was found; the searching itself is the
//! business of `process`, what is known of a process that of `owners`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use whydrop_model::Process;

use super::{SEARCH_SHARE, Worker};
use crate::error::Why;
use crate::process;

impl Worker {
    /// Names the processes that hold new listeners and sockets that anybody may send to and, when the
    /// window closes, those of sockets in trouble once more.
    pub(super) fn find_owners(&mut self, closing: bool) {
        let wanted: BTreeMap<u64, BTreeSet<u64>> = self
            .watched
            .values()
            .map(|watched| {
                let mut sockets = watched.sockets.unowned(closing);
                sockets.extend(watched.listeners.unowned(closing));
                (watched.inode, sockets)
            })
            .filter(|(_, sockets)| !sockets.is_empty())
            .collect();
        if wanted.is_empty() {
            return;
        }
        let started = Instant::now();
        let found = process::owners(&self.options.roots, &wanted);
        let pids = found.by_socket.values().flatten().copied();
        self.found.note(&self.options.roots, pids);
        if closing {
            let troubled: BTreeSet<u64> = self
                .watched
                .values()
                .flat_map(|watched| {
                    watched.listeners.in_trouble().chain(watched.sockets.in_trouble())
                })
                .collect();
            let pids = found.by_socket.iter().filter(|(socket, _)| troubled.contains(socket));
            let pids = pids.flat_map(|(_, pids)| pids.iter().copied());
            self.found.examine(&self.options.roots, pids);
        }
        for watched in self.watched.values_mut() {
            let Some(wanted) = wanted.get(&watched.inode) else { continue };
            watched.sockets.note_owners(wanted, &found.by_socket);
            let processes = self.found.processes();
            let owners: BTreeMap<u64, Vec<Process>> = wanted
                .iter()
                .filter_map(|socket| {
                    let pids = found.by_socket.get(socket)?.iter();
                    let owners: Vec<Process> =
                        pids.filter_map(|pid| processes.get(pid).cloned()).collect();
                    (!owners.is_empty()).then_some((*socket, owners))
                })
                .collect();
            watched.listeners.note_owners(&owners);
        }
        self.owners_due = Instant::now() + started.elapsed() * SEARCH_SHARE;
        self.owners_hidden |= found.hidden;
    }

    /// Tells if the owner of some socket in trouble was hidden.
    pub(super) fn note_hidden_owners(&mut self) {
        if !self.owners_hidden {
            return;
        }
        let why = "other users' processes do not show their sockets; needs CAP_SYS_PTRACE or root";
        if self.watched.values().any(|it| it.listeners.any_unowned_in_trouble()) {
            self.hands.notes.add("owners of some listening sockets", "", &Why::new(why));
        }
        if self.watched.values().any(|it| it.sockets.any_unowned_in_trouble()) {
            self.hands.notes.add("owners of some sockets in trouble", "", &Why::new(why));
        }
    }
}
