//! Network namespaces and processes that end with the test that made them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use whydrop_collect::{Observation, Options, Watch};
use whydrop_model::Namespace;

/// Runs a program to its end and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for a condition; fails if it does not come true in time.
pub(crate) fn wait_for(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < within, "waited {within:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A named namespace with its loopback up.
pub(crate) struct Netns(pub(crate) String);

impl Netns {
    pub(crate) fn new(tag: &str) -> Self {
        let netns = Self(format!("wdcol-{}-{tag}", std::process::id()));
        run("ip", &["netns", "add", &netns.0]);
        netns.ip("link set lo up");
        netns
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    pub(crate) fn inode(&self) -> u64 {
        fs::metadata(self.path()).unwrap().st_ino()
    }

    /// `ip -n NAME ...`.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.0];
        all.extend(arguments.split(' '));
        run("ip", &all)
    }

    /// Runs a program inside.
    pub(crate) fn exec(&self, arguments: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &self.0];
        all.extend(arguments);
        run("ip", &all)
    }

    /// Runs a function on a thread inside. Sockets that it makes stay there.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .unwrap();
                    act()
                })
                .join()
                .unwrap()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A test that deletes it otherwise, or fails on the way, must still end.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// A program that is killed when the test ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Perl script that listens and never accepts.
pub(crate) const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/server.pl");

/// Runs [`SERVER`] inside until it listens.
pub(crate) fn serve(netns: &Netns, port: u16, backlog: u32) -> Running {
    let mut child = Command::new("ip")
        .args(["netns", "exec", &netns.0, "perl", "-w", SERVER])
        .args([port.to_string(), backlog.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let server = Running(child);
    assert_eq!(line, "ready\n");
    server
}

/// Whether this process has a file of the namespace open: the observer watches it.
pub(crate) fn is_held(inode: u64) -> bool {
    let device = fs::metadata("/proc/self/ns/net").unwrap().st_dev();
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .any(|data| data.st_dev() == device && data.st_ino() == inode)
}

/// Options for these namespaces only.
pub(crate) fn only(netns: &[&Netns]) -> Options {
    Options { netns: netns.iter().map(|netns| netns.0.clone()).collect(), ..Options::default() }
}

/// Observes these namespaces while `act` runs.
pub(crate) fn observe(netns: &[&Netns], act: impl FnOnce()) -> Observation {
    let watch = Watch::open(only(netns)).unwrap();
    act();
    watch.close()
}

/// The namespace with this inode.
pub(crate) fn find(observation: &Observation, inode: u64) -> &Namespace {
    observation
        .namespaces
        .iter()
        .find(|namespace| namespace.inode == inode)
        .unwrap_or_else(|| panic!("no namespace {inode} in {:?}", observation.not_checked))
}
