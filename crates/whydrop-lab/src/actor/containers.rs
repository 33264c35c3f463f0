//! Network namespaces that come and go, as those of containers do.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{Pid, gettid};

use super::ping::ping;
use crate::part::{Containers, Ping, Tally};

/// Device in the container; the one outside has a number.
const INSIDE: &str = "eth0";
/// Echo requests, a second apart, of which the first that is answered is the first that counts.
const FIRST: u16 = 5;
/// Longest wait for the kernel to remove what was a container's.
const REMOVAL: Duration = Duration::from_secs(5);

/// One container after the other. Each is done if all its echo requests were answered.
pub(super) fn come_and_go(plan: &Containers) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for number in 0..plan.count {
        let outside = format!("ct{number}");
        let (tell_thread, thread) = mpsc::channel();
        let (tell_plugged, plugged) = mpsc::channel();
        let answered = thread::scope(|scope| {
            // The namespace ends with this thread, the only one that ever is in it.
            let container = scope.spawn(move || live(plan, &tell_thread, &plugged));
            // If it has ended without a word, it says why when it is joined.
            let handed_over = thread.recv().map_or(Ok(()), |it| hand_over(plan, &outside, it));
            if handed_over.is_ok() {
                let _ = tell_plugged.send(());
            }
            drop(tell_plugged);
            let lived = container.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            handed_over.and(lived)
        })?;
        let whole = answered == u64::from(plan.pings);
        tally.done += u64::from(whole);
        tally.failed += u64::from(!whole);
        wait_until_gone(&outside)?;
    }
    Ok(tally)
}

/// What a container runtime does: one end of a wire for the container, one for the bridge.
fn hand_over(plan: &Containers, outside: &str, container: Pid) -> io::Result<()> {
    let container = container.as_raw_nonzero();
    ip(&format!("link add {outside} type veth peer name {INSIDE} netns {container}"))?;
    ip(&format!("link set {outside} master {} up", plan.bridge))
}

/// The life of a container, on the thread that becomes it: how many of its pings were answered.
fn live(plan: &Containers, tell: &Sender<Pid>, plugged: &Receiver<()>) -> io::Result<u64> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let nobody = |_| io::Error::other("no device was handed over");
    tell.send(gettid()).map_err(io::Error::other)?;
    plugged.recv().map_err(nobody)?;
    ip(&format!("address add {} dev {INSIDE}", plan.address))?;
    ip(&format!("link set {INSIDE} up"))?;
    let peer = SocketAddr::new(plan.peer, 0);
    let pings = |count| ping(peer, &Ping { count, every_millis: 0 }).map(|tally| tally.done);
    // The first ones may be lost: the bridge lets a new port forward in its own time.
    for _ in 0..FIRST {
        if pings(1)? == 1 {
            return Ok(1 + pings(plan.pings.saturating_sub(1))?);
        }
    }
    Ok(0)
}

/// Waits for the kernel, which removes a namespace in its own time.
fn wait_until_gone(device: &str) -> io::Result<()> {
    let deadline = Instant::now() + REMOVAL;
    while getifaddrs()?.any(|interface| interface.interface_name == device) {
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("{device} outlives its container")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs `ip`, in the namespace of the calling thread.
fn ip(arguments: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`ip {arguments}`: {}", said.trim())))
}
