//! A namespace with a listener that is too short, and this test program in other roles: a process
//! that listens there, and one that changes it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::fstat;
use rustix::process::{Signal, getpid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use whydrop_collect::Roots;
use whydrop_cure::{Changes, Journal, Planned, Step, persistent, plan};
use whydrop_model::{
    Answer, Cure, Effect, NetnsRef, Proposal, Site, SocketOf, Target, Trial, Write,
};

/// What the change under test sets both settings to.
pub(crate) const NEW: &str = "64";

/// Backlog and `net.core.somaxconn` before it.
pub(crate) const OLD: &str = "8";

pub(crate) struct Stage {
    name: String,
    server: Child,
    socket: u64,
    pub(crate) folder: tempfile::TempDir,
}

impl Stage {
    /// A new namespace with a listener; `None`, and said, without root.
    pub(crate) fn set() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("whydrop-cure-{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        let mut server = role("serve", &[("NETNS", &name)]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The test harness talks on the same stream.
        let told = lines
            .into_iter()
            .find_map(|line| line.split_once("socket ").and_then(|(_, inode)| inode.parse().ok()));
        let folder = tempfile::tempdir().unwrap();
        Some(Self { name, server, socket: told.expect("it listens"), folder })
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::new(self.folder.path().join("journal"))
    }

    pub(crate) fn changes(&self) -> Changes {
        Changes::open(&self.journal(), Roots::default()).unwrap()
    }

    fn inode(&self) -> u64 {
        fs::metadata(format!("/run/netns/{}", self.name)).unwrap().ino()
    }

    /// Runs work inside the namespace.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        whydrop_collect::within(&Roots::default(), self.inode(), work).unwrap()
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> NetnsRef {
        NetnsRef { inode: Some(self.inode()), name: Some(self.name.clone()) }
    }

    /// A longer accept queue: the cap, then the listener.
    pub(crate) fn cure(&self) -> Cure {
        let netns = self.netns();
        let write =
            |target| Write { netns: netns.clone(), target, old: Some(OLD.into()), new: NEW.into() };
        let of = SocketOf {
            pid: self.server.id(),
            comm: "server".into(),
            inode: self.socket,
            endpoint: "127.0.0.1:9000".into(),
        };
        cure(vec![
            write(Target::Sysctl { name: "net.core.somaxconn".into() }),
            write(Target::Backlog(of)),
        ])
    }

    /// Every setting of the namespace that can be read, and the listener's backlog.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let socket = self.socket;
        self.within(move || {
            let mut settings = BTreeMap::new();
            read_all(Path::new("/proc/sys/net"), &mut settings);
            let backlog = whydrop_collect::listen_backlog(socket).unwrap();
            settings.insert("backlog".into(), format!("{backlog:?}"));
            settings
        })
    }

    /// What is in the folder that stands for the root of the system.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        read_all(&self.folder.path().join("tree"), &mut files);
        files
    }

    /// This program in the role of one that makes the change and goes on as `mode` says, by way of
    /// `wrapper` if there is one. It dies by SIGKILL after so many steps.
    pub(crate) fn changer(&self, mode: &str, kill_after: usize, wrapper: &[&str]) -> Output {
        self.changes_by(&self.cure(), mode, kill_after, wrapper)
    }

    /// The same for another change.
    pub(crate) fn changes_by(
        &self,
        cure: &Cure,
        mode: &str,
        kill_after: usize,
        wrapper: &[&str],
    ) -> Output {
        let cure = serde_json::to_string(cure).unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let kill_after = kill_after.to_string();
        let own = role(
            "change",
            &[("CURE", &cure), ("FOLDER", folder), ("MODE", mode), ("KILL_AFTER", &kill_after)],
        );
        let mut command = match wrapper {
            [] => own,
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own.get_program()).args(own.get_args());
                command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
                command
            }
        };
        command.output().unwrap()
    }
}

/// One change that consists of these writes.
pub(crate) fn cure(writes: Vec<Write>) -> Cure {
    let netns = writes.first().map(|write| write.netns.clone());
    Cure {
        cause: "accept-queue-full".into(),
        variant: None,
        packets: 1,
        site: Site { netns, ..Site::default() },
        answer: Answer::Change(Box::new(Proposal {
            summary: "a change".into(),
            writes,
            measured: Vec::new(),
            sizing: None,
            risk: String::new(),
            weakens: None,
            interrupts: None,
            permanent: Vec::new(),
            left_out: Vec::new(),
        })),
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        ip(&["netns", "del", &self.name]);
    }
}

fn read_all(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            into.insert(path.display().to_string(), text);
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// This program again, to run one test of it that is something else in truth.
fn role(name: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("stage::{name}"), "--ignored", "--nocapture"]);
    command.stdin(Stdio::null()).envs(
        environment.iter().map(|(key, value)| (format!("WHYDROP_TEST_{key}"), (*value).to_owned())),
    );
    command
}

fn told(key: &str) -> Option<String> {
    std::env::var(format!("WHYDROP_TEST_{key}")).ok()
}

#[test]
#[ignore = "a role that other tests start"]
fn serve() {
    let Some(netns) = told("NETNS") else { return };
    let file = fs::File::open(format!("/run/netns/{netns}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    fs::write("/proc/sys/net/core/somaxconn", OLD).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:9000").unwrap();
    rustix::net::listen(&listener, 1000).unwrap();
    eprintln!("listening");
    let inode = fstat(&listener).unwrap().st_ino;
    let mut out = std::io::stdout();
    std::io::Write::write_all(&mut out, format!("\nsocket {inode}\n").as_bytes()).unwrap();
    std::io::Write::flush(&mut out).unwrap();
    // Until it is killed.
    std::thread::park();
}

#[test]
#[ignore = "a role that other tests start"]
fn change() {
    let Some(cure) = told("CURE") else { return };
    let cure: Cure = serde_json::from_str(&cure).unwrap();
    let folder = told("FOLDER").unwrap();
    let mode = told("MODE").unwrap();
    let mut left: usize = told("KILL_AFTER").unwrap().parse().unwrap();
    let mut told = move |_: Step| {
        left -= 1;
        if left == 0 {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    };
    let folder = Path::new(&folder);
    let done = run(&cure, folder, &mode, &mut told);
    if let Err(error) = done {
        eprintln!("refused: {error}");
        panic!("{error}");
    }
}

fn run(
    cure: &Cure,
    folder: &Path,
    mode: &str,
    told: &mut dyn FnMut(Step),
) -> Result<(), whydrop_cure::Error> {
    let Answer::Change(proposal) = &cure.answer else { panic!("a change") };
    let roots = Roots::default();
    if mode == "undo" {
        let changes = Changes::open(&Journal::new(folder.join("journal")), roots)?;
        return changes.undo(1, false, told).map(|_| ());
    }
    let planned: Vec<Planned> = plan(&roots, proposal)?;
    let changes = Changes::open(&Journal::new(folder.join("journal")), roots)?;
    let mut record = changes.apply(cure, &proposal.summary, &planned, told)?;
    match mode {
        "keep" => {
            let trial = Trial::default();
            changes.keep(&mut record, Some((Effect::Cured, trial, trial)), told)?;
            let found = persistent(&folder.join("tree"), &record.writes, &["why".into()])?;
            changes.persist(&mut record, found.files, told)
        }
        "roll-back" => changes.roll_back(&mut record, None, told),
        other => panic!("{other}"),
    }
}
