//! Sends Ethernet frames as they are. The kernel's protocols see none of them on their way out.

use std::io;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::bind;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Socket, Type};

use super::frame;
use crate::part::Tally;
use crate::part::frame::Frames;

/// Sends all rounds.
pub(super) fn send(frames: &Frames) -> io::Result<Tally> {
    // Frames of one CPU arrive in the order in which they were sent.
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu());
    sched_setaffinity(None, &cpus)?;
    let socket = on_device(&frames.device)?;
    let mut tally = Tally::default();
    for round in 0..frames.rounds {
        for frame in &frames.frame {
            match socket.send(&frame::bytes(frame, round)) {
                Ok(_) => tally.done += 1,
                Err(_) => tally.failed += 1,
            }
        }
    }
    Ok(tally)
}

/// A packet socket that sends through `device` and receives nothing.
fn on_device(device: &str) -> io::Result<Socket> {
    // Protocol 0: nothing is received, no copy is made of what passes.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let addresses = getifaddrs()?.filter(|interface| interface.interface_name == device);
    let mut links = addresses.filter_map(|interface| interface.address?.as_link_addr().copied());
    let address = links.next().ok_or_else(|| io::Error::other(format!("no device {device}")))?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}
