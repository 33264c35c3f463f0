//! The tracer on the running kernel. Needs root, iproute2 and util-linux; traffic stays in
//! namespaces of its own, and nothing is asserted about drops elsewhere.

mod counting;
mod events;
mod life;
mod names;
mod pair;
mod sockets;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use whydrop_model::{DropTotal, TracerEvidence};
use whydrop_probe::{Count, Counts, Key, Options, Tracer};

/// Longest wait for the kernel to do what it was asked to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time, so that their floods do not disturb each other; `None`, with a word about
/// it, without root.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Traces while `traffic` runs and until `done` of what was counted so far; all namespaces count
/// as known.
fn trace(
    options: &Options,
    traffic: impl FnOnce(),
    done: impl Fn(&Counts) -> bool,
) -> TracerEvidence {
    let mut tracer = Tracer::attach(options).expect("attached");
    let mut reader = tracer.reader().expect("the first reader");
    assert!(tracer.reader().is_none(), "one reader only");
    tracer.open_window().expect("opened");
    let ended = AtomicBool::new(false);
    let drops = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut drops = Vec::new();
            // What came between the last round and the end is taken once more.
            let mut last = false;
            while !last {
                last = ended.load(Ordering::Acquire);
                let timeout = if last { Duration::ZERO } else { Duration::from_millis(50) };
                reader.poll(timeout, None, &mut |drop| drops.push(drop)).expect("polled");
            }
            drops
        });
        // Ends the reader however this ends, or a panic would wait for it forever.
        let end = End(&ended);
        traffic();
        wait_until(|| done(&tracer.counts().expect("counts")));
        tracer.close_window().expect("closed");
        drop(end);
        reading.join().expect("the reader")
    });
    let (evidence, not_checked) = tracer.finish(&drops, &|_| true).expect("finished");
    assert_eq!(not_checked, []);
    let sum: u64 = evidence.totals.iter().map(|total| total.packets).sum();
    assert_eq!(sum, evidence.events, "the totals add up");
    assert_eq!(evidence.sampled, evidence.exemplars.len() as u64, "all exemplars arrived");
    evidence
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits for a condition; gives up after [`PATIENCE`] and leaves the verdict to the assertions.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() && begun.elapsed() < PATIENCE {
        thread::yield_now();
    }
}

/// Packets counted so far under keys that fit.
fn packets(counts: &Counts, fits: impl Fn(&Key) -> bool) -> u64 {
    let fitting = counts.totals.iter().filter(|(key, _)| fits(key));
    fitting.map(|(_, &Count { packets, .. })| packets).sum()
}

/// Totals of one reason in one namespace.
fn totals<'a>(evidence: &'a TracerEvidence, reason: &str, netns: u64) -> Vec<&'a DropTotal> {
    let totals = evidence.totals.iter();
    totals.filter(|total| total.reason == reason && total.netns == Some(netns)).collect()
}

/// Runs the named test once more, in a process with mounts of its own that `prepare` changes.
/// False in that process, where the test itself is to be run; true once it has passed there.
fn passed_elsewhere(test: &str, prepare: &str) -> bool {
    passed_under(test, &["unshare", "--mount", "--propagation", "private"], prepare)
}

/// The same behind a command that changes what the process is or may do.
fn passed_under(test: &str, command: &[&str], prepare: &str) -> bool {
    const INSIDE: &str = "WDPROBE_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let own = std::env::current_exe().expect("this test");
    let script = format!("{prepare} && exec \"$0\" --exact {test} --nocapture");
    let output = Command::new(command[0])
        .args(&command[1..])
        .args(["sh", "-c", &script])
        .arg(own)
        .env(INSIDE, "1")
        .output()
        .expect("util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let also = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("1 passed"),
        "{test} there (signal {:?}): {said}{also}",
        output.status.signal()
    );
    true
}

/// Mounts tracefs where it belongs.
const MOUNT_TRACEFS: &str = "{ mountpoint -q /sys/kernel/tracing \
     || mount -t tracefs tracefs /sys/kernel/tracing; }";
