//! `whydrop fix` on real loss: the seed case in full, sizes, wrong changes, no load, and evidence that
//! is not of this host as it is now.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::program::{self, Netns, Run, run, scratch, signal, started, whydrop};

const SERVER: &str = "127.0.0.1:9000";
/// Longest that a client tries: refused SYNs are repeated after one second.
const PATIENCE: Duration = Duration::from_secs(5);

/// A namespace with a server in it that stalls, and a folder for what whydrop leaves.
struct Scene {
    netns: Netns,
    folder: tempfile::TempDir,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Scene {
    /// `None`, and said, without root.
    fn set(role: &str, serve: impl FnOnce(&AtomicBool) + Send + 'static) -> Option<Self> {
        if program::needs_root() {
            return None;
        }
        let netns = Netns::new(role);
        let over = Arc::new(AtomicBool::new(false));
        let (name, ends) = (netns.name().to_owned(), Arc::clone(&over));
        let server = thread::spawn(move || {
            enter(&name);
            serve(&ends);
        });
        let scene = Self { netns, folder: scratch(), over, server: Some(server) };
        fs::write(scene.path("config"), "[thresholds]\nstarved = 1000.0\npinned_seconds = 5.0\n")
            .expect("written");
        let listens = || scene.printed(&["ss", "-Hlntu"]).contains(":9000 ");
        while !listens() {
            assert!(!scene.server.as_ref().is_some_and(JoinHandle::is_finished), "no server");
            thread::yield_now();
        }
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a command prints inside the namespace.
    fn printed(&self, command: &[&str]) -> String {
        let mut inside = Command::new("ip");
        run(inside.args(["netns", "exec", self.netns.name()]).args(command)).stdout
    }

    /// The backlog of the listener on this port.
    fn backlog(&self, port: u16) -> String {
        let row = self.printed(&["ss", "-Hltn", &format!("sport = :{port}")]);
        row.split_whitespace().nth(2).expect("it listens").to_owned()
    }

    fn somaxconn(&self) -> String {
        self.printed(&["cat", "/proc/sys/net/core/somaxconn"]).trim().to_owned()
    }

    /// Runs work on a thread inside the namespace, while a command of whydrop watches.
    fn watched(&self, arguments: &[&str], work: impl FnOnce() + Send + 'static) -> Run {
        self.ended_by(Signal::INT, arguments, work)
    }

    /// The same, and then this signal ends it.
    fn ended_by(
        &self,
        end: Signal,
        arguments: &[&str],
        work: impl FnOnce() + Send + 'static,
    ) -> Run {
        let ready = self.path("ready");
        let child = started(arguments, &ready);
        let name = self.netns.name().to_owned();
        thread::spawn(move || {
            enter(&name);
            work();
        })
        .join()
        .expect("traffic");
        signal(&child, end);
        let output = child.wait_with_output().expect("an end");
        fs::remove_file(ready).expect("it was there");
        Run {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Records what is lost.
    fn record(&self, file: &str, work: impl FnOnce() + Send + 'static) -> PathBuf {
        let path = self.path(file);
        let text = path.to_str().expect("UTF-8");
        let name = self.netns.name();
        let run = self.watched(&["record", "-o", text, "--netns", name, "--duration", "60"], work);
        assert_eq!(run.status, Some(0), "{run:?}");
        path
    }

    /// Lets whydrop make a change while the same comes again; gives its answer and exit status.
    fn fix(
        &self,
        evidence: &Path,
        options: &[&str],
        work: impl FnOnce() + Send + 'static,
    ) -> (Value, Option<i32>) {
        let (journal, config) = (self.path("journal"), self.path("config"));
        let mut arguments = vec!["fix", evidence.to_str().expect("UTF-8"), "--apply", "--live"];
        // A busy machine makes readers wait, which would be another cause.
        arguments.extend(["--config", config.to_str().expect("UTF-8")]);
        arguments.extend(["--verify", "60", "--format", "json"]);
        arguments.extend(["--journal", journal.to_str().expect("UTF-8")]);
        arguments.extend(options);
        let run = self.watched(&arguments, work);
        (serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}")), run.status)
    }

    fn undo(&self) {
        let journal = self.path("journal");
        let run = whydrop(&["undo", "--all", "--journal", journal.to_str().expect("UTF-8")]);
        assert_eq!(run.status, Some(0), "{run:?}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

fn enter(netns: &str) {
    let file = File::open(format!("/run/netns/{netns}")).expect("a namespace");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
}

/// A server with this backlog that accepts all there is every so often.
fn stalling(backlog: i32, stall: Duration) -> impl FnOnce(&AtomicBool) + Send + 'static {
    move |over| {
        let listener = TcpListener::bind(SERVER).expect("bound");
        rustix::net::listen(&listener, backlog).expect("listening");
        listener.set_nonblocking(true).expect("set");
        while !over.load(Ordering::Relaxed) {
            // The pace of the workload.
            thread::sleep(stall);
            while listener.accept().is_ok() {}
        }
    }
}

/// So many clients at once, who try again until they are in. They leave by a reset: one that the
/// server refused in the last step believes to be in, and would repeat its goodbye until it is, beside
/// the clients of the next time.
fn clients(count: usize) {
    let address: SocketAddr = SERVER.parse().expect("an address");
    let clients: Vec<_> = (0..count)
        .map(|_| thread::spawn(move || TcpStream::connect_timeout(&address, PATIENCE)))
        .collect();
    for client in clients {
        let stream = client.join().expect("a client").expect("a client gave up");
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
    }
}

fn changed(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut text = String::new();
    GzDecoder::new(File::open(path).expect("opened")).read_to_string(&mut text).expect("read");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut document);
    let mut gzip = GzEncoder::new(File::create(path).expect("made"), Compression::fast());
    gzip.write_all(document.to_string().as_bytes()).expect("written");
    gzip.finish().expect("finished");
}

const STALL: Duration = Duration::from_millis(300);

#[test]
fn the_seed_case() {
    let Some(scene) = Scene::set("seed", |over| {
        fs::write("/proc/sys/net/core/somaxconn", "8").expect("set");
        stalling(511, STALL)(over);
    }) else {
        return;
    };
    let elsewhere = fs::read("/proc/sys/net/core/somaxconn").expect("read");
    let evidence = scene.record("evidence", || clients(40));
    let root = scene.path("root");
    fs::create_dir_all(root.join("etc/sysctl.d")).expect("made");
    fs::write(root.join("etc/sysctl.d/10-site.conf"), "net.core.somaxconn=128\n").expect("made");
    // The namespace is the one whose sysctl.d is meant only where whydrop itself is at home.
    let (answer, status) = scene.fix(&evidence, &[], || clients(40));
    let cure = &answer["cures"][0];
    assert_eq!(
        (&cure["cause"], &cure["variant"]),
        (&json!("accept-queue-full"), &json!("somaxconn-cap"))
    );
    assert_eq!((&answer["effect"], status), (&json!("cured"), Some(0)), "{answer}");
    assert_eq!(answer["after"]["lost"], 0);
    let writes = answer["change"]["writes"].as_array().expect("a list");
    let new = writes[0]["new"].as_str().expect("a number");
    assert_eq!(writes[0]["target"]["name"], "net.core.somaxconn");
    assert_eq!(writes[1]["target"]["kind"], "backlog");
    assert_eq!(writes[1]["became"], new, "the listener has it, not only the cap");
    assert_eq!(scene.somaxconn(), new);
    assert_eq!(scene.backlog(9000), new);
    assert_eq!(fs::read("/proc/sys/net/core/somaxconn").expect("read"), elsewhere);
    let left_out = cure["answer"]["change"]["left_out"].to_string();
    for folklore in ["tcp_max_syn_backlog: with SYN cookies on", "tcp_tw_reuse: it lets"] {
        assert!(left_out.contains(folklore), "{left_out}");
    }
    scene.undo();
    assert_eq!(scene.somaxconn(), "8");

    let inside = ["ip", "netns", "exec", scene.netns.name()];
    let (journal, root_text) = (scene.path("journal"), root.to_str().expect("UTF-8"));
    let config = scene.path("config");
    let config = ["--config", config.to_str().expect("UTF-8")];
    let arguments = ["fix", evidence.to_str().expect("UTF-8"), "--apply", "--live", "--persist"];
    let places = ["--journal", journal.to_str().expect("UTF-8"), "--root", root_text];
    let mut command = Command::new(inside[0]);
    command.args(&inside[1..]).arg(program::path()).args(arguments).args(places).args(config);
    command.args(["--verify", "6", "--format", "json"]);
    let ready = scene.path("ready");
    let child = command.arg("--ready-file").arg(&ready);
    let child = child.stdout(std::process::Stdio::piped()).spawn().expect("started");
    while !ready.exists() {
        thread::yield_now();
    }
    let name = scene.netns.name().to_owned();
    let traffic = thread::spawn(move || {
        enter(&name);
        clients(40);
    });
    traffic.join().expect("traffic");
    let output = child.wait_with_output().expect("an end");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["effect"], "cured", "{answer}");
    let kept = root.join("etc/sysctl.d/90-whydrop-net.core.somaxconn.conf");
    let text = fs::read_to_string(&kept).expect("kept");
    assert!(text.contains(&format!("\nnet.core.somaxconn = {new}\n")), "{text}");
    assert!(text.contains("# accept-queue-full: Give "), "{text}");
    let notes = answer["notes"].to_string();
    assert!(notes.contains("10-site.conf:1") && notes.contains("is overridden"), "{notes}");
    // Once more: nothing to do.
    let again = run(Command::new(program::path()).args(arguments).args(places).args(config));
    assert_eq!(again.status, Some(0), "{again:?}");
    assert!(again.stdout.contains("already so"), "{again:?}");
    scene.undo();
    assert!(!kept.exists() && scene.somaxconn() == "8");
}

#[test]
fn a_wrong_change_is_recognised_and_taken_back() {
    let Some(scene) = Scene::set("wrong", |over| {
        // Nobody talks to this one.
        let other = TcpListener::bind("127.0.0.1:9001").expect("bound");
        rustix::net::listen(&other, 8).expect("listening");
        stalling(8, STALL)(over);
    }) else {
        return;
    };
    let evidence = scene.record("evidence", || clients(40));
    changed(&evidence, |document| {
        let listeners = document["namespaces"][0]["listeners"].as_array_mut().expect("a list");
        let other = listeners.iter().find(|it| it["port"] == 9001).expect("there")["inode"].clone();
        let real = listeners.iter_mut().find(|it| it["port"] == 9000).expect("there");
        real["inode"] = other;
    });
    let before = scene.backlog(9001);
    let (answer, status) = scene.fix(&evidence, &[], || clients(40));
    assert_eq!((&answer["effect"], status), (&json!("no_effect"), Some(3)), "{answer}");
    assert_eq!(answer["change"]["state"], "undone");
    assert_eq!(scene.backlog(9001), before);
    let (answer, status) = scene.fix(&evidence, &["--keep"], || clients(40));
    assert_eq!((&answer["change"]["state"], status), (&json!("kept"), Some(1)), "{answer}");
    scene.undo();
    assert_eq!(scene.backlog(9001), before);
}

#[test]
fn without_load_a_change_is_unproven() {
    let Some(scene) = Scene::set("idle", stalling(8, STALL)) else { return };
    let evidence = scene.record("evidence", || clients(40));
    let (answer, status) = scene.fix(&evidence, &["--persist"], || {});
    assert_eq!((&answer["effect"], status), (&json!("no_load"), Some(1)), "{answer}");
    assert_eq!(answer["change"]["state"], "kept");
    assert!(answer["notes"].to_string().contains("Not made permanent"), "{answer}");
    scene.undo();
}

#[test]
fn an_unknown_cause_is_refused() {
    let run = whydrop(&["fix", "--cause", "acept-queue-full"]);
    assert_eq!(run.status, Some(2), "{run:?}");
    assert!(run.stderr.contains("did you mean accept-queue-full?"), "{run:?}");
}

#[test]
fn a_change_that_nobody_judged_is_named() {
    let Some(scene) = Scene::set("killed", stalling(8, STALL)) else { return };
    let evidence = scene.record("evidence", || clients(40));
    let (journal, config) = (scene.path("journal"), scene.path("config"));
    let mut arguments = vec!["fix", evidence.to_str().expect("UTF-8"), "--apply", "--live"];
    arguments.extend(["--config", config.to_str().expect("UTF-8"), "--verify", "60"]);
    arguments.extend(["--journal", journal.to_str().expect("UTF-8")]);
    let killed = scene.ended_by(Signal::KILL, &arguments, || {});
    assert_eq!(killed.status, None, "{killed:?}");
    let again = whydrop(&arguments);
    assert_eq!(again.status, Some(0), "{again:?}");
    assert!(again.stderr.contains("change 1 is in force and was never judged"), "{again:?}");
    scene.undo();
    assert_eq!(scene.backlog(9000), "8");

    // Whoever loses the terminal gets a verdict all the same.
    let hung_up = scene.ended_by(Signal::HUP, &arguments, || clients(40));
    assert_eq!(hung_up.status, Some(0), "{hung_up:?}");
    assert!(hung_up.stdout.contains("whydrop: cured"), "{hung_up:?}");
    scene.undo();
}

#[test]
fn evidence_of_another_time_or_place_is_refused() {
    let Some(scene) = Scene::set("stale", stalling(8, STALL)) else { return };
    let evidence = scene.record("evidence", || clients(40));
    let refused = |what: &str, options: &[&str], change: &dyn Fn(&mut Value)| {
        let copy = scene.path(what);
        fs::copy(&evidence, &copy).expect("copied");
        changed(&copy, change);
        let (journal, config) = (scene.path("journal"), scene.path("config"));
        let mut arguments = vec!["fix", copy.to_str().expect("UTF-8"), "--apply"];
        arguments.extend(["--journal", journal.to_str().expect("UTF-8")]);
        arguments.extend(["--config", config.to_str().expect("UTF-8")]);
        arguments.extend(options);
        let run = whydrop(&arguments);
        assert_eq!(run.status, Some(2), "{what}: {run:?}");
        assert_eq!(scene.backlog(9000), "8", "{what}");
        run.stderr
    };
    let boot = |document: &mut Value| document["host"]["boot_id"] = json!("another");
    assert!(refused("boot", &["--live"], &boot).contains("another boot"));
    let told = refused("host", &["--live"], &|document| {
        boot(document);
        document["host"]["hostname"] = json!("elsewhere");
    });
    assert!(told.contains("another host, elsewhere"), "{told}");
    let told = refused("nameless", &["--live"], &|it| it["host"]["boot_id"] = Value::Null);
    assert!(told.contains("no boot id"), "{told}");
    let told = refused("old", &["--live"], &|document| {
        document["window"]["start"] = json!("2020-01-01T00:00:00Z");
    });
    assert!(told.contains("minutes old"), "{told}");
    let told = refused("gone", &["--live"], &|document| {
        document["namespaces"][0]["inode"] = json!(1);
    });
    assert!(told.contains("net:[1] is gone"), "{told}");
    let told = refused("not-live", &[], &|_| {});
    assert!(told.contains("needs --live"), "{told}");
    assert!(!scene.path("journal").exists(), "nothing was even journaled");
}

#[test]
fn accept_queues_are_sized_by_what_came() {
    for (burst, stall) in [(12, 200), (40, 450), (120, 300)] {
        let stall = Duration::from_millis(stall);
        let Some(scene) = Scene::set("sizes", stalling(4, stall)) else { return };
        let evidence = scene.record("evidence", move || clients(burst));
        let (answer, _) = scene.fix(&evidence, &[], move || clients(burst));
        assert_eq!(answer["effect"], "cured", "{burst} in {stall:?}: {answer}");
        let new: usize = answer["change"]["writes"][0]["new"]
            .as_str()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        // One more than the backlog fits in.
        let needed = burst - 1;
        assert!((needed..=3 * needed).contains(&new), "{burst} in {stall:?}: {new}");
        scene.undo();
    }
}

/// A reader with a small buffer that takes all there is while the gate is open.
fn reading(gate: Arc<AtomicBool>) -> impl FnOnce(&AtomicBool) + Send + 'static {
    move |over| {
        let socket = UdpSocket::bind(SERVER).expect("bound");
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("set");
        socket.set_nonblocking(true).expect("set");
        let mut room = [0; 2048];
        while !over.load(Ordering::Relaxed) {
            let mut read = || gate.load(Ordering::Relaxed).then(|| socket.recv(&mut room));
            match read() {
                Some(Ok(_)) => {}
                Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                None => thread::yield_now(),
            }
        }
    }
}

/// What is charged to the reader's buffer.
fn charged() -> u64 {
    let output = Command::new("ss").args(["-Hlumn", "sport = :9000"]).output().expect("ss");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, memory) = text.split_once("skmem:(r").expect("its memory");
    memory.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// A burst in front of a closed gate, which is then opened; tells what was charged for it.
fn datagrams(count: usize, length: usize, gate: &AtomicBool, most: &AtomicU64) {
    gate.store(false, Ordering::Relaxed);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let room = vec![0; length];
    for _ in 0..count {
        socket.send_to(&room, SERVER).expect("sent");
    }
    // Longer than from one look at the queue to the next.
    thread::sleep(Duration::from_millis(250));
    most.store(charged(), Ordering::Relaxed);
    gate.store(true, Ordering::Relaxed);
    while charged() > 0 {
        thread::yield_now();
    }
    // The same at the other end of the burst.
    thread::sleep(Duration::from_millis(250));
}

#[test]
fn receive_buffers_are_sized_by_what_came() {
    for (burst, length) in [(60, 100), (150, 1000), (400, 300)] {
        let gate = Arc::new(AtomicBool::new(true));
        let Some(scene) = Scene::set("buffers", reading(Arc::clone(&gate))) else { return };
        let most = Arc::new(AtomicU64::new(0));
        let again = || {
            let (gate, most) = (Arc::clone(&gate), Arc::clone(&most));
            move || datagrams(burst, length, &gate, &most)
        };
        let evidence = scene.record("evidence", again());
        let (answer, _) = scene.fix(&evidence, &[], again());
        assert_eq!(answer["effect"], "cured", "{burst} of {length}: {answer}");
        let new: u64 = answer["change"]["writes"][0]["new"]
            .as_str()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        // What all of them together were charged when none was lost.
        let needed = most.load(Ordering::Relaxed);
        assert!(
            (needed..=3 * needed).contains(&new),
            "{burst} of {length}: {new}, needed {needed}"
        );
        scene.undo();
    }
}
