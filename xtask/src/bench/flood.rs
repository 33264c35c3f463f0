//! The flood: UDP datagrams over a veth pair to a neighbour entry whose MAC is nobody's, so that the
//! receiving end drops each frame as `OTHERHOST` in `ip_rcv_core` and nothing answers.
#![expect(clippy::print_stdout, reason = "the sender answers on its standard output")]

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::janitor::Janitor;
use crate::command;

/// Two namespaces joined by a veth pair; gone when dropped.
pub(super) struct Stage {
    janitor: Janitor,
}

/// What a flood sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) seconds: f64,
}

impl Sent {
    /// Frames per second.
    pub(super) fn per_second(self) -> f64 {
        self.packets as f64 / self.seconds
    }
}

/// Where the frames go: an address with a neighbour entry, and the discard port.
const TARGET: &str = "10.99.0.9:9";
/// Datagrams between two looks at the clock.
const BATCH: u64 = 256;
/// A pause of the sender where it is ahead of its rate.
const BREATH: Duration = Duration::from_micros(500);

impl Stage {
    /// Makes the namespaces.
    pub(super) fn build() -> Result<Self> {
        let stage = Self { janitor: Janitor::hire("flood")? };
        let [a, b] = ["a", "b"].map(|role| stage.janitor.name(role));
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add veth0 type veth peer name veth0 netns {b}"),
            format!("-n {a} address add 10.99.0.1/24 dev veth0"),
            // Without an IPv6 address they say nothing of their own accord, for nobody to hear.
            format!("-n {a} link set veth0 addrgenmode none"),
            format!("-n {b} link set veth0 addrgenmode none"),
            format!("-n {a} link set veth0 up"),
            format!("-n {b} link set veth0 up"),
            format!("-n {a} neighbour add 10.99.0.9 lladdr 02:00:00:00:00:99 dev veth0"),
        ] {
            command::output(Command::new("ip").args(line.split(' ')))?;
        }
        Ok(stage)
    }

    /// Sends for this long: so many frames per second, or as fast as one CPU can.
    pub(super) fn flood(&self, length: Duration, rate: Option<u64>) -> Result<Sent> {
        let this = std::env::current_exe().context("the own program")?;
        let mut sender = Command::new("ip");
        sender.args(["netns", "exec", &self.janitor.name("a"), "taskset", "--cpu-list", "0"]);
        sender.arg(this).args(["flood", &length.as_millis().to_string()]);
        sender.args(rate.map(|rate| rate.to_string()));
        let answer = command::output(&mut sender)?;
        let parsed = answer.trim().split_once(' ').and_then(|(packets, seconds)| {
            Some(Sent { packets: packets.parse().ok()?, seconds: seconds.parse().ok()? })
        });
        parsed.with_context(|| format!("the sender answered {answer:?}"))
    }
}

/// The sender itself, a process in the first namespace: `flood MILLISECONDS [PER_SECOND]`. Prints
/// datagrams and seconds.
pub(crate) fn play(_root: &std::path::Path, arguments: &[String]) -> Result<()> {
    let (millis, rate) = match arguments {
        [millis] => (millis, None),
        [millis, rate] => (millis, Some(rate.parse::<u64>().context("frames per second")?)),
        _ => bail!("flood takes a number of milliseconds, and may take a rate"),
    };
    let length = Duration::from_millis(millis.parse().context("milliseconds")?);
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    socket.connect(TARGET).context("the namespace of the flood")?;
    let datagram = [0_u8; 64];
    let start = Instant::now();
    let mut packets = 0_u64;
    while start.elapsed() < length {
        let due = rate.map_or(u64::MAX, |rate| {
            (start.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64
        });
        if packets >= due {
            thread::sleep(BREATH);
        }
        for _ in 0..BATCH.min(due.saturating_sub(packets)) {
            // Every datagram is dropped on the way; an error here would be one not sent.
            if socket.send(&datagram).is_ok() {
                packets += 1;
            }
        }
    }
    println!("{packets} {}", start.elapsed().as_secs_f64());
    Ok(())
}
