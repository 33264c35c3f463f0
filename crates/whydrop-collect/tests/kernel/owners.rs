//! The owners of sockets in trouble: their control groups, and that they starve there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::netns::{Netns, Running, find, observe, wait_for};
use crate::root;

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/udp_reader.pl");

/// A control group that allows a tenth of a CPU and ends with the test.
struct Throttled {
    folder: PathBuf,
    /// As `/proc/PID/cgroup` calls it.
    path: String,
    hierarchy: &'static str,
}

impl Throttled {
    /// `None` if this host has no hierarchy with a CPU controller for us.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = format!("/wdcol-{}.slice/wdcol.service", std::process::id());
        for line in mounts.lines() {
            let (mount, source) = line.split_once(" - ").unwrap();
            let point = Path::new(mount.split(' ').nth(4).unwrap());
            let source: Vec<&str> = source.split(' ').collect();
            let folder = point.join(path.trim_start_matches('/'));
            let parent = folder.parent().unwrap().to_path_buf();
            if source[0] == "cgroup" && source[2].split(',').any(|it| it == "cpu") {
                fs::create_dir_all(&folder).unwrap();
                fs::write(parent.join("cpu.cfs_period_us"), "20000").unwrap();
                fs::write(parent.join("cpu.cfs_quota_us"), "2000").unwrap();
                return Some(Self { folder, path, hierarchy: "cpu" });
            }
            let controllers = fs::read_to_string(point.join("cgroup.controllers"));
            if source[0] == "cgroup2"
                && controllers.is_ok_and(|all| all.split_whitespace().any(|it| it == "cpu"))
            {
                fs::create_dir_all(&folder).unwrap();
                fs::write(point.join("cgroup.subtree_control"), "+cpu").unwrap();
                fs::write(parent.join("cpu.max"), "2000 20000").unwrap();
                return Some(Self { folder, path, hierarchy: "cgroup2" });
            }
        }
        None
    }

    /// The limit is set on the parent.
    fn parent(&self) -> &Path {
        self.folder.parent().unwrap()
    }

    fn count(&self) -> u64 {
        let text = fs::read_to_string(self.parent().join("cpu.stat")).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.unwrap().parse().unwrap()
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        // The reader was killed before; the kernel may take a moment to let go of it.
        wait_for("the control group to empty", Duration::from_secs(5), || {
            fs::remove_dir(&self.folder).is_ok()
        });
        fs::remove_dir(self.parent()).unwrap();
    }
}

#[test]
fn an_owner_that_is_throttled_is_told_with_its_unit_and_its_limit() {
    let Some(_turn) = root() else { return };
    let Some(group) = Throttled::new() else {
        eprintln!("skipped: no hierarchy of control groups has the CPU controller");
        return;
    };
    let netns = Netns::new("cgroup");
    let mut child = Command::new("ip")
        .args(["netns", "exec", &netns.0, "perl", "-w", READER, "5000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let reader = Running(child);
    assert_eq!(line, "ready\n");
    fs::write(group.folder.join("cgroup.procs"), reader.pid().to_string()).unwrap();

    let sender = netns.inside(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let observation = observe(&[&netns], || {
        // The groups are read first by the search for owners that follows the opening.
        let before = group.count();
        wait_for("throttling", Duration::from_secs(5), || group.count() > before + 5);
        for _ in 0..30 {
            sender.send_to(&[0; 100], "127.0.0.1:5000").unwrap();
        }
    });
    let namespace = find(&observation, netns.inode());
    let socket = namespace.sockets.iter().find(|it| it.drops.delta32() > 0).unwrap();
    let [owner] = &socket.owners[..] else { panic!("{:?}", socket.owners) };
    assert_eq!((owner.pid, owner.program.as_deref()), (reader.pid(), Some("udp_reader.pl")));
    // On a host with both versions, the hierarchy that tells anything is that of the controller.
    assert_eq!(owner.unit.as_deref(), Some("wdcol.service"), "{owner:?}");
    let waited = owner.run_delay_ns.unwrap();
    assert!(waited.after > waited.before);
    let files = owner.files.unwrap();
    assert!(files.open >= 4, "{files:?}");

    let parent = group.path.rsplit_once('/').unwrap().0;
    let cgroup = observation.cgroups.iter().find(|it| it.path == parent).unwrap();
    assert_eq!(cgroup.hierarchy, group.hierarchy);
    assert!(cgroup.holds(owner));
    assert!(cgroup.counters["cpu.stat.nr_throttled"].delta() >= 1, "{cgroup:?}");
    let settings = &cgroup.settings;
    assert!(
        settings.get("cpu.max").is_some_and(|it| it == "2000 20000")
            || settings.get("cpu.cfs_quota_us").is_some_and(|it| it == "2000"),
        "{settings:?}"
    );
    drop(reader);
}
