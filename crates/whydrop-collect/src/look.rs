//! Follows the listeners of one namespace from look to look.
//!
//! Pure bookkeeping: gets what a dump showed and the time, keeps the model's [`Listener`]s. It
//! neither reads nor decides when to look (`watched` does), and it does not judge a queue.

use std::collections::{BTreeMap, HashMap};

use whydrop_model::{Listener, Pair, Process, QueueStep};

use crate::collectors::listeners::Seen;

/// Steps kept of one queue. A window in which it moves more often is told in coarser steps.
const MOST_STEPS: usize = 4096;

/// The listeners of a namespace.
#[derive(Debug)]
pub(crate) struct Listeners {
    tracked: Vec<Tracked>,
    by_cookie: HashMap<u64, usize>,
    /// A listener not seen before was born in the window, so its drops count from zero.
    count_from_zero: bool,
}

/// One listener.
#[derive(Debug)]
struct Tracked {
    listener: Listener,
    /// Present in the latest look.
    alive: bool,
    /// Its queue was full in the latest look.
    full: bool,
    /// Its owners were searched for.
    searched: bool,
    /// How often an owner, by pid, was seen in each scheduler state while the queue was full.
    states: BTreeMap<u32, BTreeMap<char, u32>>,
}

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Activity {
    /// Some queue holds connections, or something changed: worth looking again soon.
    pub(crate) busy: bool,
    /// Some listener refused something since the look before.
    pub(crate) drops_moved: bool,
}

impl Listeners {
    /// `born`: the namespace appeared inside the window.
    pub(crate) fn new(born: bool) -> Self {
        Self { tracked: Vec::new(), by_cookie: HashMap::new(), count_from_zero: born }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    /// How many are listening now.
    pub(crate) fn alive(&self) -> usize {
        self.tracked.iter().filter(|tracked| tracked.alive).count()
    }

    /// Takes in one look.
    pub(crate) fn note(&mut self, seen: &[Seen], at_ms: u64) -> Activity {
        let mut activity = Activity::default();
        for tracked in &mut self.tracked {
            (tracked.alive, tracked.full) = (false, false);
        }
        for now in seen {
            let at = *self.by_cookie.entry(now.cookie).or_insert_with(|| {
                self.tracked.push(Tracked::new(now, self.count_from_zero));
                self.tracked.len() - 1
            });
            let moved = self.tracked[at].note(now, at_ms);
            activity.busy |= moved.busy;
            activity.drops_moved |= moved.drops_moved;
        }
        self.count_from_zero = true;
        activity
    }

    /// Takes in half-open connections by port.
    pub(crate) fn note_half_open(&mut self, by_port: &BTreeMap<u16, u32>) {
        for tracked in self.tracked.iter_mut().filter(|tracked| tracked.alive) {
            let now = by_port.get(&tracked.listener.port).copied().unwrap_or(0);
            let peak = &mut tracked.listener.half_open_peak;
            *peak = Some(peak.unwrap_or(0).max(now));
        }
    }

    /// Takes in how the owners of full queues are: `state` is asked for each of their pids.
    pub(crate) fn note_states(&mut self, mut state: impl FnMut(u32) -> Option<char>) {
        for tracked in self.tracked.iter_mut().filter(|tracked| tracked.full) {
            for owner in &mut tracked.listener.owners {
                if let Some(now) = state(owner.pid) {
                    owner.state = now;
                    let states = tracked.states.entry(owner.pid).or_default();
                    *states.entry(now).or_insert(0) += 1;
                }
            }
        }
    }

    /// Inodes whose owners are to be found: those not searched for yet and, if `again`, those in
    /// trouble, whose owners may have changed since.
    pub(crate) fn unowned(&self, again: bool) -> impl Iterator<Item = u64> {
        self.tracked
            .iter()
            .filter(|tracked| tracked.alive)
            .filter(move |tracked| !tracked.searched || (again && tracked.is_in_trouble()))
            .map(|tracked| tracked.listener.inode)
    }

    /// Inodes of the listeners that something is wrong with.
    pub(crate) fn in_trouble(&self) -> impl Iterator<Item = u64> {
        self.tracked.iter().filter(|tracked| tracked.is_in_trouble()).map(|it| it.listener.inode)
    }

    /// Takes in what a search for `unowned` found. Owners known before are kept if it found none.
    pub(crate) fn note_owners(&mut self, owners: &BTreeMap<u64, Vec<Process>>) {
        for tracked in self.tracked.iter_mut().filter(|tracked| tracked.alive) {
            tracked.searched = true;
            if let Some(owners) = owners.get(&tracked.listener.inode) {
                tracked.listener.owners.clone_from(owners);
            }
        }
    }

    /// Whether some listener in trouble has no known owner.
    pub(crate) fn any_unowned_in_trouble(&self) -> bool {
        self.tracked
            .iter()
            .any(|tracked| tracked.listener.owners.is_empty() && tracked.is_in_trouble())
    }

    /// The listeners by port, address and inode.
    pub(crate) fn finish(self) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = self.tracked.into_iter().map(Tracked::finish).collect();
        listeners.sort_by_key(|listener| (listener.port, listener.address, listener.inode));
        listeners
    }
}

