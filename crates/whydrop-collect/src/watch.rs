//! An observation from the outside: [`Watch::open`], wait, [`Watch::close`].
//!
//! Starts and ends the thread of `worker`; reads nothing itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use whydrop_model::{
    Cgroup, CpuSide, Namespace, NeighbourTable, NotChecked, ProtocolMemory, SoftnetCpu,
};

use crate::worker::{Request, Worker};
use crate::{Error, Roots};

/// What is observed, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The only network namespaces to observe, by name as in `ip netns` or by their file's name
    /// in Docker's folder; empty for all of the host.
    pub netns: Vec<String>,
    /// Time between two looks at the listen queues and the receive queues of unconnected UDP sockets,
    /// 10 ms at least. Where that would take more than 5 % of one CPU,
    /// namespaces take turns, the busy ones more often, and [`Observation::not_checked`] tells the
    /// real interval. While all queues are empty and no packet comes into the host, there are looks
    /// every five seconds only: they would show the same. Where that lasts, whether packets come in is
    /// asked twice a second, or when [`Watch::hurry`] says that they do.
    pub look_every: Duration,
    /// Where the kernel's files are.
    pub roots: Roots,
}

impl Default for Options {
    fn default() -> Self {
        Self { netns: Vec::new(), look_every: Duration::from_millis(100), roots: Roots::default() }
    }
}

/// A running observation. It owns one thread; only that thread enters other namespaces, so the rest
/// of the program stays where it is. Dropping it ends the thread without a result.
#[derive(Debug)]
pub struct Watch {
    requests: Sender<Request>,
    thread: JoinHandle<Option<Observation>>,
    any_gone: Arc<AtomicBool>,
}

/// What was observed between [`Watch::open`] and [`Watch::close`].
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When the window opened: just before the first counter was read. [`QueueStep::at_ms`] counts
    /// from here.
    ///
    /// [`QueueStep::at_ms`]: whydrop_model::QueueStep::at_ms
    pub opened: SystemTime,
    /// From then until the last reading began.
    pub length: Duration,
    /// Network namespaces: the own one first, then by inode.
    pub namespaces: Vec<Namespace>,
    /// CPUs by number; empty if unreadable.
    pub softnet: Vec<SoftnetCpu>,
    /// What the CPUs were busy with.
    pub cpu_side: CpuSide,
    /// Neighbour tables, which serve all namespaces; empty if unreadable.
    pub neighbour_tables: Vec<NeighbourTable>,
    /// Memory of all TCP and all UDP sockets of the host; empty if unreadable.
    pub protocol_memory: Vec<ProtocolMemory>,
    /// Control groups of the owners of sockets in trouble, and their parents.
    pub cgroups: Vec<Cgroup>,
    /// What could not be examined.
    pub not_checked: Vec<NotChecked>,
}

impl Watch {
    /// Finds the namespaces and reads everything once. Returns when that is done: whatever happens
    /// from then on shows in the observation.
    ///
    /// # Errors
    ///
    /// Only if nothing at all can be observed; see [`Error`].
    pub fn open(options: Options) -> Result<Self, Error> {
        let (requests, asked) = mpsc::channel();
        let (opened, ready) = mpsc::channel();
        let thread = Builder::new()
            .name("whydrop-collect".into())
            .spawn(move || {
                let mut worker = match Worker::open(options) {
                    Ok(worker) => worker,
                    Err(error) => {
                        // Nobody waits any more if this fails.
                        let _ = opened.send(Err(error));
                        return None;
                    }
                };
                opened.send(Ok(worker.any_gone())).ok()?;
                worker.run(&asked).then(|| worker.close())
            })
            .map_err(Error::Thread)?;
        match ready.recv() {
            Ok(Ok(any_gone)) => Ok(Self { requests, thread, any_gone }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Thread(io::Error::other("it ended early"))),
        }
    }

    /// Says that something is going on: queues are looked at now, unless that is due soon anyway.
    pub fn hurry(&self) {
        // If the thread is gone already, joining it tells.
        let _ = self.requests.send(Request::Look);
    }

    /// True once a namespace that was observed is gone: its part of the observation is complete. Its end
    /// is found at a look.
    #[must_use]
    pub fn any_gone(&self) -> bool {
        self.any_gone.load(Ordering::Relaxed)
    }

