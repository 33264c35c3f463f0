//! The thread that observes: opens the window, looks until it is told to stop, closes the window.
//!
//! It alone changes namespace. Between two looks it holds one file and one socket of each namespace,
//! which keep a namespace alive that is deleted meanwhile; the next look finds it unreachable, reads
//! its last counters and lets go. So whydrop delays the end of a namespace by one look at most, or by a
//! second where no packet comes in and the namespace had no name.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use whydrop_model::Namespace;

use crate::backlog::Backlog;
use crate::collector::{Place, Reading, SoftnetFacts};
use crate::collectors::{COLLECTORS, protocol_memory, softnet_stat};
use crate::entrance::Entrance;
use crate::error::{Error, Notes, Why};
use crate::kept::Kept;
use crate::namespaces::{Census, Handle, NamedFiles, Own, namespaces};
use crate::netlink::{Buffer, Protocol, Socket};
use crate::owners::Found;
use crate::watched::{Hands, Watched};
use crate::{NamespaceRef, Observation, Options, merge, peers, process, settings};

mod newcomers;
mod search;
mod stillness;

use newcomers::Newcomers;
use stillness::Stillness;

/// Looks, and finding the namespaces again, may take one part in so many of a CPU.
const LOOK_SHARE: u32 = 20;
/// Likewise for going through all processes: for their namespaces, and for the owners of sockets.
const SEARCH_SHARE: u32 = 20;
/// Namespaces without a name are searched for this often, or more rarely on a host with so many
/// processes that it would take more than its share.
const CENSUS_PAUSE: Duration = Duration::from_secs(1);
/// While no packet comes in, namespaces that come and go are asked for this often.
const STILL_PAUSE: Duration = CENSUS_PAUSE;
/// Where no newcomer shows one, a process made long before may have moved to a namespace of its own.
/// To find such a one may take one part in so many of a CPU.
const LONGEST_CENSUS_PAUSE: Duration = Duration::from_secs(5);
const IDLE_CENSUS_SHARE: u32 = 2000;
/// On a host at rest it is asked this rarely whether a packet came in: to wake up is most of what it
/// costs to observe one.
const REST_PAUSE: Duration = Duration::from_millis(500);
/// Shortest time between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// With more namespaces than this, reading the counters at each look too costs more than it tells.
const FEW: usize = 50;
/// In a window of fewer looks than this, one that comes late says nothing about their pace.
const FEW_LOOKS: u32 = 10;
/// Open files of the rest of the program that must still fit.
const SPARE_FILES: u64 = 128;

/// What the worker is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// A look, if it would be long until the next.
    Look,
    /// The end.
    Close,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    options: Options,
    hands: Hands,
    opened: (Instant, SystemTime),
    host: Reading,
    backlog: Backlog,
    watched: BTreeMap<u64, Watched>,
    finished: Vec<Namespace>,
    /// Set once there are some of those.
    any_gone: Arc<AtomicBool>,
    /// When it is asked for newcomers, and when all processes are gone through whatever that says.
    newcomers_due: Instant,
    census_due: Instant,
    newcomers: Newcomers,
    /// How many processes there were at the latest census.
    processes: usize,
    softnet: Kept,
    /// What it told at the latest look.
    rows: Vec<SoftnetFacts>,
    still: Stillness,
    /// When the namespaces are asked for again though the host is still.
    refresh_due: Instant,
    named: NamedFiles,
    /// Inodes of the named files.
    names: BTreeSet<u64>,
    owners_due: Instant,
    /// Owners of sockets.
    found: Found,
    /// Memory of all sockets of the host.
    memory: protocol_memory::Course,
    sockstat: Kept,
    /// Some process hid which sockets it holds.
    owners_hidden: bool,
    /// CPU time that looks may still take, in nanoseconds; negative after an expensive one.
    allowance: i64,
    /// Some look had to wait for its allowance.
    waited: bool,
}