impl Tracked {
    fn new(seen: &Seen, count_from_zero: bool) -> Self {
        let before = if count_from_zero { 0 } else { seen.drops.into() };
        Self {
            listener: Listener {
                address: seen.address,
                port: seen.port,
                ifindex: seen.ifindex,
                v6only: seen.v6only,
                inode: seen.inode,
                uid: seen.uid,
                backlog: Pair { before: seen.backlog.into(), after: seen.backlog.into() },
                drops: Pair { before, after: seen.drops.into() },
                steps: Vec::new(),
                looks: 0,
                half_open_peak: None,
                owners: Vec::new(),
            },
            alive: true,
            full: false,
            searched: false,
            states: BTreeMap::new(),
        }
    }

    fn note(&mut self, now: &Seen, at_ms: u64) -> Activity {
        let listener = &mut self.listener;
        let drops = u64::from(now.drops);
        let last = listener.steps.last();
        let drops_moved = drops != last.map_or(listener.drops.before, |step| step.drops);
        let step = QueueStep { at_ms, queued: now.queued, drops };
        let changed = add_step(&mut listener.steps, step, MOST_STEPS);
        listener.drops.after = drops;
        listener.backlog.after = now.backlog.into();
        listener.looks += 1;
        self.alive = true;
        self.full = now.queued > now.backlog;
        Activity { busy: changed || now.queued > 0, drops_moved }
    }

    fn is_in_trouble(&self) -> bool {
        let listener = &self.listener;
        listener.drops.before != listener.drops.after
            || u64::from(listener.peak()) > listener.backlog.before.min(listener.backlog.after)
    }

    fn finish(mut self) -> Listener {
        for owner in &mut self.listener.owners {
            let Some(states) = self.states.get(&owner.pid) else { continue };
            let looks: u32 = states.values().sum();
            let stuck =
                states.iter().find(|(state, count)| "TtZD".contains(**state) && *count * 2 > looks);
            if let Some((state, _)) = stuck {
                owner.state = *state;
            }
        }
        self.listener
    }
}

/// Adds what a look saw, if it differs from the last step; `most` steps are kept, two, at least.
/// True if it differs.
pub(crate) fn add_step(steps: &mut Vec<QueueStep>, step: QueueStep, most: usize) -> bool {
    let last = steps.last();
    if last.is_some_and(|last| last.queued == step.queued && last.drops == step.drops) {
        return false;
    }
    if steps.len() >= most {
        coarsen(steps);
    }
    steps.push(step);
    true
}

