//! Names of namespaces, and the clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long namespaces are remembered before an unknown one is looked up again.
const AGE: Duration = Duration::from_secs(1);

/// Names of namespaces, by inode.
pub(super) struct Names {
    by_inode: BTreeMap<u64, Option<String>>,
    read: Instant,
}

impl Names {
    /// Reads them; each of those that were asked for must exist.
    pub(super) fn read<'a>(asked: impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut names = Self { by_inode: BTreeMap::new(), read: Instant::now() };
        names.refresh()?;
        let known = || names.by_inode.values().flatten().map(String::as_str);
        for name in asked {
            let inode = name.parse::<u64>().ok();
            if known().any(|one| one == name)
                || inode.is_some_and(|it| names.by_inode.contains_key(&it))
            {
                continue;
            }
            match whydrop_diagnose::knowledge::nearest(name, known()) {
                Some(near) => {
                    bail!("no network namespace is named {name:?}; did you mean {near}?")
                }
                None => {
                    bail!("no network namespace is named {name:?}: `ip netns list` shows the names")
                }
            }
        }
        Ok(names)
    }

    fn refresh(&mut self) -> Result<(), whydrop_collect::Error> {
        let (found, _) = whydrop_collect::namespaces(&whydrop_collect::Roots::default())?;
        self.by_inode.extend(found.into_iter().map(|one| (one.inode, one.name)));
        self.read = Instant::now();
        Ok(())
    }

    pub(super) fn name(&mut self, inode: Option<u64>) -> Option<String> {
        let inode = inode?;
        if !self.by_inode.contains_key(&inode) && self.read.elapsed() > AGE {
            // A namespace without a name shows as its number.
            let _ = self.refresh();
        }
        self.by_inode.get(&inode).cloned().flatten()
    }
}

/// How a namespace is called.
pub(super) fn label(name: Option<&str>, inode: Option<u64>) -> String {
    match (name, inode) {
        (Some(name), _) => name.to_owned(),
        (None, Some(inode)) => format!("net:[{inode}]"),
        (None, None) => "-".into(),
    }
}

/// The moment from which times count, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    wall: jiff::Timestamp,
    /// The same in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) monotonic_ns: u64,
}

impl Epoch {
    /// Now.
    pub(super) fn now(monotonic_ns: u64) -> Self {
        Self { wall: jiff::Timestamp::now(), monotonic_ns }
    }

    /// A moment of a recording.
    pub(super) fn at(wall: jiff::Timestamp) -> Self {
        Self { wall, monotonic_ns: 0 }
    }

    /// So many nanoseconds later.
    pub(super) fn timestamp(&self, at_ns: u64) -> jiff::Timestamp {
        let since = jiff::SignedDuration::from_nanos(i64::try_from(at_ns).unwrap_or(i64::MAX));
        self.wall.checked_add(since).unwrap_or(self.wall)
    }
}
