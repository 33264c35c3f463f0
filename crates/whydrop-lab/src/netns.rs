//! Network namespaces that vanish with their owner.
//!
//! A namespace is named after the process that made it, so that a later run can tell whose it was
//! and remove what a killed run left behind. This module touches no namespace it did not name.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, process, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::LabError;
use crate::socket_memory::GROUPS;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// Where ready files are kept: writable by root alone.
const RUN: &str = "/run";
/// What every name of the lab starts with.
const PREFIX: &str = "whydrop-lab-";

/// Names the things of one played scenario: unique on this host, and tells who made them.
#[derive(Debug, Clone)]
pub(crate) struct Tag(String);

impl Tag {
    /// A tag that no other scenario has, in this process or another.
    pub(crate) fn new() -> Result<Self, LabError> {
        static PLAYED: AtomicU32 = AtomicU32::new(0);
        let pid = process::id();
        let stat = ProcessStat::read(pid).ok_or_else(|| {
            LabError::io("reading /proc/self/stat")(io::Error::from(io::ErrorKind::NotFound))
        })?;
        let number = PLAYED.fetch_add(1, Ordering::Relaxed);
        Ok(Self(format!("{PREFIX}{pid}-{}-{number}", stat.started)))
    }

    /// The name of the namespace that plays `role`.
    pub(crate) fn netns(&self, role: &str) -> String {
        format!("{}-{role}", self.0)
    }

    /// The name of the control group of the server `name`.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    /// The file whose appearance says that the diagnosis is watching.
    pub(crate) fn ready_file(&self) -> PathBuf {
        Path::new(RUN).join(format!("{}.ready", self.0))
    }
}

/// True if `name` belongs to the lab and the process that made it is gone.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
    let (Some(pid), Some(started)) = (number(), number()) else { return false };
    // The start time tells the maker from a later process that was given the same pid.
    let maker = u32::try_from(pid).ok().and_then(ProcessStat::read);
    maker.is_none_or(|stat| stat.started != started)
}

/// Removes what runs that are gone left behind, and names it.
pub fn sweep() -> Result<Vec<String>, LabError> {
    require_root()?;
    let mut removed = Vec::new();
    for name in orphans(NAMES)? {
        // Two runs may sweep at once: what is gone already needs no removing.
        match ip(&["netns", "del", &name], "") {
            Ok(_) => removed.push(name),
            Err(error) if Path::new(NAMES).join(&name).exists() => return Err(error),
            Err(_) => {}
        }
    }
    for name in orphans(RUN)? {
        let _ = fs::remove_file(Path::new(RUN).join(&name));
        removed.push(name);
    }
    let groups = crate::quota::roots().chain(crate::cgroup_program::roots());
    for root in groups.chain([Path::new(GROUPS)]) {
        for name in orphans(&root.display().to_string())? {
            // Its processes went with the runner; the kernel may take a moment to bury them.
            if fs::remove_dir(root.join(&name)).is_ok() {
                removed.push(name);
            }
        }
    }
    Ok(removed)
}

fn orphans(folder: &str) -> Result<Vec<String>, LabError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::io(format!("reading {folder}"))(error)),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_orphan(name))
        .collect())
}

/// The parts of `/proc/PID/stat` that the lab needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// Scheduler state letter (`T` is stopped).
    pub(crate) state: char,
    /// When it was started, in clock ticks since boot.
    pub(crate) started: u64,
}

impl ProcessStat {
    /// `None` if there is no such process.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may itself hold blanks and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }
}

/// A named network namespace, removed when dropped.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes it.
    pub(crate) fn create(name: String) -> Result<Self, LabError> {
        ip(&["netns", "add", &name], "")?;
        Ok(Self { name })
    }

    /// Its name, as in `ip netns`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A file for programs to be loaded in it.
    pub(crate) fn object_file(&self) -> PathBuf {
        Path::new(RUN).join(format!("{}.o", self.name))
    }

    /// The file that stands for it.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Inode of that file: the namespace's identity in reports.
    pub(crate) fn inode(&self) -> Result<u64, LabError> {
        let path = self.path();
        let metadata = fs::metadata(&path).map_err(LabError::io(path.display().to_string()))?;
        Ok(metadata.ino())
    }

    /// Runs `work` inside, on a thread of its own: only that thread moves.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let path = self.path();
        thread::scope(|scope| {
            let inside = scope.spawn(|| enter(&path).map(|()| work()));
            match inside.join() {
                Ok(done) => done.map_err(LabError::io(format!("entering {}", path.display()))),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Carries out the lines of an `ip -batch` inside.
    pub(crate) fn ip(&self, batch: &str) -> Result<String, LabError> {
        ip(&["-n", &self.name, "-batch", "-"], batch)
    }

    /// Sets a sysctl inside.
    pub(crate) fn set_sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.within(|| fs::write(path, value))?
            .map_err(LabError::io(format!("setting {name} = {value} in {}", self.name)))
    }

    /// True once the device can carry packets.
    pub(crate) fn is_up(&self, device: &str) -> Result<bool, LabError> {
        let links = ip(&["-n", &self.name, "-json", "link", "show", "dev", device], "")?;
        Ok(links.contains("\"operstate\":\"UP\""))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Nobody is left to tell; what cannot be removed now is swept by a later run.
        let _ = ip(&["netns", "del", &self.name], "");
    }
}

/// Moves the calling thread into the namespace that `path` stands for. Threads that it starts
/// afterwards are born there.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let netns = fs::File::open(path)?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// An error unless this process is root.
pub(crate) fn require_root() -> Result<(), LabError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

/// Runs `ip` with `input` on its standard input and gives what it prints.
fn ip(arguments: &[&str], input: &str) -> Result<String, LabError> {
    let command = || format!("ip {}", arguments.join(" "));
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => crate::command::missing("ip"),
            _ => LabError::io(command())(source),
        })?;
    // `ip` may fail without reading it all; its exit status says so better than EPIPE does.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(LabError::io(command()))?;
    if output.status.success() && matches!(written, Some(Ok(()))) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("").to_owned();
    Err(LabError::Command { command: command(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_a_nasty_name() {
        let stat = "42 (a) b (c) T 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000 1";
        let expected = ProcessStat { state: 'T', started: 777 };
        assert_eq!(ProcessStat::parse(stat), Some(expected));
        assert_eq!(ProcessStat::parse("42 (x"), None);
    }

    #[test]
    fn only_what_the_dead_left_is_an_orphan() {
        let own = Tag::new().unwrap().netns("a");
        assert!(!is_orphan(&own), "{own}");
        let pid = process::id();
        assert!(is_orphan(&format!("{PREFIX}{pid}-1-0-a")), "same pid, other start");
        assert!(is_orphan(&format!("{PREFIX}4194999-1-0-a")), "no such process");
        for foreign in ["blue", "whydrop-lab-", "whydrop-lab-x-1-0-a", "whydrop-lab-12"] {
            assert!(!is_orphan(foreign), "{foreign}");
        }
    }

    #[test]
    fn tags_differ() {
        assert_ne!(Tag::new().unwrap().netns("a"), Tag::new().unwrap().netns("a"));
    }
}
