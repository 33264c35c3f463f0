//! Which processes hold a socket, and how they are.
//!
//! The kernel links a socket to its processes in one direction only, `/proc/PID/fd`, so finding the
//! owners means reading the links of many processes. Callers ask for many sockets at once and not
//! often. Reads links and small files; sends no signal and traces nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use whydrop_model::Process;

use crate::Roots;
use crate::namespaces::inode_of_link;

mod program;

/// All process ids, lowest first.
pub(crate) fn pids(roots: &Roots) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(&roots.proc) else { return Vec::new() };
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn folder(roots: &Roots, pid: u32) -> PathBuf {
    roots.proc.join(pid.to_string())
}

/// The link that tells a process's network namespace.
pub(crate) fn namespace_link(roots: &Roots, pid: u32) -> PathBuf {
    folder(roots, pid).join("ns/net")
}

/// The owners of sockets.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Pids by socket inode, lowest first.
    pub(crate) by_socket: BTreeMap<u64, Vec<u32>>,
    /// Whether some process hid its open files or its namespace from this user.
    pub(crate) hidden: bool,
}

/// Finds the owners of sockets, given by namespace inode and socket inode.
///
/// Processes of the socket's own namespace come first; only for sockets that none of them holds are
/// all others searched too (a process may have left the namespace in which it made the socket).
pub(crate) fn owners(roots: &Roots, wanted: &BTreeMap<u64, BTreeSet<u64>>) -> Owners {
    let mut owners = Owners::default();
    for pid in pids(roots) {
        match inode_of_link(&namespace_link(roots, pid)) {
            Ok(namespace) => {
                if let Some(sockets) = wanted.get(&namespace) {
                    owners.search(roots, pid, sockets);
                }
            }
            Err(error) => owners.hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    let missing: BTreeSet<u64> = wanted
        .values()
        .flatten()
        .filter(|socket| !owners.by_socket.contains_key(socket))
        .copied()
        .collect();
    if !missing.is_empty() {
        for pid in pids(roots) {
            owners.search(roots, pid, &missing);
        }
        for pids in owners.by_socket.values_mut() {
            pids.sort_unstable();
            pids.dedup();
        }
    }
    owners
}

impl Owners {
    fn search(&mut self, roots: &Roots, pid: u32, sockets: &BTreeSet<u64>) {
        let entries = match fs::read_dir(folder(roots, pid).join("fd")) {
            Ok(entries) => entries,
            Err(error) => {
                self.hidden |= error.kind() == io::ErrorKind::PermissionDenied;
                return;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let Some(socket) = socket_of_link(&entry.path()) else { continue };
            if sockets.contains(&socket) {
                let pids = self.by_socket.entry(socket).or_default();
                if pids.last() != Some(&pid) {
                    pids.push(pid);
                }
            }
        }
    }
}

/// The inode in a link such as `socket:[123]`.
fn socket_of_link(link: &Path) -> Option<u64> {
    let text = fs::read_link(link).ok()?;
    text.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A process as it is now; `None` if it ended.
pub(crate) fn describe(roots: &Roots, pid: u32) -> Option<Process> {
    let (comm, state) = stat(roots, pid)?;
    Some(Process { pid, comm, program: program::of(&folder(roots, pid)), state })
}

/// The scheduler state of a process (of its first thread); `None` if it ended.
pub(crate) fn state(roots: &Roots, pid: u32) -> Option<char> {
    Some(stat(roots, pid)?.1)
}

fn stat(roots: &Roots, pid: u32) -> Option<(String, char)> {
    let bytes = fs::read(folder(roots, pid).join("stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// Name and state in a line such as `12 (my (odd) name) S 1 ...`: the name may hold anything, so it
/// ends at the last parenthesis.
fn parse_stat(line: &str) -> Option<(String, char)> {
    let start = line.find('(')?;
    let end = line.rfind(')')?;
    let comm = line.get(start + 1..end)?;
    let state = line.get(end + 1..)?.trim_start().chars().next()?;
    Some((comm.to_owned(), state))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(parse_stat("12 (nginx) S 1 12"), Some(("nginx".into(), 'S')));
        assert_eq!(parse_stat("12 (a) b) (c) T 1"), Some(("a) b) (c".into(), 'T')));
        assert_eq!(parse_stat("12 () Z 1"), Some((String::new(), 'Z')));
        for other in ["12 nginx S", "12 )nginx( S", "12 (nginx)", "12 (nginx) ", ""] {
            assert_eq!(parse_stat(other), None, "{other}");
        }
    }

    #[test]
    fn the_owner_of_an_own_socket_is_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let socket = socket_of_link(Path::new(&link)).unwrap();
        let namespace = inode_of_link(Path::new("/proc/self/ns/net")).unwrap();
        let roots = Roots::default();
        let me = std::process::id();
        for namespace in [namespace, 1] {
            let wanted = BTreeMap::from([(namespace, BTreeSet::from([socket, 0]))]);
            let owners = owners(&roots, &wanted);
            assert_eq!(owners.by_socket.get(&socket), Some(&vec![me]));
            assert_eq!(owners.by_socket.len(), 1);
        }
        let process = describe(&roots, me).unwrap();
        assert!(process.program.unwrap().starts_with("whydrop_collect"));
        assert!("RS".contains(process.state));
    }

    #[test]
    fn an_ended_process_is_nobody() {
        assert_eq!(describe(&fixture::roots("linux-6.18"), 1), None);
    }

    proptest! {
        #[test]
        fn any_stat_line_is_survived(line in "\\PC{0,80}", odd in "[() a-z0-9]{0,40}") {
            parse_stat(&line);
            parse_stat(&odd);
        }
    }
}
