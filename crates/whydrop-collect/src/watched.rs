//! One network namespace under observation: its handles, its first reading, its listeners.
//!
//! Everything here runs on the one thread that may change namespace. When to look, and whether the
//! namespace still exists, is decided by `worker`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use whydrop_model::{Counters, Namespace, Presence, Process};

use crate::collector::{Place, Reading};
use crate::collectors::netstat::SynTrouble;
use crate::collectors::{COLLECTORS, half_open, links, listeners, sockstat};
use crate::entrance::Entrance;
use crate::error::{Notes, Why};
use crate::kept::Kept;
use crate::look::Listeners;
use crate::merge::Counted;
use crate::netlink::{Buffer, Protocol, Socket};
use crate::sockets::Sockets;
use crate::{NamespaceRef, Roots, merge, namespaces, process, settings};

mod sockets;

/// Counting half-open connections walks a table of the whole host, so it waits this long between
/// two walks of a namespace.
const HALF_OPEN_PAUSE: Duration = Duration::from_millis(500);

/// What the working thread needs at hand for any namespace.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) roots: Roots,
    pub(crate) entrance: Entrance,
    pub(crate) buffer: Buffer,
    pub(crate) notes: Notes,
    pub(crate) proc: settings::Source,
    /// See [`Counted`].
    pub(crate) counter_names: Arc<[String]>,
}

/// How the window began for a namespace.
#[derive(Debug)]
enum Opening {
    /// It appeared later: everything counts from zero.
    Born,
    /// It was read when the window opened; the counters are apart.
    Read(Box<Reading>, Counted),
    /// It could not be read then, so nothing can be said about the window.
    Failed(Why),
}

/// A namespace under observation.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inode: u64,
    pub(crate) name: Option<String>,
    /// A file outside the folders of names that holds it.
    pub(crate) mount: Option<PathBuf>,
    pub(crate) pid: Option<u32>,
    pub(crate) own: bool,
    /// Keeps the namespace readable, and alive, until this is dropped. `None` for the own one.
    file: Result<Option<File>, Why>,
    /// Likewise; sockets can be listed through it without entering.
    diag: Result<Socket, Why>,
    opening: Opening,
    /// Counters of the window, once it or the namespace's life is over.
    counters: Counters,
    pub(crate) listeners: Listeners,
    pub(crate) sockets: Sockets,
    pub(crate) pace: Pace,
    trouble: Option<SynTrouble>,
    /// Its counters of TCP, for the looks.
    netstat: Option<Kept>,
    half_open_wanted: bool,
    half_open_at: Option<Instant>,
    /// The latest reading found no socket but `diag` here, so that to list any would show none.
    vacant: bool,
    /// Turn at which UDP sockets were last asked for.
    queues_at: Option<u32>,
}

/// Enters a namespace and opens it from within. A file opened by its path would keep the mount that
/// the path leads to busy, so that nobody could unmount it.
fn hold(path: &Path, inode: u64, hands: &mut Hands) -> Result<File, Why> {
    let file = namespaces::open(path, inode)?;
    hands.entrance.enter(inode, Some(&file))?;
    namespaces::open(&hands.roots.proc.join("thread-self/ns/net"), inode)
}

/// In a folder of names, whose files are listed by themselves.
fn is_in_names(path: &Path, roots: &Roots) -> bool {
    path.starts_with(&roots.netns) || path.starts_with(&roots.docker_netns)
}

fn unread() -> Why {
    Why::new("it was not opened")
}

/// When a namespace was looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    pub(crate) looks: u32,
    /// Looks that would have shown nothing new.
    spared: u32,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    /// Something was going on in the latest look.
    pub(crate) busy: bool,
}

impl Pace {
    /// Mean time between two looks; `None` if the first and the last are less than `apart`.
    pub(crate) fn interval(&self, apart: Duration) -> Option<Duration> {
        let length = self.last?.duration_since(self.first?);
        let gaps = self.turns().checked_sub(1).filter(|gaps| *gaps > 0 && length >= apart)?;
        Some(length / gaps)
    }

