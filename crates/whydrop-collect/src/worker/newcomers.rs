//! Whether some namespace may have come that has no name, without going through all processes.
//!
//! Such a namespace comes with a process, nearly always one that was just made, or with a mount. The
//! kernel gives out pids in turn and tells the latest, and tells a waiting process of each change of
//! the mounts. What neither shows, a process that moves long after it was made, is left to the
//! census, which goes through all of them from time to time.

use std::fs::File;
use std::ops::RangeInclusive;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kept::Kept;
use crate::namespaces::inode_of_link;
use crate::{Roots, process};

/// What was there at the latest question.
#[derive(Debug)]
pub(super) struct Newcomers {
    loadavg: Kept,
    mounts: Option<File>,
    /// Something was mounted or unmounted, and the mounts were not listed since.
    moved: bool,
    /// The latest pid at the question before and at the latest one.
    latest: [Option<u32>; 2],
}

impl Newcomers {
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            loadavg: Kept::new(roots.proc.join("loadavg")),
            mounts: File::open(roots.proc.join("thread-self/mountinfo")).ok(),
            moved: false,
            latest: [None; 2],
        }
    }

    /// All processes are about to be gone through.
    pub(super) fn begin(&mut self) {
        self.step();
    }

    /// Whether the mounts are to be listed again, which then is done.
    pub(super) fn take_moved(&mut self) -> bool {
        self.mounts_moved();
        std::mem::take(&mut self.moved)
    }

    /// True if there may be a namespace that is not `known`. `most`: as many pids as it is worth to
    /// look at one by one.
    pub(super) fn any(&mut self, roots: &Roots, most: usize, known: impl Fn(u64) -> bool) -> bool {
        let unknown = |pid| {
            // One that ended or hides its namespace brings none that could be watched.
            inode_of_link(&process::namespace_link(roots, pid)).is_ok_and(|inode| !known(inode))
        };
        let made = self.step();
        self.mounts_moved()
            || made.is_none_or(|pids| pids.clone().count() > most || { pids }.any(unknown))
    }

    /// The pids given out since the question before the latest one: a process may leave for a
    /// namespace of its own a moment after it was made. `None` if that is not known.
    fn step(&mut self) -> Option<RangeInclusive<u32>> {
        let now = self.latest_pid();
        let [before, latest] = self.latest;
        self.latest = [latest, now];
        // Pids begin anew once they are used up.
        let (before, now) = (before?, now?);
        (before <= now).then(|| before + 1..=now)
    }

    /// The latest pid given out (`loadavg_proc_show` in `fs/proc/loadavg.c`); `None` if unreadable.
    fn latest_pid(&mut self) -> Option<u32> {
        self.loadavg.read().ok()??.split_ascii_whitespace().last()?.parse().ok()
    }

    /// Whether something was mounted or unmounted since the latest question (`mounts_poll` in
    /// `fs/proc_namespace.c`).
    fn mounts_moved(&mut self) -> bool {
        if let Some(mounts) = &self.mounts {
            let mut polled = [PollFd::new(mounts, PollFlags::PRI)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let asked = poll(&mut polled, Some(&at_once)).is_ok();
            self.moved |= asked && polled[0].revents().contains(PollFlags::PRI);
        }
        self.moved
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_namespace_is_new_with_a_process_made_since_the_question_before_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { proc: folder.path().into(), ..fixture::roots("linux-6.18") };
        let latest = |pid: u32| {
            fs::write(folder.path().join("loadavg"), format!("0.1 0.2 0.3 1/99 {pid}\n")).unwrap();
        };
        let lives_in = |pid: u32, inode: u64| {
            let ns = folder.path().join(pid.to_string()).join("ns");
            fs::create_dir_all(&ns).unwrap();
            let _ = fs::remove_file(ns.join("net"));
            std::os::unix::fs::symlink(format!("net:[{inode}]"), ns.join("net")).unwrap();
        };
        lives_in(5, 2);
        latest(9);
        let mut newcomers = Newcomers::new(&roots);
        let mut any = |most| newcomers.any(&roots, most, |inode| inode == 1);
        assert!(any(9), "of what was there before nothing is known");
        assert!(any(9), "nor of the question before");
        assert!(!any(9), "nobody was made since");
        lives_in(11, 1);
        latest(12);
        assert!(!any(9), "one in a known namespace, and one that ended");
        lives_in(12, 2);
        assert!(any(9), "it left for another a moment later");
        assert!(!any(9), "made before, so left to the census");
        latest(40);
        assert!(any(9), "more than it is worth to look at");
        assert!(!any(99));
        latest(3);
        assert!(any(99), "pids began anew");
        fs::remove_file(folder.path().join("loadavg")).unwrap();
    }

    #[test]
    fn nothing_moved_right_after_all_was_gone_through() {
        let mut newcomers = Newcomers::new(&Roots::default());
        newcomers.begin();
        newcomers.begin();
        let made = newcomers.step().unwrap();
        assert!(made.start() <= &(made.end() + 1));
    }
}