impl Worker {
    /// Finds the namespaces and opens the window.
    pub(crate) fn open(mut options: Options) -> Result<Self, Error> {
        options.look_every = options.look_every.max(SHORTEST_PAUSE);
        let own = Own::find(&options.roots)?;
        // Before the first list, so that what is mounted after it is told.
        let newcomers = Newcomers::new(&options.roots);
        let (mut found, not_checked) = namespaces(&options.roots)?;
        let mut notes = Notes::default();
        if options.netns.is_empty() {
            for line in not_checked {
                notes.add(&line.what, "", &Why(line.why));
            }
        } else {
            let files = own.named_files(&options.roots);
            for name in &options.netns {
                if !files.iter().any(|file| &file.file_name == name) {
                    return Err(Error::UnknownNamespace { name: name.clone() });
                }
            }
            let inodes: BTreeSet<u64> = files
                .iter()
                .filter(|file| options.netns.contains(&file.file_name))
                .map(|file| file.inode)
                .collect();
            found.retain(|namespace| inodes.contains(&namespace.inode));
        }
        let roots = options.roots.clone();
        let found_owners = Found::new(&roots);
        let table = |name: &str| Kept::new(roots.proc.join("thread-self/net").join(name));
        let (softnet, sockstat) = (table("softnet_stat"), table("sockstat"));
        let hands = Hands {
            roots,
            entrance: Entrance::new(own),
            buffer: Buffer::new(),
            notes,
            proc: settings::Source::default(),
            counter_names: Arc::default(),
        };
        let now = Instant::now();
        let mut worker = Self {
            options,
            hands,
            opened: (now, SystemTime::now()),
            host: Reading::default(),
            backlog: Backlog::default(),
            watched: BTreeMap::new(),
            finished: Vec::new(),
            any_gone: Arc::default(),
            newcomers_due: now + CENSUS_PAUSE,
            census_due: now + CENSUS_PAUSE,
            newcomers,
            processes: 0,
            softnet,
            rows: Vec::new(),
            still: Stillness::default(),
            refresh_due: now,
            named: NamedFiles::default(),
            names: BTreeSet::new(),
            owners_due: now,
            found: found_owners,
            memory: protocol_memory::Course::default(),
            sockstat,
            owners_hidden: false,
            allowance: 0,
            waited: false,
        };
        worker.host = worker.read_host(None);
        worker.look_at_memory();
        for namespace in found {
            worker.adopt(namespace, false);
        }
        for watched in worker.watched.values_mut() {
            let at_ms = || worker.opened.0.elapsed().as_millis() as u64;
            watched.read_opening(at_ms, &mut worker.hands);
        }
        worker.go_home();
        Ok(worker)
    }

