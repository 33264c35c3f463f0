//! Control groups: where their folders are, and what those tell of throttling and memory.
//!
//! A group is read first when an owner of a socket is found and again when the window closes, with
//! its parents, since a limit acts on all below. Reads small files only; `memory.stat` costs the
//! kernel most, so the number of groups is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use whydrop_model::{Cgroup, Counters, Pair, Process};

use crate::Roots;

/// Groups read at most.
const MOST: usize = 128;

/// A hierarchy: `cgroup2`, or a v1 controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    name: String,
    /// Mount point.
    folder: PathBuf,
    /// The group that is mounted there, as `/proc/PID/cgroup` calls it.
    root: String,
}

/// The groups read so far.
#[derive(Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Counters by hierarchy and path, as first read.
    first: BTreeMap<(String, String), BTreeMap<String, u64>>,
}

/// The control group of v2 that a process is in: its path as in `/proc/PID/cgroup`, and its folder;
/// `None` if the process ended or that hierarchy is not mounted.
#[must_use]
pub fn unified_group(roots: &Roots, pid: u32) -> Option<(String, PathBuf)> {
    let text = fs::read_to_string(roots.proc.join(pid.to_string()).join("cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let found = Cgroups::find(roots).hierarchies;
    let unified = found.iter().find(|hierarchy| hierarchy.name == "cgroup2")?;
    Some((path.to_owned(), folder(unified, path)))
}

impl Cgroups {
    /// Finds the hierarchies that are mounted.
    pub(crate) fn find(roots: &Roots) -> Self {
        let text = fs::read(roots.proc.join("thread-self/mountinfo")).unwrap_or_default();
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for found in String::from_utf8_lossy(&text).lines().flat_map(parse_mount) {
            if !hierarchies.iter().any(|known| known.name == found.name) {
                hierarchies.push(found);
            }
        }
        Self { hierarchies, first: BTreeMap::new() }
    }

    /// Reads the groups of a process, if they are new.
    pub(crate) fn note(&mut self, process: &Process) {
        for (hierarchy, path) in self.groups(process) {
            if self.first.len() >= MOST {
                return;
            }
            let key = (hierarchy.name.clone(), path);
            if self.first.contains_key(&key) {
                continue;
            }
            let counters = counters(&hierarchy, &key.1);
            self.first.insert(key, counters);
        }
    }

    /// The groups of these processes as they are now, against what they were. Those that say nothing
    /// (a group without controllers) are left out.
    pub(crate) fn finish<'a>(&self, processes: impl Iterator<Item = &'a Process>) -> Vec<Cgroup> {
        let wanted: BTreeSet<(String, String)> = processes
            .flat_map(|process| self.groups(process))
            .map(|(hierarchy, path)| (hierarchy.name, path))
            .collect();
        wanted
            .into_iter()
            .filter_map(|key| {
                let first = self.first.get(&key)?;
                let hierarchy = self.hierarchies.iter().find(|it| it.name == key.0)?;
                let pairs: Counters = counters(hierarchy, &key.1)
                    .into_iter()
                    // A counter known at one end only says nothing.
                    .filter_map(|(name, after)| {
                        let before = *first.get(&name)?;
                        Some((name, Pair { before, after }))
                    })
                    .collect();
                let settings = settings(hierarchy, &key.1);
                let (hierarchy, path) = key;
                (!pairs.is_empty()).then_some(Cgroup { path, hierarchy, counters: pairs, settings })
            })
            .collect()
    }

    /// The groups of a process and their parents, in each hierarchy that counts anything.
    fn groups(&self, process: &Process) -> Vec<(Hierarchy, String)> {
        let mut groups = Vec::new();
        for hierarchy in &self.hierarchies {
            let path = process.cgroup_of.get(&hierarchy.name).or(process.cgroup.as_ref());
            let Some(path) = path else { continue };
            // Outside of what is mounted here: of another container, or of the host seen from one.
            if path.split('/').any(|name| name == "..") {
                continue;
            }
            let mut path = Some(Path::new(path));
            while let Some(here) = path.filter(|here| here.parent().is_some()) {
                groups.push((hierarchy.clone(), here.to_string_lossy().into_owned()));
                path = here.parent();
            }
        }
        groups
    }
}

/// The hierarchies in a line such as
/// `35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`.
pub(crate) fn parse_mount(line: &str) -> Vec<Hierarchy> {
    let Some((mount, source)) = line.split_once(" - ") else { return Vec::new() };
    let mut words = mount.split(' ').skip(3);
    let (Some(root), Some(point)) = (words.next(), words.next()) else { return Vec::new() };
    let of = |name: &str| Hierarchy {
        name: name.to_owned(),
        folder: point.into(),
        root: root.to_owned(),
    };
    let mut source = source.split(' ');
    match source.next() {
        Some("cgroup2") => vec![of("cgroup2")],
        Some("cgroup") => source
            .nth(1)
            .unwrap_or_default()
            .split(',')
            .filter(|option| ["cpu", "memory"].contains(option))
            .map(of)
            .collect(),
        _ => Vec::new(),
    }
}

fn folder(hierarchy: &Hierarchy, path: &str) -> PathBuf {
    let below = path.strip_prefix(hierarchy.root.trim_end_matches('/')).unwrap_or(path);
    hierarchy.folder.join(below.trim_start_matches('/'))
}

/// Files of `name value` lines, with the names that matter; an empty list for all of them.
const TABLES: [(&str, &str, &[&str]); 4] = [
    ("cgroup2", "cpu.stat", &["nr_periods", "nr_throttled", "throttled_usec"]),
    ("cgroup2", "memory.events", &[]),
    ("cgroup2", "memory.stat", &["sock"]),
    ("cpu", "cpu.stat", &["nr_periods", "nr_throttled", "throttled_time"]),
];

/// Files of one number.
const NUMBERS: [(&str, &str); 5] = [
    ("cgroup2", "memory.current"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.failcnt"),
    ("memory", "memory.kmem.tcp.usage_in_bytes"),
    ("memory", "memory.kmem.tcp.failcnt"),
];

/// Files of a setting.
const SETTINGS: [(&str, &str); 7] = [
    ("cgroup2", "cpu.max"),
    ("cgroup2", "memory.max"),
    ("cgroup2", "memory.high"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.kmem.tcp.limit_in_bytes"),
];

fn counters(hierarchy: &Hierarchy, path: &str) -> BTreeMap<String, u64> {
    let folder = folder(hierarchy, path);
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let mut counters = BTreeMap::new();
    for (_, file, names) in TABLES.iter().filter(|it| it.0 == hierarchy.name) {
        for (name, value) in read(file).iter().flat_map(|text| table(text)) {
            if names.is_empty() || names.contains(&name) {
                counters.insert(format!("{file}.{name}"), value);
            }
        }
    }
    for (_, file) in NUMBERS.iter().filter(|it| it.0 == hierarchy.name) {
        if let Some(value) = read(file).and_then(|text| text.trim().parse().ok()) {
            counters.insert((*file).to_owned(), value);
        }
    }
    counters
}

fn settings(hierarchy: &Hierarchy, path: &str) -> BTreeMap<String, String> {
    let folder = folder(hierarchy, path);
    SETTINGS
        .iter()
        .filter(|it| it.0 == hierarchy.name)
        .filter_map(|(_, file)| {
            let text = fs::read_to_string(folder.join(file)).ok()?;
            Some(((*file).to_owned(), text.trim().to_owned()))
        })
        .collect()
}

/// The names and values of lines such as `nr_throttled 3`.
pub(crate) fn table(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(line: &str) -> Vec<String> {
        parse_mount(line).into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn hierarchies_by_their_mounts() {
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(names(v2), ["cgroup2"]);
        let both =
            "32 31 0:29 /docker/x /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(names(both), ["cpu"]);
        assert_eq!(parse_mount(both)[0].root, "/docker/x");
        for other in ["40 31 0:37 / /x rw - cgroup cgroup rw,name=systemd", "noise", ""] {
            assert_eq!(names(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn a_group_is_found_below_what_is_mounted() {
        let at = |root: &str| Hierarchy {
            name: "cgroup2".into(),
            folder: "/sys/fs/cgroup".into(),
            root: root.into(),
        };
        assert_eq!(folder(&at("/"), "/a/b"), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(folder(&at("/a"), "/a/b"), Path::new("/sys/fs/cgroup/b"));
        assert_eq!(folder(&at("/a"), "/a"), Path::new("/sys/fs/cgroup/"));
    }

    /// A folder that stands for two hierarchies and is removed afterwards.
    struct Mounts(PathBuf);

    impl Mounts {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("wdcol-cgroup-{}", std::process::id()));
            for below in ["proc/thread-self", "v2/a/b", "cpu/c"] {
                fs::create_dir_all(folder.join(below)).unwrap();
            }
            let at = folder.display();
            let text = format!(
                "1 2 0:1 / {at}/v2 rw - cgroup2 x rw\n1 2 0:2 / {at}/cpu rw - cgroup x rw,cpu\n"
            );
            fs::write(folder.join("proc/thread-self/mountinfo"), text).unwrap();
            Self(folder)
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.0.join(file), text).unwrap();
        }
    }

    impl Drop for Mounts {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn throttling_of_a_parent_is_seen() {
        let mounts = Mounts::new();
        mounts.write("v2/a/cpu.stat", "usage_usec 9\nnr_periods 5\nnr_throttled 2\n");
        mounts.write("v2/a/cpu.max", "20000 100000\n");
        mounts.write("v2/a/b/memory.stat", "anon 1\nsock 4096\n");
        mounts.write("v2/a/b/memory.events", "low 0\nmax 1\n");
        mounts.write("cpu/c/cpu.stat", "nr_throttled 7\nthrottled_time 8\n");
        let roots = Roots { proc: mounts.0.join("proc"), ..Roots::default() };
        let mut cgroups = Cgroups::find(&roots);
        let process = Process {
            cgroup: Some("/a/b".into()),
            cgroup_of: BTreeMap::from([("cpu".into(), "/c".into())]),
            ..Process::default()
        };
        cgroups.note(&process);
        mounts.write("v2/a/cpu.stat", "usage_usec 9\nnr_periods 9\nnr_throttled 6\nnew 1\n");
        mounts.write("v2/a/b/memory.events", "low 0\nmax 4\n");
        let told = cgroups.finish([&process].into_iter());
        let at: Vec<_> = told.iter().map(|it| (it.hierarchy.as_str(), it.path.as_str())).collect();
        assert_eq!(at, [("cgroup2", "/a"), ("cgroup2", "/a/b"), ("cpu", "/c")]);
        assert_eq!(told[0].counters["cpu.stat.nr_throttled"], Pair { before: 2, after: 6 });
        assert_eq!(told[0].settings["cpu.max"], "20000 100000");
        assert_eq!(told[1].counters["memory.events.max"].delta(), 3);
        assert_eq!(told[1].counters["memory.stat.sock"].after, 4096);
        assert!(!told[1].counters.contains_key("memory.stat.anon"));
        assert_eq!(told[2].counters["cpu.stat.throttled_time"].delta(), 0);
        assert!(told.iter().all(|cgroup| cgroup.holds(&process)));

        let other = Process { cgroup: Some("/x/../y".into()), ..Process::default() };
        assert!(cgroups.groups(&other).is_empty(), "of another container");
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "[ a-z0-9:,/=-]{0,120}", text in "\\PC{0,60}") {
            for line in [&line, &text] {
                parse_mount(line);
                let _ = table(line).count();
            }
        }
    }
}
