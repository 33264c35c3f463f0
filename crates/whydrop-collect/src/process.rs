//! Which processes hold a socket, and how they are.
//!
//! The kernel links a socket to its processes in one direction only, `/proc/PID/fd`, so finding the
//! owners means reading the links of many processes. Callers ask for many sockets at once and not
//! often. Reads links and small files; sends no signal and traces nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use whydrop_model::{OpenFiles, Process};

use crate::Roots;
use crate::namespaces::inode_of_link;
use membership::Membership;

mod golang;
pub(crate) mod membership;
pub(crate) mod program;

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

/// The processes that hold sockets now, by inode of the socket. They are asked for by the inode of
/// their namespace and their own; those that nobody seems to hold are missing.
#[must_use]
pub fn holders(
    roots: &Roots,
    wanted: &BTreeMap<u64, BTreeSet<u64>>,
) -> BTreeMap<u64, Vec<Process>> {
    let found = owners(roots, wanted).by_socket.into_iter();
    let described = found.map(|(socket, pids)| {
        (socket, pids.into_iter().filter_map(|pid| describe(roots, pid)).collect())
    });
    described.collect()
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
    let folder = folder(roots, pid);
    let (program, runtime) = program::of(&folder).unzip();
    let runtime = runtime.flatten().map(str::to_owned);
    let mut process = Process { pid, comm, program, runtime, state, ..Process::default() };
    let groups = fs::read(folder.join("cgroup")).unwrap_or_default();
    Membership::parse(&String::from_utf8_lossy(&groups)).tell(&mut process);
    if let Some(pod) = &mut process.pod {
        membership::name_pod(pod, names_in(&roots.log.join("pods")));
        if let Some(id) = &process.container {
            membership::name_container(pod, id, names_in(&roots.log.join("containers")));
        }
    }
    Some(process)
}

/// The names in a folder; none if it cannot be read.
fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// How many files a process has open, and how many it may; `None` if it ended or hides them.
pub(crate) fn files(roots: &Roots, pid: u32) -> Option<OpenFiles> {
    let folder = folder(roots, pid);
    let limits = fs::read_to_string(folder.join("limits")).ok()?;
    let open = fs::read_dir(folder.join("fd")).ok()?.count() as u64;
    Some(OpenFiles { open, limit: parse_limit(&limits) })
}

/// The soft limit in a line such as `Max open files   1024   524288   files`; `None` for
/// "unlimited".
pub(crate) fn parse_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Nanoseconds for which the threads of a process were ready to run and had no CPU, and how many
/// threads that are; `None` if it ended or has more than `most`.
pub(crate) fn run_delay(roots: &Roots, pid: u32, most: usize) -> Option<(u64, usize)> {
    let threads: Vec<PathBuf> = fs::read_dir(folder(roots, pid).join("task"))
        .ok()?
        .take(most + 1)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    if threads.len() > most {
        return None;
    }
    let delays = threads.iter().filter_map(|thread| {
        // Time on a CPU, time waited for one, number of slices.
        let text = fs::read_to_string(thread.join("schedstat")).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let (sum, read) = delays.fold((0, 0), |(sum, read), delay| (sum + delay, read + 1));
    (read > 0).then_some((sum, threads.len()))
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
pub(crate) fn parse_stat(line: &str) -> Option<(String, char)> {
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
    fn a_process_tells_its_files_and_how_long_it_waited() {
        let (roots, me) = (Roots::default(), std::process::id());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let before = files(&roots, me).unwrap();
        assert_eq!(before.limit, limit.current);
        assert!(before.open >= 3);
        let (delay, threads) = run_delay(&roots, me, 1000).unwrap();
        assert!(threads >= 2, "the test and its runner");
        assert!(run_delay(&roots, me, 1000).unwrap().0 >= delay);
        assert_eq!(run_delay(&roots, me, 1), None, "too many threads");
        assert_eq!(files(&fixture::roots("linux-6.18"), 1), None);
        assert_eq!(run_delay(&fixture::roots("linux-6.18"), 1, 9), None);
        assert_eq!(parse_limit("Max open files   7 unlimited files"), Some(7));
        assert_eq!(parse_limit("Max open files   unlimited unlimited files"), None);
        assert_eq!(parse_limit("Max processes 1 2 processes"), None);
    }

    /// A folder that stands for `/proc` and `/var/log` and is removed afterwards.
    struct Pretended(PathBuf);

    impl Drop for Pretended {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_process_of_a_pod_is_told_with_the_names_that_the_kubelet_uses() {
        let folder = std::env::temp_dir().join(format!("wdcol-pod-{}", std::process::id()));
        let pretended = Pretended(folder.clone());
        let id = "0123456789abcdef".repeat(4);
        let uid = "1b2c3d4e-0000-1111-2222-333344445555";
        fs::create_dir_all(folder.join("7")).unwrap();
        fs::create_dir_all(folder.join("log/pods").join(format!("shop_web-7d9_{uid}"))).unwrap();
        fs::create_dir_all(folder.join("log/containers")).unwrap();
        fs::write(folder.join("log/containers").join(format!("web-7d9_shop_app-{id}.log")), "")
            .unwrap();
        fs::write(folder.join("7/stat"), "7 (web) S 1").unwrap();
        fs::write(folder.join("7/cgroup"), format!("0::/kubepods/pod{uid}/{id}\n")).unwrap();
        let roots = Roots { proc: folder.clone(), log: folder.join("log"), ..Roots::default() };
        let process = describe(&roots, 7).unwrap();
        assert_eq!(process.container.as_deref(), Some(id.as_str()));
        let pod = process.pod.unwrap();
        assert_eq!(pod.uid, uid);
        assert_eq!(
            (pod.namespace.as_deref(), pod.name.as_deref()),
            (Some("shop"), Some("web-7d9"))
        );
        assert_eq!(pod.container.as_deref(), Some("app"));
        drop(pretended);
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
            parse_limit(&line);
            parse_limit(&format!("Max open files{odd}"));
        }
    }
}
