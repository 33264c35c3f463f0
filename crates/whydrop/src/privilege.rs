//! Capabilities: which are needed for what and how long, and giving up the others.
//!
//! Whoever only observes gives up at the start what observing never needs, for good: nothing that is
//! executed could gain it back. Once the programs are attached, what attaching needs goes too. Both
//! happen while the process has one thread, from which all later ones inherit. What changes the host
//! (`fix --apply`, `undo`, `lab`) keeps what it was given.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::output;

/// When a capability is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Once all programs are attached.
    Attached,
    /// Not before the program ends.
    End,
}

/// One capability that observing needs.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) capability: CapabilitySet,
    /// Its name, as in `capabilities(7)`.
    pub(crate) name: &'static str,
    pub(crate) until: Until,
    /// What it is needed for.
    pub(crate) serves: &'static str,
    /// What is missing without it.
    pub(crate) costs: &'static str,
}

impl Need {
    /// Whether this process has it.
    pub(crate) fn is_held(&self) -> bool {
        capabilities(None).is_ok_and(|sets| sets.effective.contains(self.capability))
    }
}

/// All that observing needs. Found by trying: without any one of them something is not read, with
/// all of them nothing is missing. `capable()` and its kin in the kernel say why (6.18).
pub(crate) const NEEDS: [Need; 8] = [
    Need {
        capability: CapabilitySet::BPF,
        name: "CAP_BPF",
        until: Until::Attached,
        serves: "loading BPF programs and their maps",
        costs: "no drop can be traced, unless CAP_SYS_ADMIN is held; counters only",
    },
    Need {
        capability: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        until: Until::Attached,
        serves: "programs at tracepoints, which read kernel memory",
        costs: "no drop can be traced, unless CAP_SYS_ADMIN is held; counters only",
    },
    Need {
        capability: CapabilitySet::SYS_RESOURCE,
        name: "CAP_SYS_RESOURCE",
        until: Until::Attached,
        serves: "maps beyond RLIMIT_MEMLOCK, which bounds them before Linux 5.11",
        costs: "nothing from Linux 5.11 on",
    },
    Need {
        capability: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        until: Until::End,
        serves: "entering other network namespaces; a `/proc` of its own, mounted nowhere, to read the \
                 settings of very many of them; names of XDP programs",
        costs: "of other network namespaces only their counters are known, or nothing",
    },
    Need {
        capability: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        until: Until::End,
        serves: "which process holds a socket, and in which namespace it lives",
        costs: "programs of other users stay nameless, and so do namespaces without a name",
    },
    Need {
        capability: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        until: Until::End,
        serves: "open files of other users' processes",
        costs: "programs of other users stay nameless",
    },
    Need {
        capability: CapabilitySet::NET_ADMIN,
        name: "CAP_NET_ADMIN",
        until: Until::End,
        serves: "firewall rules, IPsec states and policies",
        costs: "a drop by a firewall rule does not show which rule it was",
    },
    Need {
        capability: CapabilitySet::SYSLOG,
        name: "CAP_SYSLOG",
        until: Until::End,
        serves: "names of kernel functions",
        costs: "causes told by a call site stay unknown, and count again where a counter tells them too",
    },
];

/// What only counters, queues and settings need.
const LOOKING: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::NET_ADMIN);

/// What a command observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Drops, and everything else that is known of the host.
    Everything,
    /// Drops alone.
    Drops,
    /// Counters, queues and settings; nothing is attached.
    Counters,
    /// A recording.
    File,
}

impl Part {
    fn needs(self, until: Until) -> CapabilitySet {
        let needed = |need: &&Need| match self {
            Self::Everything => true,
            // Before, the namespaces that were asked for are looked up.
            Self::Drops if until == Until::Attached => !LOOKING.contains(need.capability),
            Self::Drops => need.capability == CapabilitySet::SYSLOG,
            Self::Counters => need.until == Until::End && need.capability != CapabilitySet::SYSLOG,
            Self::File => need.capability == CapabilitySet::DAC_READ_SEARCH,
        };
        let kept = NEEDS.iter().filter(|need| until == Until::Attached || need.until == until);
        kept.filter(needed).map(|need| need.capability).collect()
    }
}

/// What becomes of the capabilities that this process was started with.
#[derive(Debug)]
pub(crate) enum Privileges {
    /// It keeps them all.
    Kept,
    /// It keeps these to the end.
    Reduced(CapabilitySet),
}

