//! The flood: UDP datagrams over a veth pair to a neighbour entry whose MAC is nobody's, so that the
//! receiving end drops each frame as `OTHERHOST` in `ip_rcv_core` and nothing answers.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Two namespaces joined by a veth pair; gone when dropped.
pub(super) struct Stage {
    names: [String; 2],
}

/// What a flood sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) packets: u64,
    seconds: f64,
}

impl Sent {
    /// Frames per second.
    pub(super) fn per_second(self) -> f64 {
        self.packets as f64 / self.seconds
    }
}

/// Where the frames go: an address with a neighbour entry, and the discard port.
const TARGET: &str = "10.99.0.9:9";

impl Stage {
    /// Makes the namespaces.
    pub(super) fn build() -> Result<Self> {
        let name = |role| format!("whydrop-bench-{}-{role}", std::process::id());
        let stage = Self { names: [name("a"), name("b")] };
        let [a, b] = &stage.names;
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add veth0 type veth peer name veth0 netns {b}"),
            format!("-n {a} address add 10.99.0.1/24 dev veth0"),
            format!("-n {a} link set veth0 up"),
            format!("-n {b} link set veth0 up"),
            format!("-n {a} neighbour add 10.99.0.9 lladdr 02:00:00:00:00:99 dev veth0"),
        ] {
            command::output(Command::new("ip").args(line.split(' ')))?;
        }
        Ok(stage)
    }

    /// Sends as fast as one CPU can for this long.
    pub(super) fn flood(&self, length: Duration) -> Result<Sent> {
        let this = std::env::current_exe().context("the own program")?;
        let millis = length.as_millis().to_string();
        let mut sender = Command::new("ip");
        sender.args(["netns", "exec", &self.names[0], "taskset", "--cpu-list", "0"]);
        let answer = command::output(sender.arg(this).args(["flood", &millis]))?;
        let parsed = answer.trim().split_once(' ').and_then(|(packets, seconds)| {
            Some(Sent { packets: packets.parse().ok()?, seconds: seconds.parse().ok()? })
        });
        parsed.with_context(|| format!("the sender answered {answer:?}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in &self.names {
            // The veth pair goes with its namespaces.
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// The sender itself, a process in the first namespace: `flood MILLISECONDS`. Prints datagrams and
/// seconds.
pub(crate) fn play(_root: &std::path::Path, arguments: &[String]) -> Result<()> {
    let [millis] = arguments else { bail!("flood takes a number of milliseconds") };
    let length = Duration::from_millis(millis.parse().context("milliseconds")?);
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    socket.connect(TARGET).context("the namespace of the flood")?;
    let datagram = [0_u8; 64];
    let start = Instant::now();
    let mut packets = 0_u64;
    while start.elapsed() < length {
        for _ in 0..256 {
            // Every datagram is dropped on the way; an error here would be one not sent.
            if socket.send(&datagram).is_ok() {
                packets += 1;
            }
        }
    }
    println!("{packets} {}", start.elapsed().as_secs_f64());
    Ok(())
}