    /// Looks, those included that were spared.
    fn turns(&self) -> u32 {
        self.looks + self.spared
    }

    /// The host was at rest until now: looks that would have come since the last one, one `every` so
    /// often, would have shown nothing new.
    pub(crate) fn rest(&mut self, now: Instant, every: Duration) {
        let missed =
            self.last.map_or(0, |last| (now - last + every / 2).as_millis() / every.as_millis());
        self.spared += u32::try_from(missed.saturating_sub(1)).unwrap_or(0);
    }

    /// What a look now would show is known.
    pub(crate) fn spare(&mut self, now: Instant) {
        self.spared += 1;
        self.last = Some(now);
    }
}

impl Watched {
    /// Takes hold of a namespace. `born`: it was not there when the window opened. What cannot be
    /// opened is told when it is read.
    pub(crate) fn open(found: NamespaceRef, born: bool, hands: &mut Hands) -> Self {
        let mut watched = Self {
            inode: found.inode,
            name: found.name,
            mount: None,
            pid: found.pid,
            own: found.own,
            file: Ok(None),
            diag: Err(unread()),
            opening: if born { Opening::Born } else { Opening::Failed(unread()) },
            counters: Counters::new(),
            listeners: Listeners::new(born),
            sockets: Sockets::new(),
            pace: Pace::default(),
            trouble: None,
            netstat: None,
            half_open_wanted: false,
            half_open_at: None,
            vacant: false,
            queues_at: None,
        };
        if born {
            for (protocol, _) in sockets::KINDS {
                watched.sockets.opened(protocol);
            }
        }
        let by_pid = found.pid.map(|pid| process::namespace_link(&hands.roots, pid));
        if !found.own {
            let path = found.file.clone().or(by_pid).unwrap_or_default();
            watched.file = hold(&path, found.inode, hands).map(Some);
        }
        watched.mount = found.file.filter(|path| !is_in_names(path, &hands.roots));
        watched.diag = watched
            .enter(&mut hands.entrance)
            .and_then(|()| Socket::open(Protocol::SockDiag).map_err(Why::from));
        watched
    }

    /// Takes in by what else it is found now.
    pub(crate) fn learn(&mut self, found: NamespaceRef, roots: &Roots) {
        self.name = self.name.take().or(found.name);
        let mount = found.file.filter(|path| !is_in_names(path, roots));
        self.mount = self.mount.take().or(mount);
    }

    /// What the operator knows it by; empty for the own one.
    fn label(&self) -> String {
        match (&self.name, self.pid) {
            _ if self.own => String::new(),
            (Some(name), _) => name.clone(),
            (None, Some(pid)) => format!("of pid {pid}"),
            (None, None) => format!("net:[{}]", self.inode),
        }
    }