impl Privileges {
    /// Gives up what this part never needs. `outputs` are the files that will be written: where the
    /// rights of this user do not suffice, what it takes to write them is kept to the end.
    ///
    /// Call it before the first thread is started.
    pub(crate) fn reduce<'p>(part: Part, outputs: impl IntoIterator<Item = &'p Path>) -> Self {
        Self::try_reduce(part, outputs).unwrap_or_else(|error| {
            tell(error);
            Self::Kept
        })
    }

    fn try_reduce<'p>(
        part: Part,
        outputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, Errno> {
        let writing: CapabilitySet = outputs.into_iter().map(to_write).collect::<Result<_, _>>()?;
        // What could be executed gets nothing. It takes a capability that not everybody has, and is
        // what `no_new_privs` says as well.
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match capability_is_in_bounding_set(one) {
                Ok(true) => drop(remove_capability_from_bounding_set(one)),
                Ok(false) => {}
                // The kernel has no more.
                Err(_) => break,
            }
        }
        set_no_new_privs(true)?;
        keep(part.needs(Until::Attached) | writing)?;
        Ok(Self::Reduced(part.needs(Until::End) | writing))
    }

    /// Gives up what only attaching needs. `readable` tells whether the maps still can be read: before
    /// Linux 5.19 that takes `CAP_BPF` or `CAP_SYS_ADMIN`, and if so `CAP_BPF` is kept.
    ///
    /// Call it before the first thread is started.
    pub(crate) fn attached(&self, readable: impl FnOnce() -> bool) {
        if let Self::Reduced(last) = *self {
            give_up_attaching(last, readable).unwrap_or_else(tell);
        }
    }
}

fn give_up_attaching(last: CapabilitySet, readable: impl FnOnce() -> bool) -> Result<(), Errno> {
    let now = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: now.effective & last, ..now })?;
    let maps = if readable() { CapabilitySet::empty() } else { CapabilitySet::BPF };
    set_capabilities(None, now)?;
    keep(last | maps)
}

/// A window is worth more than what could not be given up for it.
fn tell(error: Errno) {
    output::message(&format!("whydrop: cannot give up capabilities that are not needed: {error}"));
}

/// Gives up all capabilities but these, for good.
fn keep(kept: CapabilitySet) -> Result<(), Errno> {
    let CapabilitySets { effective, permitted, .. } = capabilities(None)?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets { effective: effective & kept, permitted: permitted & kept, inheritable },
    )
}

/// What it takes to put a file at this path: nothing, unless its folder or it belongs to others.
fn to_write(path: &Path) -> Result<CapabilitySet, Errno> {
    const WRITING: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER);
    let now = capabilities(None)?;
    let lowered = now.effective - WRITING;
    set_capabilities(None, CapabilitySets { effective: lowered, ..now })?;
    let denied =
        |path: &Path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) == Err(Errno::ACCESS);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let closed = denied(folder) || denied(path);
    set_capabilities(None, now)?;
    // In a sticky folder such as /tmp a file of another user is replaced by nobody else.
    let me = geteuid().as_raw();
    let foreign = |path: &Path| path.symlink_metadata().is_ok_and(|data| data.uid() != me);
    let sticky = folder.metadata().is_ok_and(|data| data.mode() & 0o1000 != 0);
    let mut needed = CapabilitySet::empty();
    needed.set(CapabilitySet::DAC_OVERRIDE, closed);
    needed.set(CapabilitySet::FOWNER, sticky && foreign(folder) && foreign(path));
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_part_ends_with_less_than_it_began_with() {
        for part in [Part::Everything, Part::Drops, Part::Counters, Part::File] {
            let (first, last) = (part.needs(Until::Attached), part.needs(Until::End));
            assert!(first.contains(last), "{part:?}");
            assert!(!last.intersects(CapabilitySet::BPF | CapabilitySet::PERFMON), "{part:?}");
        }
        assert_eq!(Part::Drops.needs(Until::End), CapabilitySet::SYSLOG);
        assert_eq!(Part::File.needs(Until::End), CapabilitySet::DAC_READ_SEARCH);
        assert!(!Part::Counters.needs(Until::Attached).contains(CapabilitySet::BPF));
    }

    fn held() -> CapabilitySet {
        capabilities(None).expect("told").effective
    }

    /// In a thread of its own, as capabilities belong to threads.
    fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
    }

    #[test]
    fn maps_that_need_it_keep_their_capability() {
        let (kept, given_up) = apart(|| {
            let privileges = Privileges::reduce(Part::Drops, []);
            privileges.attached(|| false);
            let kept = held();
            let all = capabilities(None).expect("told");
            privileges.attached(|| true);
            assert!((held() & CapabilitySet::BPF).is_empty());
            (kept, all)
        });
        assert_eq!(kept, held() & (CapabilitySet::BPF | CapabilitySet::SYSLOG));
        assert_eq!(given_up.permitted, kept);
        assert_eq!(given_up.inheritable, CapabilitySet::empty());
    }

    #[test]
    fn whoever_acts_keeps_everything() {
        let before = held();
        let after = apart(|| {
            Privileges::Kept.attached(|| panic!("not asked"));
            held()
        });
        assert_eq!(after, before);
    }

    /// `kernel` shows the table, `docs/privileges.md` explains it.
    #[test]
    fn the_page_has_the_whole_table() {
        let page = include_str!("../../../docs/privileges.md");
        for need in &NEEDS {
            let until = match need.until {
                Until::Attached => "attached",
                Until::End => "the end",
            };
            let row = format!("| `{}` | {until} | {} | {} |", need.name, need.serves, need.costs);
            assert!(page.contains(&row), "no line\n{row}");
        }
    }
}