    /// Looks until it is asked to close. False if the observer went away without asking for that.
    pub(crate) fn run(&mut self, requests: &Receiver<Request>) -> bool {
        self.find_owners(false);
        let mut next = Instant::now() + self.options.look_every;
        loop {
            match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Request::Close) => return true,
                Ok(Request::Look) if !self.still.is_rest(Instant::now()) => continue,
                Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Request::Look) | Err(RecvTimeoutError::Timeout) => {}
            }
            let still = self.read_backlog();
            let due = Instant::now() >= self.refresh_due;
            if !still || due || self.named.moved(&self.options.roots) {
                let began = cpu_time();
                self.refresh_due = Instant::now() + STILL_PAUSE;
                let thorough = self.census_is_due();
                self.refresh(thorough);
                self.look(began, still);
                if Instant::now() >= self.owners_due {
                    self.find_owners(false);
                }
                self.go_home();
            }
            // Never pile up: a look that came late does not make the next one hurry, nor does one that
            // came early make it late.
            let now = Instant::now();
            next = (next.min(now) + self.options.look_every).max(now);
            if self.still.is_rest(now) {
                next = next.max(self.refresh_due.min(now + REST_PAUSE));
            }
        }
    }

    /// Closes the window.
    pub(crate) fn close(mut self) -> Observation {
        self.refresh(true);
        let length = self.opened.0.elapsed();
        self.look_at_memory();
        let mut host = self.read_host(Some(()));
        let mut ends = BTreeMap::new();
        for (&inode, watched) in &mut self.watched {
            let end = watched.read_closing(false, &mut self.hands);
            let at_ms = self.opened.0.elapsed().as_millis() as u64;
            watched.look_last(at_ms, end.as_ref(), &mut self.hands);
            ends.insert(inode, end);
        }
        self.find_peers(&mut ends);
        self.go_home();
        self.find_owners(true);
        self.note_hidden_owners();
        self.note_pace();
        let mut place = Place::here(&self.hands.roots, &mut self.hands.buffer);
        let protocol_memory = self.memory.finish(&mut place);
        let mut namespaces = self.finished;
        for (inode, watched) in self.watched {
            let end = ends.remove(&inode).flatten();
            namespaces.extend(watched.finish(end, false, self.found.processes()));
        }
        namespaces.sort_by_key(|namespace| (!namespace.own, namespace.inode));
        Observation {
            opened: self.opened.1,
            length,
            protocol_memory,
            cgroups: self.found.cgroups(),
            softnet: self.backlog.finish(merge::softnet(&self.host.facts, &host.facts)),
            neighbour_tables: merge::neighbour_tables(&self.host.facts, &mut host.facts),
            cpu_side: merge::cpu_side(&self.host.facts, &mut host.facts),
            namespaces,
            not_checked: self.hands.notes.finish(),
        }
    }

    /// Names the namespaces in which links have their other end.
    fn find_peers(&mut self, ends: &mut BTreeMap<u64, Option<Reading>>) {
        let Hands { entrance, buffer, notes, .. } = &mut self.hands;
        let own = entrance.own();
        let (own_inode, own_file) =
            (own.inode, own.file.as_ref().and_then(|file| file.try_clone().ok()));
        // Most links of a container lead to the own namespace.
        let files = || {
            let others = self.watched.values().map(|watched| (watched.inode, watched.file()));
            std::iter::once((own_inode, own_file.as_ref()))
                .chain(others)
                .filter_map(|(inode, file)| Some((inode, file?.as_fd())))
        };
        for (inode, end) in ends {
            let (Some(end), Some(watched)) = (end, self.watched.get(inode)) else { continue };
            let wanted = peers::wanted(&end.facts.links);
            if wanted.is_empty() {
                continue;
            }
            let found = watched.enter(entrance).and_then(|()| {
                let mut route = Socket::open(Protocol::Route)?;
                Ok(peers::find(&mut route, buffer, wanted, files())?)
            });
            match found {
                Ok(found) => peers::note(&found, &mut end.facts.links),
                Err(why) => notes.add("other ends of links", "", &why),
            }
        }
    }

    fn read_host(&mut self, closing: Option<()>) -> Reading {
        let earlier = closing.map(|()| &self.host);
        let Hands { roots, buffer, notes, .. } = &mut self.hands;
        let mut place = Place::here(roots, buffer);
        Reading::take(COLLECTORS, true, earlier, &mut place, "", notes)
    }

    fn look_at_memory(&mut self) {
        match self.sockstat.read() {
            Ok(text) => self.memory.look(&text.unwrap_or_default()),
            Err(why) => self.hands.notes.add(protocol_memory::COLLECTOR.what, "", &why),
        }
    }

    fn go_home(&mut self) {
        if let Err(why) = self.hands.entrance.home() {
            self.hands.notes.add("return from another network namespace", "", &why);
        }
    }

    /// Starts to watch a namespace, or learns more about one that is watched.
    fn adopt(&mut self, found: NamespaceRef, born: bool) {
        if let Some(watched) = self.watched.get_mut(&found.inode) {
            watched.learn(found, &self.options.roots);
            return;
        }
        make_room(self.watched.len());
        let watched = Watched::open(found, born, &mut self.hands);
        self.watched.insert(watched.inode, watched);
    }

    /// Finds namespaces that came and takes leave of those that went. `thorough`: also search all
    /// mounts and processes for new ones.
    fn refresh(&mut self, thorough: bool) {
        let everything = self.options.netns.is_empty();
        let own = self.hands.entrance.own();
        let mounts = (thorough && everything && self.newcomers.take_moved())
            .then(|| own.mounted_files(&self.options.roots));
        if let Some(mut files) = self.named.news(own, &self.options.roots) {
            files.retain(|file| everything || self.options.netns.contains(&file.file_name));
            self.names = files.iter().map(|file| file.inode).collect();
            for file in files {
                self.adopt(by_file(file), true);
            }
        }
        for file in mounts.into_iter().flatten() {
            self.adopt(by_file(file), true);
        }
        let census = thorough.then(|| self.take_census());
        if let Some(census) = &census {
            for (&inode, &pid) in census.lowest.iter().filter(|_| everything) {
                self.adopt(by_pid(inode, pid), true);
            }
            for watched in self.watched.values_mut() {
                watched.pid = census.lowest.get(&watched.inode).copied().or(watched.pid);
            }
        }
        let mut missing: Vec<u64> = self
            .watched
            .values()
            .filter(|watched| !self.is_reachable(watched))
            .map(|watched| watched.inode)
            .collect();
        // Its name or its first process may be gone and it is not. Asked twice, because a list of
        // processes that fork while it is read can miss one.
        for _ in 0..2 {
            if missing.is_empty() {
                return;
            }
            let census = self.take_census();
            missing.retain(|inode| {
                let pid = census.lowest.get(inode).copied();
                if let (Some(_), Some(watched)) = (pid, self.watched.get_mut(inode)) {
                    watched.pid = pid;
                }
                pid.is_none()
            });
        }
        for inode in missing {
            self.retire(inode);
        }
    }

    fn take_census(&mut self) -> Census {
        let (started, began) = (Instant::now(), cpu_time());
        self.newcomers.begin();
        let census = Census::take(&self.options.roots, self.hands.entrance.own());
        self.processes = census.processes;
        let taken = Duration::from_nanos((cpu_time() - began).unsigned_abs());
        let now = Instant::now();
        self.newcomers_due = now + CENSUS_PAUSE.max(started.elapsed() * SEARCH_SHARE);
        self.census_due = now + LONGEST_CENSUS_PAUSE.max(taken * IDLE_CENSUS_SHARE);
        census
    }

    /// True if there may be namespaces without a name that were not there at the last census.
    fn census_is_due(&mut self) -> bool {
        let now = Instant::now();
        if !self.options.netns.is_empty() || now < self.newcomers_due {
            return false;
        }
        self.newcomers_due = now + CENSUS_PAUSE;
        let known = |inode| self.watched.contains_key(&inode);
        now >= self.census_due || self.newcomers.any(&self.options.roots, self.processes, known)
    }

    fn is_reachable(&self, watched: &Watched) -> bool {
        let own = self.hands.entrance.own();
        let at = |path: &Path| own.inode_of_file(path) == Some(watched.inode);
        watched.own
            || self.names.contains(&watched.inode)
            || watched.mount.as_deref().is_some_and(at)
            || watched.pid.is_some_and(|pid| at(&process::namespace_link(&self.options.roots, pid)))
    }

    /// Reads a namespace for the last time and lets go of it.
    fn retire(&mut self, inode: u64) {
        let Some(mut watched) = self.watched.remove(&inode) else { return };
        let end = watched.read_closing(true, &mut self.hands);
        let at_ms = self.opened.0.elapsed().as_millis() as u64;
        watched.look_last(at_ms, end.as_ref(), &mut self.hands);
        self.finished.extend(watched.finish(end, true, self.found.processes()));
        self.any_gone.store(true, Ordering::Relaxed);
        self.go_home();
    }

    /// Is set once a namespace that was observed is gone.
    pub(crate) fn any_gone(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.any_gone)
    }

    /// Looks at the backlog of the CPUs. True if no packet came in since all was looked at: then there
    /// is nothing else to see, and who watches a host at rest should not be what disturbs it.
    fn read_backlog(&mut self) -> bool {
        self.rows.clear();
        // If it cannot be read, the readings at both ends tell why.
        if let Ok(Some(text)) = self.softnet.read() {
            self.rows.extend(softnet_stat::rows(&text));
        }
        if !self.rows.is_empty() {
            self.backlog.note(&self.rows);
        }
        let now = Instant::now();
        let still = self.still.holds(&self.rows, now);
        let rest = self.still.is_rest(now);
        for watched in self.watched.values_mut() {
            if rest {
                watched.pace.rest(now, self.options.look_every);
            }
            if still {
                watched.pace.spare(now);
            }
        }
        still
    }

    /// Looks at the queues of as many namespaces as the allowance permits: first those that waited
    /// longest, a busy one counting eight times its wait. What was spent since `began` is paid first.
    /// Where the host is `still`, only if there are new ones.
    fn look(&mut self, began: i64, still: bool) {
        let now = Instant::now();
        let any_new = self.watched.values().any(|watched| watched.pace.looks == 0);
        if still && !any_new {
            return;
        }
        self.look_at_memory();
        let share = (self.options.look_every / LOOK_SHARE).as_nanos() as i64;
        self.allowance = share.min(self.allowance + share);
        let mut order: Vec<(Duration, u64)> = self
            .watched
            .values()
            .map(|watched| {
                let pace = watched.pace;
                let waited = pace.last.map_or(Duration::MAX / 8, |last| now - last);
                (waited * if pace.busy { 8 } else { 1 }, watched.inode)
            })
            .collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let with_counters = self.watched.len() <= FEW;
        let (mut spent, mut all) = (began, true);
        for (_, inode) in order {
            let so_far = cpu_time();
            self.allowance -= so_far - spent;
            spent = so_far;
            if self.allowance <= 0 {
                (self.waited, all) = (true, false);
                break;
            }
            if let Some(watched) = self.watched.get_mut(&inode) {
                let at_ms = self.opened.0.elapsed().as_millis() as u64;
                watched.look(at_ms, with_counters, &mut self.hands);
            }
        }
        self.allowance -= cpu_time() - spent;
        if all && !self.watched.values().any(Watched::is_busy) {
            self.still.begin(&self.rows, now);
        } else {
            self.still.end();
        }
    }

    /// Tells if the looks were rarer than asked for.
    fn note_pace(&mut self) {
        let asked = self.options.look_every;
        let longest = self
            .watched
            .values()
            .filter(|watched| watched.listeners.alive() + watched.sockets.queues.most() > 0)
            .filter_map(|watched| watched.pace.interval(asked * FEW_LOOKS))
            .max();
        let Some(longest) = longest.filter(|longest| *longest * 2 > asked * 3) else { return };
        let listeners: usize = self.watched.values().map(|it| it.listeners.alive()).sum();
        let udp: usize = self.watched.values().map(|it| it.sockets.queues.most()).sum();
        let reason = if self.waited {
            format!(
                "for {listeners} listening and {udp} UDP sockets in {} network namespaces it would \
                 take more than {} % of one CPU",
                self.watched.len(),
                100 / LOOK_SHARE
            )
        } else {
            "this host was too busy to let whydrop run that often".into()
        };
        let why = format!("{reason}; the mean interval was up to {} ms", longest.as_millis());
        let what = format!("listen queues and UDP queues every {} ms", asked.as_millis());
        self.hands.notes.add(&what, "", &Why(why));
    }
}

