//! Packet sockets: send Ethernet frames as they are, which no protocol of the kernel sees on their
//! way out, and read along.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::bind;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

use super::frame;
use crate::part::frame::Frames;
use crate::part::{Capture, Tally};

/// `ETH_P_ALL` of `include/uapi/linux/if_ether.h`.
const ETH_P_ALL: u16 = 0x0003;
/// Room for what a reader that falls behind has not read yet: that none is lost is its task.
const ROOM: usize = 64 << 20;
/// Longest frame, should a device put many into one.
const LONGEST: usize = 1 << 18;

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

/// Reads along for a while.
pub(super) fn capture(capture: &Capture) -> io::Result<Tally> {
    // Every protocol, as the kernel wants it: in network byte order.
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
    set_socket_recv_buffer_size_force(&socket, ROOM)?;
    let end = Instant::now() + Duration::from_millis(capture.millis);
    let mut tally = Tally::default();
    let mut frame = vec![0; LONGEST];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(tally);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut frame) {
            Ok(_) => tally.done += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
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