    /// What shows this namespace to the kernel; `None` for the own one.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref().ok()?.as_ref()
    }

    /// Moves the thread into this namespace.
    pub(crate) fn enter(&self, entrance: &mut Entrance) -> Result<(), Why> {
        let file = self.file.as_ref().map_err(Why::clone)?;
        entrance.enter(self.inode, file.as_ref())
    }

    /// Reads counters and settings, leaving out the collectors that failed `earlier`.
    fn read(
        &self,
        opening: bool,
        earlier: Option<&Reading>,
        hands: &mut Hands,
    ) -> Result<Reading, Why> {
        let Hands { roots, entrance, buffer, notes, proc, .. } = hands;
        let place = match self.enter(entrance) {
            Ok(()) if opening => Place::here(roots, buffer),
            Ok(()) => Place::here(roots, buffer).with_settings(proc.settings(roots)),
            Err(why) => {
                let still_in = |pid: &u32| {
                    let link = process::namespace_link(roots, *pid);
                    namespaces::inode_of_link(&link).is_ok_and(|inode| inode == self.inode)
                };
                let Some(pid) = self.pid.filter(still_in) else { return Err(why) };
                Place::of_process(roots, buffer, pid, why)
            }
        };
        let mut place = place.of_own(self.own).at_opening(opening);
        Ok(Reading::take(COLLECTORS, false, earlier, &mut place, &self.label(), notes))
    }

    /// The reading that opens the window, and the first look.
    pub(crate) fn read_opening(&mut self, at_ms: impl FnOnce() -> u64, hands: &mut Hands) {
        self.opening = match self.read(true, None, hands) {
            Ok(mut reading) => {
                self.trouble = Some(SynTrouble::of(&reading.facts));
                self.vacant = sockstat::is_vacant(&reading.facts.stack.gauges);
                let counters = std::mem::take(&mut reading.facts.counters);
                let counters = Counted::new(counters, &mut hands.counter_names);
                Opening::Read(Box::new(reading), counters)
            }
            Err(why) => Opening::Failed(why),
        };
        self.open_sockets(hands);
        self.look(at_ms(), false, hands);
        // From now on somebody may open one.
        self.vacant = false;
    }

    /// The reading that closes the window, or the life of the namespace (`gone`). `None` if there is
    /// nothing to compare it with or it fails.
    pub(crate) fn read_closing(&mut self, gone: bool, hands: &mut Hands) -> Option<Reading> {
        let (mut reading, known) = match &self.opening {
            Opening::Born => (self.read(false, None, hands), false),
            Opening::Read(reading, _) => (self.read(false, Some(reading), hands), true),
            Opening::Failed(why) => (Err(why.clone()), false),
        };
        if let Ok(end) = &mut reading {
            self.merge_counters(end);
        }
        reading
            .map_err(|why| {
                // One that ended before it could be read at all had little to tell.
                if known || !gone {
                    hands.notes.add("everything", &self.label(), &why);
                }
            })
            .ok()
    }

    /// Puts the counters of both ends together: most of what is read, and so the sooner the better
    /// for the memory that very many namespaces take.
    fn merge_counters(&mut self, end: &mut Reading) {
        let before = match &self.opening {
            Opening::Read(_, counters) => Some(counters),
            Opening::Born | Opening::Failed(_) => None,
        };
        let after = std::mem::take(&mut end.facts.counters);
        self.counters = merge::counters(before, after);
    }

    /// Looks at the listeners. `with_counters`: also look whether SYN cookies were sent.
    pub(crate) fn look(&mut self, at_ms: u64, with_counters: bool, hands: &mut Hands) {
        let Ok(diag) = self.diag.as_mut() else { return };
        let now = Instant::now();
        let seen =
            if self.vacant { Ok(Vec::new()) } else { listeners::dump(diag, &mut hands.buffer) };
        match seen {
            Ok(seen) => {
                let activity = self.listeners.note(&seen, at_ms);
                self.pace.busy = activity.busy;
                self.half_open_wanted |= activity.drops_moved;
            }
            Err(why) => hands.notes.add(listeners::COLLECTOR.what, &self.label(), &why),
        }
        self.look_at_queues(at_ms, hands);
        self.pace.looks += 1;
        self.pace.first.get_or_insert(now);
        self.pace.last = Some(now);
        self.listeners.note_states(|pid| process::state(&hands.roots, pid));
        if with_counters
            && !self.listeners.is_empty()
            && let Some(trouble) = self.syn_trouble(hands)
        {
            self.half_open_wanted |= self.trouble.replace(trouble).is_some_and(|it| it != trouble);
        }
        if self.half_open_wanted && self.half_open_at.is_none_or(|at| now - at >= HALF_OPEN_PAUSE) {
            self.half_open_at = Some(now);
            self.count_half_open(hands);
        }
    }

    /// What is counted now of SYNs that met a full queue.
    fn syn_trouble(&mut self, hands: &mut Hands) -> Option<SynTrouble> {
        if self.netstat.is_none() {
            // The file must be opened from within.
            self.enter(&mut hands.entrance).ok()?;
            self.netstat = Some(Kept::new(hands.roots.proc.join("thread-self/net/netstat")));
        }
        let text = self.netstat.as_mut()?.read().ok()??;
        Some(SynTrouble::parse(&text))
    }

    /// Worth looking at again soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.pace.busy || self.half_open_wanted
    }

    /// The last look and the last list of the sockets, after the closing reading.
    pub(crate) fn look_last(&mut self, at_ms: u64, end: Option<&Reading>, hands: &mut Hands) {
        self.vacant = end.is_some_and(|end| sockstat::is_vacant(&end.facts.stack.gauges));
        self.look(at_ms, false, hands);
        self.close_sockets(hands);
        if let (Err(why), Some(_)) = (&self.diag, end) {
            hands.notes.add(listeners::COLLECTOR.what, &self.label(), why);
            hands.notes.add("sockets other than listening TCP ones", &self.label(), why);
        }
        if SynTrouble::grew(&self.counters) && !self.listeners.is_empty() {
            self.count_half_open(hands);
        }
    }

    fn count_half_open(&mut self, hands: &mut Hands) {
        self.half_open_wanted = false;
        let Ok(diag) = self.diag.as_mut() else { return };
        match half_open::dump(diag, &mut hands.buffer) {
            Ok(by_port) => self.listeners.note_half_open(&by_port),
            Err(why) => hands.notes.add(half_open::COLLECTOR.what, &self.label(), &why),
        }
    }

    /// What the window showed; `None` if nothing of it could be read.
    /// `processes`: all owners of sockets that were found.
    pub(crate) fn finish(
        self,
        end: Option<Reading>,
        gone: bool,
        processes: &BTreeMap<u32, Process>,
    ) -> Option<Namespace> {
        let (before, born) = match &self.opening {
            Opening::Born => (None, true),
            Opening::Read(reading, _) => (Some(&reading.facts), false),
            Opening::Failed(_) => return None,
        };
        if end.is_none() && self.listeners.is_empty() {
            return None;
        }
        // Devices that were not read at the end did not vanish; nothing is known of them.
        let links_read = end.as_ref().is_some_and(|end| end.succeeded(&links::COLLECTOR));
        let mut end = end.unwrap_or_default().facts;
        let told = self.sockets.finish(processes);
        Some(Namespace {
            inode: self.inode,
            presence: match (born, gone) {
                (false, false) => Presence::Whole,
                (true, false) => Presence::Appeared,
                (false, true) => Presence::Vanished,
                (true, true) => Presence::Brief,
            },
            counters: {
                let mut counters = self.counters;
                counters.extend(merge::narrow_counters(before, &mut end));
                counters
            },
            links: if links_read { merge::links(before, &mut end) } else { Vec::new() },
            sysctls: std::mem::take(&mut end.sysctls),
            listeners: self.listeners.finish(),
            sockets: told.sockets,
            socket_counts: told.counts,
            tcp_peers: told.peers,
            name: self.name,
            pid: self.pid,
            own: self.own,
            gauges: merge::gauges(before, &mut end),
            qdiscs: merge::qdiscs(before, &mut end),
            filters: merge::filters(before, &mut end),
            neighbours: end.stack.neighbours.take(),
            routes: end.stack.routes.take(),
            netfilter: merge::netfilter(before, &mut end),
            packet_queues: merge::packet_queues(before, &mut end),
            log_groups: std::mem::take(&mut end.stack.log_groups),
            tracked_flows: end.stack.tracked_flows.take(),
            local_ports: std::mem::take(&mut end.stack.local_ports),
            legacy_tables: std::mem::take(&mut end.stack.legacy_tables),
            legacy_chains: merge::legacy_chains(before, &mut end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_a_rest_spares_do_not_make_the_others_rare() {
        let every = Duration::from_millis(100);
        let first = Instant::now();
        let mut pace = Pace { looks: 1, first: Some(first), last: Some(first), ..Pace::default() };
        for turn in 1..=4 {
            let now = first + turn * Duration::from_millis(510);
            pace.rest(now, every);
            pace.spare(now);
        }
        assert_eq!(pace.interval(every), Some(Duration::from_millis(102)));
        let late = first + Duration::from_secs(4);
        pace.spare(late);
        assert!(
            pace.interval(every) > Some(every * 3 / 2),
            "nobody said that the host was at rest"
        );
    }
}