fn by_file(file: Handle) -> NamespaceRef {
    let Handle { inode, name, path, .. } = file;
    NamespaceRef { inode, name, file: Some(path), pid: None, own: false }
}

fn by_pid(inode: u64, pid: u32) -> NamespaceRef {
    NamespaceRef { inode, name: None, file: None, pid: Some(pid), own: false }
}

/// CPU time of this thread in nanoseconds.
fn cpu_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Each namespace costs two open files. Where the usual limit does not hold them, this raises it as
/// far as this user may; what then still does not open is noted where it is missing.
fn make_room(namespaces: usize) {
    let needed = namespaces as u64 * 2 + SPARE_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Refused or not, opening the next file tells.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;

    /// The first look sees the server, a search names it, then it ends. Needs no privilege: all is
    /// on the loopback of the own namespace.
    #[test]
    fn a_server_that_ends_in_the_window_is_still_named() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/server.pl");
        // Let the kernel choose a free port; Perl may take it over.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("perl")
            .args([script, &port.to_string(), "3"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut worker = Worker::open(Options::default()).unwrap();
        worker.find_owners(false);
        server.kill().unwrap();
        server.wait().unwrap();
        let observation = worker.close();
        assert_eq!(line, "ready\n");
        let listener = observation.namespaces[0]
            .listeners
            .iter()
            .find(|listener| listener.port == port)
            .unwrap();
        let [owner] = &listener.owners[..] else { panic!("{:?}", listener.owners) };
        assert_eq!((owner.pid, owner.comm.as_str()), (server.id(), "perl"));
        assert_eq!(owner.program.as_deref(), Some("server.pl"));
        assert_eq!(listener.looks, 1);
    }

    fn looks(worker: &Worker) -> u32 {
        worker.watched.values().map(|watched| watched.pace.looks).sum()
    }

    #[test]
    fn looks_that_cost_more_than_their_share_make_room() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut worker = Worker::open(Options::default()).unwrap();
        let first = looks(&worker);
        worker.allowance = -1_000_000_000;
        worker.look(cpu_time(), false);
        assert_eq!(looks(&worker), first, "still in debt");
        assert!(worker.waited);
        worker.allowance = 0;
        worker.look(cpu_time(), false);
        assert!(looks(&worker) > first);
    }

    #[test]
    fn only_a_worker_at_rest_hurries() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut worker = Worker::open(Options::default()).unwrap();
        let mut looks_when_asked = |before: Stillness| {
            let (asks, asked) = mpsc::channel();
            asks.send(Request::Look).unwrap();
            asks.send(Request::Close).unwrap();
            worker.still = before;
            let first = looks(&worker);
            assert!(worker.run(&asked));
            looks(&worker) - first
        };
        let row = softnet_stat::rows("1 0 0 0 0 0 0 0 0\n").next().unwrap();
        let mut rest = Stillness::default();
        rest.begin(&[row], Instant::now().checked_sub(Duration::from_secs(60)).unwrap());
        assert_eq!(looks_when_asked(Stillness::default()), 0, "a look is due soon");
        assert!(looks_when_asked(rest) > 0);
    }
}
