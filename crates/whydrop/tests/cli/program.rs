//! Running the program under test.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program under test.
pub(crate) fn path() -> &'static str {
    env!("CARGO_BIN_EXE_whydrop")
}

/// Runs what follows with tracefs mounted where it belongs, for that program alone.
pub(crate) const WITH_TRACEFS: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "test -e /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"",
    "sh",
];

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("started");
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub(crate) fn whydrop(arguments: &[&str]) -> Run {
    run(Command::new(path()).args(arguments))
}

/// Runs the program by way of another one, which may change who it is or what it sees.
pub(crate) fn under(wrapper: &[&str], arguments: &[&str]) -> Run {
    let folder = scratch();
    run(Command::new(wrapper[0]).args(&wrapper[1..]).arg(copy(&folder)).args(arguments))
}

/// A copy of the program where any user can reach it. Made by another process: one that this process
/// has open for writing could be inherited by what another test starts, and not be run meanwhile.
pub(crate) fn copy(folder: &TempDir) -> std::path::PathBuf {
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let copy = folder.path().join("whydrop");
    let copied = run(Command::new("cp").arg(path()).arg(&copy));
    assert_eq!(copied.status, Some(0), "{copied:?}");
    copy
}

/// A JSON report of this host; whatever its verdict.
pub(crate) fn report(arguments: &[&str]) -> serde_json::Value {
    let run = whydrop(&[&["diagnose", "--format", "json"], arguments].concat());
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    serde_json::from_str(&run.stdout).expect("one JSON document")
}

/// Why something could not be checked.
pub(crate) fn not_checked(report: &serde_json::Value, what: &str) -> String {
    let items = report["not_checked"].as_array().expect("a list");
    let about =
        |item: &&serde_json::Value| item["what"].as_str().is_some_and(|it| it.contains(what));
    let item = items.iter().find(about).unwrap_or_else(|| panic!("{what} in {report}"));
    item["why"].as_str().expect("a text").to_owned()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True, and said, if this test cannot run here.
pub(crate) fn needs_root() -> bool {
    if !is_root() {
        writeln!(std::io::stderr(), "skipped: needs root").expect("told");
    }
    !is_root()
}

/// A folder that goes away with its guard.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Starts the program and waits until its window is open.
pub(crate) fn started(arguments: &[&str], ready: &Path) -> Child {
    watching(&mut Command::new(path()), arguments, ready)
}

/// As [`started`], by way of other programs, as whoever they make it.
pub(crate) fn started_under(wrapper: &[&str], arguments: &[&str], folder: &TempDir) -> Child {
    let copy = copy(folder);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("opened");
    let mut command = Command::new(wrapper[0]);
    watching(command.args(&wrapper[1..]).arg(copy), arguments, &folder.path().join("ready"))
}

fn watching(command: &mut Command, arguments: &[&str], ready: &Path) -> Child {
    let mut child = command
        .arg(arguments[0])
        .arg("--ready-file")
        .arg(ready)
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let limit = Instant::now() + Duration::from_secs(20);
    while !ready.exists() {
        assert!(Instant::now() < limit, "the window never opened");
        if child.try_wait().expect("a child").is_some() {
            let output = child.wait_with_output().expect("an end");
            panic!("ended before its window opened: {output:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signalled");
}

/// A network namespace of its own with nothing but loopback; gone with its guard.
pub(crate) struct Netns(String);

impl Netns {
    pub(crate) fn new(role: &str) -> Self {
        let netns = Self(format!("whydrop-cli-{}-{role}", std::process::id()));
        ip(&["netns", "add", &netns.0]);
        ip(&["-n", &netns.0, "link", "set", "lo", "up"]);
        netns
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Its file.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// Runs something in it, which must succeed.
    pub(crate) fn run(&self, command: &[&str]) {
        ip(&[&["netns", "exec", &self.0], command].concat());
    }

    /// Sends datagrams to a port that nobody has open.
    pub(crate) fn send_to_closed_port(&self, count: u32) {
        let script =
            format!("for i in $(seq {count}); do echo x > /dev/udp/127.0.0.1/9; done; true");
        ip(&["netns", "exec", &self.0, "bash", "-c", &script]);
    }
}

/// Two namespaces with a veth pair between them. What the first sends to 10.99.0.9 has a MAC address
/// that the second does not have, and is dropped there.
pub(crate) fn pair(role: &str) -> [Netns; 2] {
    let pair = ["a", "b"].map(|end| Netns::new(&format!("{role}-{end}")));
    let [a, b] = [&pair[0], &pair[1]].map(Netns::name);
    for line in [
        format!("-n {a} link add veth0 type veth peer name veth0 netns {b}"),
        format!("-n {a} address add 10.99.0.1/24 dev veth0"),
        format!("-n {b} address add 10.99.0.2/24 dev veth0"),
        format!("-n {a} link set veth0 up"),
        format!("-n {b} link set veth0 up"),
        format!("-n {a} neighbour add 10.99.0.9 lladdr 02:00:00:00:00:99 dev veth0"),
    ] {
        ip(&line.split(' ').collect::<Vec<_>>());
    }
    pair
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) {
    let done = run(Command::new("ip").args(arguments));
    assert_eq!(done.status, Some(0), "ip {arguments:?}: {done:?}");
}
