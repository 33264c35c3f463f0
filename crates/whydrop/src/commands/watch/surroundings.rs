//! What is known of the host while drops are watched: read again and again beside the watching, and
//! only while there is something to attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use whydrop_collect::{Observation, Options, Roots, Watch};
use whydrop_diagnose::Thresholds;
use whydrop_diagnose::attribute::Surroundings;
use whydrop_model::{
    EVIDENCE_SCHEMA, EventEvidence, Evidence, Host, Namespace, ObservedWindow, Process, Scope,
    TracerEvidence,
};
use whydrop_probe::RawDrop;

use crate::observe::program_names;

/// Shortest time between two readings of everything.
const SHORTEST: Duration = Duration::from_millis(500);
/// A reading may take this part of the time, at most.
const SHARE: u32 = 20;
/// Sockets whose holders are remembered, at most.
const MOST_HELD: usize = 4096;

/// Inodes of sockets that drops named, by the inode of their namespace.
type Named = BTreeMap<u64, BTreeSet<u64>>;

/// What the reader is asked for.
enum Request {
    /// Everything up to now, soon.
    Soon,
    /// At once.
    Now,
}

/// Everything that was observed up to a moment.
pub(super) struct Answer {
    pub(super) surroundings: Surroundings,
    /// That moment, by [`whydrop_probe::monotonic_ns`].
    pub(super) until_ns: u64,
}

/// The thread that reads.
pub(super) struct Look {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    asked: bool,
    named: Arc<Mutex<Named>>,
}

impl Look {
    /// Reads everything for the first time; what happens from then on shows in the answers.
    pub(super) fn start(netns: Vec<String>, tracer: TracerEvidence) -> anyhow::Result<Self> {
        let (requests, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (opened, first) = mpsc::sync_channel(1);
        let options = Options { netns, ..Options::default() };
        let named = Arc::new(Mutex::new(Named::new()));
        let known = Known { tracer, holders: BTreeMap::new(), named: Arc::clone(&named) };
        thread::Builder::new().name("surroundings".into()).spawn(move || {
            let began = Instant::now();
            let watch = match Watch::open(options.clone()) {
                Ok(watch) => watch,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let _ = opened.send(Ok(()));
            let (host, _) = whydrop_collect::host();
            answer_all(watch, began.elapsed(), &options, known, &host, &asked, &answer);
        })?;
        first.recv()??;
        Ok(Self { requests, answers, asked: false, named })
    }

    /// Takes in the socket that a drop names, so that its holders are in the next answer.
    pub(super) fn note(&self, drop: &RawDrop) {
        let Some(socket) = drop.socket.filter(|socket| socket.inode != 0) else { return };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let of_netns = named.entry(drop.key.netns.into()).or_default();
        if of_netns.len() < MOST_HELD {
            of_netns.insert(socket.inode);
        }
    }

    /// Asks for an answer, unless one is on its way.
    pub(super) fn ask(&mut self) {
        if !self.asked {
            self.asked = self.requests.send(Request::Soon).is_ok();
        }
    }

    /// The answer, if it has come.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.asked = false;
        Some(answer)
    }

    /// The last answer, of everything up to now; `None` if nothing can be read any more.
    pub(super) fn last(self) -> Option<Answer> {
        self.requests.send(Request::Now).ok()?;
        // One that was asked for before may come first.
        let first = self.answers.recv().ok()?;
        Some(if self.asked { self.answers.recv().unwrap_or(first) } else { first })
    }
}

/// What the thread keeps from one answer to the next.
struct Known {
    tracer: TracerEvidence,
    /// By inode of the socket; empty if nobody was found.
    holders: BTreeMap<u64, Vec<Process>>,
    named: Arc<Mutex<Named>>,
}

impl Known {
    /// Finds who holds the sockets that drops named and the observation does not tell of.
    fn search(&mut self, namespaces: &[Namespace]) -> BTreeMap<u64, Vec<Process>> {
        let lock = self.named.lock();
        let mut named = std::mem::take(&mut *lock.unwrap_or_else(PoisonError::into_inner));
        if self.holders.len() > MOST_HELD {
            self.holders.clear();
        }
        for namespace in namespaces {
            let Some(sockets) = named.get_mut(&namespace.inode) else { continue };
            for listener in namespace.listeners.iter().filter(|one| !one.owners.is_empty()) {
                sockets.remove(&listener.inode);
            }
            for socket in namespace.sockets.iter().filter(|one| !one.owners.is_empty()) {
                sockets.remove(&socket.inode);
            }
        }
        for sockets in named.values_mut() {
            sockets.retain(|inode| !self.holders.contains_key(inode));
        }
        named.retain(|_, sockets| !sockets.is_empty());
        if !named.is_empty() {
            let nobody = named.values().flatten().map(|&inode| (inode, Vec::new()));
            self.holders.extend(nobody);
            self.holders.extend(whydrop_collect::holders(&Roots::default(), &named));
        }
        self.holders.clone()
    }
}

/// Answers until nobody asks any more.
fn answer_all(
    mut watch: Watch,
    mut cost: Duration,
    options: &Options,
    mut known: Known,
    host: &Host,
    asked: &Receiver<Request>,
    answer: &Sender<Answer>,
) {
    loop {
        let opened = Instant::now();
        let Ok(request) = asked.recv() else { return };
        let mut waiting = matches!(request, Request::Now);
        if !waiting {
            let window = SHORTEST.max(cost * SHARE);
            let left = window.saturating_sub(opened.elapsed());
            match asked.recv_timeout(left) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(_) => waiting = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let (began, until_ns) = (Instant::now(), whydrop_probe::monotonic_ns());
        let seen = watch.close();
        let holders = known.search(&seen.namespaces);
        let evidence = evidence(seen, &known.tracer, host, &options.netns);
        let surroundings = Surroundings::new(evidence, Thresholds::default()).with_holders(holders);
        if answer.send(Answer { surroundings, until_ns }).is_err() || waiting {
            return;
        }
        // It could be read before; if it no longer can, there are no more answers.
        watch = match Watch::open(options.clone()) {
            Ok(watch) => watch,
            Err(_) => return,
        };
        cost = began.elapsed();
    }
}

fn evidence(seen: Observation, tracer: &TracerEvidence, host: &Host, netns: &[String]) -> Evidence {
    Evidence {
        schema: EVIDENCE_SCHEMA.into(),
        host: host.clone(),
        window: ObservedWindow {
            start: jiff::Timestamp::try_from(seen.opened).unwrap_or_default().to_string(),
            seconds: seen.length.as_secs_f64(),
            interrupted: false,
        },
        scope: Scope { netns: netns.to_vec() },
        tracer: tracer.clone(),
        events: EventEvidence::default(),
        softnet: seen.softnet,
        cpu_side: seen.cpu_side,
        neighbour_tables: seen.neighbour_tables,
        protocol_memory: seen.protocol_memory,
        cgroups: seen.cgroups,
        cgroup_programs: Vec::new(),
        bpf_programs: program_names(&seen.namespaces, &[]).0,
        namespaces: seen.namespaces,
        not_checked: seen.not_checked,
    }
}
