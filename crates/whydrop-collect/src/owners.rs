//! The processes that own sockets: who they are, found early, and how they fared, told at the end
//! of the window for those whose sockets are in trouble.
//!
//! Reads by way of `process` and `cgroups`; which sockets to search for is decided by `worker`.

use std::collections::{BTreeMap, BTreeSet};

use whydrop_model::{Cgroup, Pair, Process};

use crate::cgroups::Cgroups;
use crate::{Roots, process};

/// Threads whose waiting time is read when their process is found, at most; of one process, and of
/// all. A process that does not fit is told without.
const MOST_THREADS_EACH: usize = 256;
const MOST_THREADS: usize = 2048;

/// All processes found so far.
#[derive(Debug)]
pub(crate) struct Found {
    processes: BTreeMap<u32, Process>,
    /// Time waited for a CPU when the process was found.
    delays: BTreeMap<u32, u64>,
    threads: usize,
    cgroups: Cgroups,
    /// Owners of sockets in trouble.
    troubled: BTreeSet<u32>,
}

impl Found {
    pub(crate) fn new(roots: &Roots) -> Self {
        Self {
            processes: BTreeMap::new(),
            delays: BTreeMap::new(),
            threads: 0,
            cgroups: Cgroups::find(roots),
            troubled: BTreeSet::new(),
        }
    }

    /// Describes these processes as they are now, and reads what will be compared at the end.
    pub(crate) fn note(&mut self, roots: &Roots, pids: impl Iterator<Item = u32>) {
        for pid in pids.collect::<BTreeSet<u32>>() {
            let Some(now) = process::describe(roots, pid) else { continue };
            let most = MOST_THREADS_EACH.min(MOST_THREADS - self.threads);
            if !self.processes.contains_key(&pid)
                && let Some((delay, threads)) = process::run_delay(roots, pid, most)
            {
                self.threads += threads;
                self.delays.insert(pid, delay);
            }
            self.cgroups.note(&now);
            self.processes.insert(pid, now);
        }
    }

    /// Adds to these processes, whose sockets are in trouble, what they did meanwhile.
    pub(crate) fn examine(&mut self, roots: &Roots, pids: impl Iterator<Item = u32>) {
        for pid in pids.collect::<BTreeSet<u32>>() {
            let Some(process) = self.processes.get_mut(&pid) else { continue };
            self.troubled.insert(pid);
            process.files = process::files(roots, pid);
            let after = process::run_delay(roots, pid, MOST_THREADS_EACH);
            process.run_delay_ns = self
                .delays
                .get(&pid)
                .zip(after)
                .map(|(&before, (after, _))| Pair { before, after });
        }
    }

    /// By pid.
    pub(crate) fn processes(&self) -> &BTreeMap<u32, Process> {
        &self.processes
    }

    /// The control groups of those that were examined.
    pub(crate) fn cgroups(&self) -> Vec<Cgroup> {
        let troubled = self.troubled.iter().filter_map(|pid| self.processes.get(pid));
        self.cgroups.finish(troubled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_examined_against_what_it_was_when_found() {
        let (roots, me) = (Roots::default(), std::process::id());
        let mut found = Found::new(&roots);
        found.note(&roots, [me, u32::MAX].into_iter());
        assert_eq!(found.processes().keys().copied().collect::<Vec<_>>(), [me]);
        assert_eq!(found.processes()[&me].files, None, "not yet in trouble");
        found.examine(&roots, [me, 1].into_iter());
        let process = &found.processes()[&me];
        assert!(process.cgroup.is_some());
        assert!(process.files.unwrap().open >= 3);
        let delay = process.run_delay_ns.unwrap();
        assert!(delay.after >= delay.before);
        assert_eq!(found.processes().len(), 1);
    }
}