    /// Reads everything a second time, names the owners of the listeners, and ends the observation.
    pub fn close(self) -> Observation {
        // If the thread is gone already, joining it tells.
        let _ = self.requests.send(Request::Close);
        self.thread.join().ok().flatten().unwrap_or_else(|| Observation {
            opened: SystemTime::now(),
            length: Duration::ZERO,
            namespaces: Vec::new(),
            softnet: Vec::new(),
            neighbour_tables: Vec::new(),
            protocol_memory: Vec::new(),
            cgroups: Vec::new(),
            cpu_side: CpuSide::default(),
            not_checked: vec![NotChecked {
                what: "counters, queues and settings".into(),
                why: "the thread that reads them ended early; this is a bug in whydrop".into(),
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder that stands for `/proc` and is removed afterwards.
    struct Proc(PathBuf);

    impl Proc {
        fn new(test: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("wdcol-proc-{}-{test}", std::process::id()));
            fs::create_dir_all(folder.join("thread-self/ns")).unwrap();
            fs::create_dir_all(folder.join("thread-self/net")).unwrap();
            symlink("net:[4026531840]", folder.join("thread-self/ns/net")).unwrap();
            Self(folder)
        }

        fn table(&self, name: &str, text: &str) {
            fs::write(self.0.join("thread-self/net").join(name), text).unwrap();
        }

        fn watch(&self) -> Watch {
            let nowhere = || Path::new("/nonexistent").to_path_buf();
            let roots = Roots {
                proc: self.0.clone(),
                sys: nowhere(),
                modules: nowhere(),
                netns: nowhere(),
                docker_netns: nowhere(),
                log: nowhere(),
            };
            Watch::open(Options { roots, ..Options::default() }).unwrap()
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_window_over_recorded_files() {
        let proc = Proc::new("window");
        proc.table("snmp", "Udp: NoPorts\nUdp: 5\n");
        proc.table("netstat", "TcpExt: ListenDrops\nTcpExt: 5\n");
        proc.table("softnet_stat", "1 0 0 0 0 0 0 0 0\n");
        let watch = proc.watch();
        proc.table("snmp", "Udp: New NoPorts\nUdp: 2 8\n");
        proc.table("netstat", "broken\n");
        proc.table("softnet_stat", "1 4 0 0 0 0 0 0 0\n");
        let observation = watch.close();

        let [here] = &observation.namespaces[..] else { panic!("{:?}", observation.namespaces) };
        assert!(here.own);
        assert_eq!((here.inode, here.pid, &here.name), (4_026_531_840, None, &None));
        assert_eq!(here.delta("Udp.NoPorts"), Some(3));
        assert_eq!(here.delta("Udp.New"), Some(2));
        assert_eq!(here.delta("TcpExt.ListenDrops"), None, "one end tells nothing");
        assert_eq!(observation.softnet[0].dropped.delta(), 4);
        let lines: Vec<(&str, &str)> = observation
            .not_checked
            .iter()
            .map(|line| (line.what.as_str(), line.why.as_str()))
            .collect();
        assert!(
            lines.contains(&(
                "extended TCP and IP counters",
                "/proc/net/netstat was not understood"
            ))
        );
        assert!(
            lines.contains(&(
                "kernel settings (sysctl)",
                "none of the settings in /proc/sys/net is there"
            )),
            "{lines:?}"
        );
    }

    #[test]
    fn what_could_not_be_read_first_is_not_read_last() {
        let proc = Proc::new("late");
        let watch = proc.watch();
        proc.table("snmp", "Udp: NoPorts\nUdp: 5\n");
        let observation = watch.close();
        assert_eq!(observation.namespaces[0].delta("Udp.NoPorts"), None);
        assert_eq!(observation.softnet, []);
        assert!(observation.not_checked.iter().any(|it| it.what == "IPv4, TCP and UDP counters"));
    }

    #[test]
    fn a_watch_that_is_dropped_ends_its_thread() {
        let proc = Proc::new("dropped");
        let Watch { requests, thread, .. } = proc.watch();
        drop(requests);
        assert!(thread.join().unwrap().is_none());
    }
}
