//! Coming and going: what remains in the kernel, and what is said when it refuses.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aya::programs::loaded_programs;
use whydrop_model::Attach;
use whydrop_probe::{Baseline, Error, KernelFacts, Options, Tracer, VMLINUX_BTF};

use crate::{MOUNT_TRACEFS, passed_elsewhere, passed_under, turn, wait_until};

/// Programs that a process holds, by id.
pub(crate) fn held_by(pid: u32) -> BTreeSet<u32> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process");
    folder
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
        })
        .collect()
}

fn exist(ids: &BTreeSet<u32>) -> bool {
    loaded_programs().flatten().any(|program| ids.contains(&program.id()))
}

/// The kernel lets go of a program some time after its last holder did.
pub(crate) fn assert_gone(ids: &BTreeSet<u32>) {
    wait_until(|| !exist(ids));
    assert!(!exist(ids), "programs {ids:?} remain");
}

fn comes_and_goes(only: Attach) {
    let options = Options { only: Some(only), ..Options::default() };
    let tracer = Tracer::attach(&options).expect("attached");
    assert_eq!((tracer.kind(), tracer.refused()), (only, &[][..]));
    let held = held_by(std::process::id());
    assert!(!held.is_empty());
    for program in loaded_programs().flatten().filter(|program| held.contains(&program.id())) {
        let name = program.name_as_str().unwrap_or_default().to_owned();
        assert!(program.btf_id().is_some(), "the kernel took no BTF for {name}");
    }
    drop(tracer);
    assert_eq!(held_by(std::process::id()), BTreeSet::new());
    assert_gone(&held);
}

#[test]
fn nothing_remains_of_any_kind() {
    let Some(_turn) = turn() else { return };
    if passed_elsewhere("life::nothing_remains_of_any_kind", MOUNT_TRACEFS) {
        return;
    }
    for kind in [Attach::TpBtf, Attach::RawTp, Attach::Tp] {
        comes_and_goes(kind);
    }
    let baseline = Baseline::attach(VMLINUX_BTF.as_ref()).expect("attached");
    baseline.run_stats().expect("stats");
    let held = held_by(std::process::id());
    drop(baseline);
    assert_gone(&held);
}

#[test]
fn nothing_remains_after_sigkill() {
    const CHILD: &str = "WDPROBE_CHILD";
    let Some(_turn) = turn() else { return };
    if std::env::var_os(CHILD).is_some() {
        let mut tracer = Tracer::attach(&Options::default()).expect("attached");
        tracer.open_window().expect("opened");
        println!("attached");
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "life::nothing_remains_after_sigkill", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("attached")));
    let held = held_by(child.id());
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!held.is_empty());
    assert_gone(&held);
}

/// A file that is gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("wdprobe-{name}-{}", std::process::id()));
        fs::write(&path, bytes).expect("written");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn error_with(btf: &Path) -> Error {
    match Tracer::attach(&Options { btf: btf.to_owned(), ..Options::default() }) {
        Ok(_) => panic!("attached with {}", btf.display()),
        Err(error) => error,
    }
}

#[test]
fn bad_type_information_is_refused_in_words() {
    let Some(_turn) = turn() else { return };
    let missing = error_with("/nonexistent/btf".as_ref());
    assert!(matches!(missing, Error::NoBtf { .. }), "{missing}");
    let good = fs::read(VMLINUX_BTF).expect("BTF");
    let cut = Scratch::new("cut", &good[..good.len() / 2]);
    let noise = Scratch::new("noise", b"not type information at all");
    for file in [&cut, &noise] {
        let error = error_with(&file.0);
        assert!(matches!(error, Error::BadBtf { .. }), "{error}");
        assert!(error.to_string().contains(&*file.0.to_string_lossy()));
    }
    // Well-formed, but of something that is not this kernel: no types, one enum.
    let mut foreign = vec![0x9f, 0xeb, 1, 0];
    for word in [24_u32, 0, 12, 12, 5, 0x0001, 6 << 24, 4] {
        foreign.extend(word.to_le_bytes());
    }
    foreign.extend(b"\0abc\0");
    let foreign = Scratch::new("foreign", &foreign);
    let error = error_with(&foreign.0);
    assert!(!error.to_string().contains('\n'), "{error}");
    let facts = KernelFacts::read(&Options { btf: foreign.0.clone(), ..Options::default() });
    assert!(facts.attach.iter().all(|(_, tried)| tried.is_err()), "{facts:?}");
    assert!(!facts.missing().is_empty());
}