/// Makes one step of each two: the time of the first, the longer queue, the later drops. The first
/// step stays as it is.
fn coarsen(steps: &mut Vec<QueueStep>) {
    let mut kept = Vec::with_capacity(steps.len());
    kept.extend(steps.first());
    kept.extend(steps[1..].chunks(2).map(|pair| QueueStep {
        at_ms: pair[0].at_ms,
        queued: pair.iter().map(|step| step.queued).max().unwrap_or(0),
        drops: pair[pair.len() - 1].drops,
    }));
    *steps = kept;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn seen(cookie: u64, queued: u32, drops: u32) -> Seen {
        Seen {
            cookie,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 80 + cookie as u16,
            ifindex: 0,
            v6only: false,
            inode: 1000 + cookie,
            uid: 0,
            queued,
            backlog: 2,
            drops,
        }
    }

    fn process(pid: u32, state: char) -> Process {
        Process { pid, comm: "web".into(), state, ..Process::default() }
    }

    #[test]
    fn only_changes_become_steps() {
        let mut listeners = Listeners::new(false);
        let first = listeners.note(&[seen(1, 0, 7)], 0);
        assert!(first.busy && !first.drops_moved, "drops of the past");
        assert_eq!(listeners.note(&[seen(1, 0, 7)], 100), Activity::default());
        let waiting = listeners.note(&[seen(1, 3, 7)], 200);
        assert_eq!(waiting, Activity { busy: true, drops_moved: false });
        assert!(listeners.note(&[seen(1, 3, 9)], 300).drops_moved);
        assert_eq!(listeners.note(&[seen(1, 3, 9)], 400), waiting);
        let listener = &listeners.finish()[0];
        let steps: Vec<_> =
            listener.steps.iter().map(|step| (step.at_ms, step.queued, step.drops)).collect();
        assert_eq!(steps, [(0, 0, 7), (200, 3, 7), (300, 3, 9)]);
        assert_eq!(listener.looks, 5);
        assert_eq!(listener.drops, Pair { before: 7, after: 9 });
        assert_eq!(listener.peak(), 3);
    }

    #[test]
    fn a_listener_born_in_the_window_counts_from_zero() {
        let mut listeners = Listeners::new(false);
        listeners.note(&[seen(1, 0, 4)], 0);
        assert!(listeners.note(&[seen(1, 0, 4), seen(2, 0, 6)], 100).drops_moved);
        let drops: Vec<_> = listeners.finish().iter().map(|listener| listener.drops).collect();
        assert_eq!(drops, [Pair { before: 4, after: 4 }, Pair { before: 0, after: 6 }]);

        let mut listeners = Listeners::new(true);
        listeners.note(&[seen(1, 0, 4)], 0);
        assert_eq!(listeners.finish()[0].drops.before, 0, "in a namespace born in the window");
    }

    #[test]
    fn a_listener_that_closes_keeps_its_last_values_and_owner() {
        let mut listeners = Listeners::new(false);
        listeners.note(&[seen(1, 0, 0)], 0);
        listeners.note_owners(&BTreeMap::from([(1001, vec![process(9, 'S')])]));
        assert_eq!(listeners.unowned(true).count(), 0, "known, and no trouble");
        listeners.note(&[seen(1, 3, 5)], 100);
        assert_eq!(listeners.unowned(false).count(), 0);
        assert_eq!(listeners.unowned(true).collect::<Vec<_>>(), [1001]);
        listeners.note(&[], 200);
        assert_eq!((listeners.alive(), listeners.unowned(true).count()), (0, 0));
        let listener = &listeners.finish()[0];
        assert_eq!((listener.drops.after, listener.looks), (5, 2));
        assert_eq!(listener.owners[0].pid, 9);
    }

    #[test]
    fn a_changed_backlog_is_seen_at_both_ends() {
        let mut listeners = Listeners::new(false);
        listeners.note(&[seen(1, 0, 0)], 0);
        listeners.note(&[Seen { backlog: 64, ..seen(1, 0, 0) }], 100);
        assert_eq!(listeners.finish()[0].backlog, Pair { before: 2, after: 64 });
    }

    #[test]
    fn a_state_kept_through_most_full_looks_wins_over_the_last() {
        let mut listeners = Listeners::new(false);
        let states = |letters: &str, listeners: &mut Listeners| {
            for letter in letters.chars() {
                listeners.note(&[seen(1, 3, 0)], 0);
                listeners.note_states(|_| Some(letter));
            }
        };
        listeners.note(&[seen(1, 0, 0)], 0);
        assert_eq!(listeners.unowned(false).collect::<Vec<_>>(), [1001]);
        listeners.note_owners(&BTreeMap::from([(1001, vec![process(9, 'S')])]));
        assert_eq!(listeners.unowned(false).count(), 0);
        listeners.note_states(|_| panic!("the queue is not full"));
        states("STTT", &mut listeners);
        listeners.note_owners(&BTreeMap::from([(1001, vec![process(9, 'R')])]));
        assert_eq!(listeners.finish()[0].owners[0].state, 'T');

        let mut listeners = Listeners::new(false);
        listeners.note(&[seen(1, 0, 0)], 0);
        listeners.note_owners(&BTreeMap::from([(1001, vec![process(9, 'S')])]));
        states("TTRS", &mut listeners);
        assert_eq!(listeners.finish()[0].owners[0].state, 'S', "half is not most");
    }

    #[test]
    fn half_open_connections_keep_their_peak() {
        let mut listeners = Listeners::new(false);
        listeners.note(&[seen(1, 0, 0), seen(2, 0, 0)], 0);
        listeners.note_half_open(&BTreeMap::from([(81, 5)]));
        listeners.note_half_open(&BTreeMap::from([(81, 3)]));
        let peaks: Vec<_> =
            listeners.finish().iter().map(|listener| listener.half_open_peak).collect();
        assert_eq!(peaks, [Some(5), Some(0)]);
    }

    #[test]
    fn a_restless_queue_keeps_its_peak_in_bounded_room() {
        let mut listeners = Listeners::new(false);
        for at in 0..3 * MOST_STEPS as u32 {
            let queued = if at == 1234 { 99 } else { at % 2 };
            listeners.note(&[seen(1, queued, at)], at.into());
        }
        let listener = &listeners.finish()[0];
        assert!(listener.steps.len() <= MOST_STEPS);
        assert_eq!(listener.peak(), 99);
        assert_eq!(listener.steps[0].at_ms, 0);
        assert!(listener.steps.is_sorted_by_key(|step| (step.at_ms, step.drops)));
        assert_eq!(listener.steps.last().unwrap().drops, 3 * MOST_STEPS as u64 - 1);
    }
}
