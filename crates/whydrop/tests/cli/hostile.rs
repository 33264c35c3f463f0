//! Names and packets made to hurt: nothing reaches the terminal unescaped, nothing is miscounted, nothing
//! falls over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{self, Netns, needs_root, scratch, signal, started, whydrop};
use crate::top::Terminal;

/// Sets the title of a terminal, and rings its bell.
const TITLE: &str = "\u{1b}]0;PWNED\u{7}";
/// Colours what follows, begins a new line, turns the direction round.
const COLOUR: &str = "\u{1b}[31m\n\u{202e}";

/// What of a text a terminal would act upon.
fn acted_upon(text: &str) -> Vec<char> {
    let harmful = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    text.chars().filter(harmful).collect()
}

/// A namespace, a device, a firewall rule, a program, its process and its control group with hostile
/// names, all of which lose packets.
struct Scene {
    netns: Netns,
    _folder: tempfile::TempDir,
    program: Child,
    cgroup: Option<PathBuf>,
}

impl Scene {
    fn set() -> Self {
        let (netns, folder) = (Netns::new(&format!("{TITLE}x")), scratch());
        let ends = ["v\u{1b}[31m0", "v\u{1b}[31m1"];
        netns.run(&["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]]);
        for (end, address) in ends.iter().zip(["10.97.0.1/24", "10.97.0.2/24"]) {
            netns.run(&["ip", "address", "add", address, "dev", end]);
            netns.run(&["ip", "link", "set", end, "up"]);
        }
        netns.run(&[
            "ip",
            "neighbour",
            "add",
            "10.97.0.9",
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            ends[0],
        ]);
        let rule = format!(
            "add table ip t; add chain ip t c {{ type filter hook input priority 0; }}; \
             add rule ip t c udp dport 7002 counter drop comment \"{TITLE}\u{1b}[31m\""
        );
        netns.run(&["nft", &rule]);
        // The program: its file, its process and where it runs.
        let script = folder.path().join(format!("{COLOUR}serve"));
        fs::write(
            &script,
            "
import ctypes, socket, sys, time
ctypes.CDLL(None).prctl(15, b'ev\\x1b[31mil\\n\\x07', 0, 0, 0)
reader = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
reader.bind(('127.0.0.1', 7001))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print('ready', flush=True)
while True:
    for to in [('127.0.0.1', 7001), ('127.0.0.1', 7002), ('127.0.0.1', 7003), ('10.97.0.9', 9)]:
        for i in range(20): s.sendto(bytes(2000 if to[1] == 7001 else 20), to)
    time.sleep(0.02)
",
        )
        .expect("written");
        let mut program = Command::new("ip")
            .args(["netns", "exec", netns.name(), "python3"])
            .arg(&script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let out = program.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("read");
        assert_eq!(line, "ready\n");
        let cgroup = cgroup(program.id());
        Self { netns, _folder: folder, program, cgroup }
    }
}

/// Moves the process into a control group of its own with a hostile name, where groups can be made.
fn cgroup(pid: u32) -> Option<PathBuf> {
    let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
    let group = roots
        .iter()
        .map(|root| Path::new(root).join(format!("whydrop-{}-\u{1b}[31m", std::process::id())));
    let made = group.filter(|group| fs::create_dir(group).is_ok());
    made.into_iter().find(|group| {
        let entered = fs::write(group.join("cgroup.procs"), pid.to_string()).is_ok();
        entered || fs::remove_dir(group).is_err()
    })
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

#[test]
fn names_that_a_terminal_would_act_upon() {
    if needs_root() {
        return;
    }
    let scene = Scene::set();
    let name = scene.netns.name();
    let folder = scratch();
    let capture = folder.path().join("drops").display().to_string();
    let saved = folder.path().join("evidence").display().to_string();
    let here = ["--netns", name, "--duration", "1.5"];
    let commands: [(&[&str], &[&str]); 7] = [
        // What is run, and what of the names must be told.
        (&["diagnose", "--save", &saved], &["ev\\u{1b}[31mil", "\\u{1b}]0;PWNED"]),
        (&["watch", "--benign"], &["v\\u{1b}[31m1", "ev\\u{1b}[31mil"]),
        (&["watch", "--count"], &["\\u{1b}]0;PWNED"]),
        (&["watch", "--benign", "--stack"], &[]),
        (&["watch", "-w", &capture], &[]),
        (&["sockets"], &["ev\\u{1b}[31mil"]),
        (&["fix"], &[]),
    ];
    for (command, told) in commands {
        let run = whydrop(&[command, &here].concat());
        assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
        for text in [&run.stdout, &run.stderr] {
            assert_eq!(acted_upon(text), [], "{command:?}: {text}");
        }
        for name in told {
            assert!(run.stdout.contains(name), "{command:?} does not tell {name}:\n{}", run.stdout);
        }
    }
    for command in [&["watch", "-r", &capture][..], &["diagnose", &saved], &["fix", &saved]] {
        let run = whydrop(command);
        assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
        assert_eq!(acted_upon(&(run.stdout + &run.stderr)), [], "{command:?}");
    }
    let documents: [&[&str]; 4] = [
        &["diagnose", "--format", "json"],
        &["watch", "--benign", "--format", "ndjson"],
        &["watch", "--count", "--format", "ndjson"],
        &["sockets", "--format", "json"],
    ];
    for command in documents {
        let run = whydrop(&[command, &here].concat());
        assert_eq!(acted_upon(&run.stdout).iter().filter(|c| c.is_control()).count(), 0);
        let values = serde_json::Deserializer::from_str(&run.stdout).into_iter::<Value>();
        let values: Vec<Value> = values.collect::<Result<_, _>>().expect("valid JSON");
        assert!(!values.is_empty(), "{run:?}");
        let whole = Value::from(values).to_string();
        assert!(whole.contains("\\u001b"), "{command:?}: a name as it is, in JSON's own escapes");
    }
}

/// A wrong request is told back without what it carries.
#[test]
fn errors_that_a_terminal_would_act_upon() {
    if needs_root() {
        return;
    }
    for arguments in [
        &["--netns", COLOUR, "--duration", "0.1"][..],
        &["diagnose", TITLE],
        &["watch", "-r", TITLE],
        &["watch", "--reason", TITLE],
        &["explain", TITLE],
        &["--config", TITLE],
        &[TITLE],
        &["watch", TITLE],
    ] {
        let run = whydrop(arguments);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert_eq!(acted_upon(&run.stderr), [], "{run:?}");
    }
}

/// `top` draws them, and the terminal keeps its title.
#[test]
fn names_on_the_screen() {
    if needs_root() {
        return;
    }
    let scene = Scene::set();
    let folder = scratch();
    let file = folder.path().join("name");
    fs::write(&file, scene.netns.name()).expect("written");
    let command =
        format!("{} top --interval 0.5 --netns \"$(cat {})\"", program::path(), file.display());
    let Some(terminal) = Terminal::open("hostile", (160, 50), &command) else { return };
    terminal.until("a finding", |screen| screen.contains("FAULT"));
    terminal.press("Enter");
    terminal.until("the finding", |screen| screen.contains("ev\\u{1b}"));
    let title = terminal.tmux(&["display-message", "-p", "#{pane_title}"]).expect("tmux");
    assert!(!title.contains("PWNED"), "{title}");
    terminal.press("q");
    terminal.until("exit status", |screen| screen.contains("status 0"));
}

/// Frames of all layers, broken in all ways, from a fixed seed. Two tracers that were attached in
/// different ways count the same, and every surface survives.
#[test]
fn packets_that_are_broken_at_every_layer() {
    const FRAMES: u32 = 4000;
    if needs_root() {
        return;
    }
    let (netns, folder) = (Netns::new("fuzz"), scratch());
    netns.run(&["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
    for (end, four, six) in
        [("v0", "10.96.0.1/24", "fd96::1/64"), ("v1", "10.96.0.2/24", "fd96::2/64")]
    {
        netns.run(&["ip", "link", "set", end, "arp", "off", "up"]);
        netns.run(&["ip", "address", "add", four, "dev", end]);
        netns.run(&["ip", "address", "add", six, "dev", end, "nodad"]);
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (first, second, capture) = (file("first"), file("second"), file("capture"));
    let here = ["--netns", netns.name(), "--duration", "600"];
    let commands: [&[&str]; 4] = [
        &["record", "-o", &first],
        &["record", "-o", &second, "--attach", "raw_tp"],
        &["watch", "--quick", "--all", "--stack"],
        &["watch", "--all", "--snaplen", "2000", "-w", &capture],
    ];
    let running: Vec<_> = commands
        .iter()
        .enumerate()
        .map(|(at, command)| {
            started(&[command, &here[..]].concat(), &folder.path().join(format!("ready{at}")))
        })
        .collect();
    netns.run(&["python3", "-c", &format!("FRAMES = {FRAMES}\n{}", include_str!("broken.py"))]);
    for child in &running {
        signal(child, Signal::INT);
    }
    for child in running {
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(acted_upon(&text), [], "{text}");
    }
    let totals = |path: &str| {
        let file = fs::File::open(path).expect("evidence");
        let evidence: Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("one JSON document");
        assert_eq!(evidence["tracer"]["lost"], 0);
        let all = evidence["tracer"]["totals"].as_array().expect("a list");
        // The devices' own announcements to groups come whenever they like, also between two ends.
        let frames = all.iter().filter(|one| one["marks"]["multicast"] != true);
        let mut totals: Vec<(String, u64)> = frames
            .map(|one| {
                let place = format!("{} {} {}", one["reason"], one["site"]["symbol"], one["l4"]);
                (place, one["packets"].as_u64().expect("a number"))
            })
            .collect();
        totals.sort();
        totals
    };
    let seen = totals(&first);
    assert_eq!(seen, totals(&second));
    let sum: u64 = seen.iter().map(|(_, packets)| packets).sum();
    // Nearly all are refused, in many ways.
    assert!(sum > u64::from(FRAMES / 2) && seen.len() > 10, "{sum} in {seen:?}");
    for command in [
        &["diagnose", &first][..],
        &["diagnose", "--format", "json", &first],
        &["watch", "-r", &capture],
    ] {
        let run = whydrop(command);
        assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
        assert_eq!(acted_upon(&run.stdout), [], "{command:?}");
    }
}