#[test]
fn without_tracefs_the_classic_tracepoint_says_so() {
    const HIDE: &str = "mount -t tmpfs none /sys/kernel/tracing \
                        && mount -t tmpfs none /sys/kernel/debug";
    let Some(_turn) = turn() else { return };
    if passed_elsewhere("life::without_tracefs_the_classic_tracepoint_says_so", HIDE) {
        return;
    }
    let options = Options { only: Some(Attach::Tp), ..Options::default() };
    let Err(error) = Tracer::attach(&options) else { panic!("attached") };
    assert!(error.to_string().contains("tracefs is not mounted"), "{error}");
}

/// A user without privileges but these capabilities.
fn nobody<'a>(capabilities: &'a [&'a str]) -> Vec<&'a str> {
    let mut command = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    command.extend(capabilities);
    command
}

fn without_root(test: &str, capabilities: &[&str]) -> bool {
    let inside = std::env::var_os("WDPROBE_INSIDE").is_some();
    // The turn is taken outside, where this is still root.
    let turn = if inside { None } else { turn() };
    if !inside && turn.is_none() {
        return true;
    }
    passed_under(test, &nobody(capabilities), "true")
}

fn assert_not_permitted() {
    let Err(error) = Tracer::attach(&Options::default()) else { panic!("attached") };
    assert!(matches!(error, Error::NotPermitted { .. }), "{error}");
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
}

#[test]
fn without_privilege_it_says_what_is_needed() {
    if !without_root("life::without_privilege_it_says_what_is_needed", &[]) {
        assert_not_permitted();
    }
}

#[test]
fn half_the_privilege_is_told_from_a_kernel_that_cannot() {
    let half = ["--inh-caps=+bpf", "--ambient-caps=+bpf"];
    if !without_root("life::half_the_privilege_is_told_from_a_kernel_that_cannot", &half) {
        assert_not_permitted();
    }
}

#[test]
fn two_capabilities_suffice_to_trace_and_symbols_need_a_third() {
    let both = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"];
    if without_root("life::two_capabilities_suffice_to_trace_and_symbols_need_a_third", &both) {
        return;
    }
    let mut tracer = Tracer::attach(&Options::default()).expect("attached");
    tracer.open_window().expect("opened");
    let (evidence, not_checked) = tracer.finish(&[], &|_| true).expect("finished");
    assert_eq!(evidence.attach, Attach::TpBtf);
    let why: Vec<_> = not_checked.iter().map(|not| not.why.as_str()).collect();
    assert!(why.len() == 1 && why[0].contains("CAP_SYSLOG"), "{why:?}");
}

/// A control group whose memory is limited; gone with its guard.
struct Limited(PathBuf);

impl Limited {
    /// `None`, and said, where no such group can be made.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn to(bytes: u64) -> Option<Self> {
        let name = format!("whydrop-probe-{}", std::process::id());
        let (first, second) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
        for (root, file) in [(first, "memory.limit_in_bytes"), (second, "memory.max")] {
            let group = Self(Path::new(root).join(&name));
            if fs::create_dir(&group.0).is_ok()
                && fs::write(group.0.join(file), bytes.to_string()).is_ok()
            {
                return Some(group);
            }
        }
        eprintln!("skipped: needs a control group with a memory limit");
        None
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn maps_beyond_the_memory_limit_are_refused_in_words() {
    if std::env::var_os("WDPROBE_INSIDE").is_none() {
        let Some(_turn) = turn() else { return };
        let Some(group) = Limited::to(96 << 20) else { return };
        let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
        passed_under("life::maps_beyond_the_memory_limit_are_refused_in_words", &["env"], &enter);
        return;
    }
    let options = Options { ring_bytes: 512 << 20, ..Options::default() };
    let Err(error) = Tracer::attach(&options) else { panic!("attached") };
    assert!(matches!(error, Error::NoMemory { .. }), "{error}");
    assert!(error.to_string().contains("raise the memory limit"), "{error}");
    // What fits is still given.
    assert!(Tracer::attach(&Options::default()).is_ok());
}
