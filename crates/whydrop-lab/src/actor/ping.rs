//! Echo requests over a raw socket, as the `ping` command sends them.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame;
use crate::part::frame::{Checksum, Frame, Hex, Icmp, Ipv4};
use crate::part::{Ping, Tally};

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(1);
/// Identifier of the requests: each lab process has a namespace's raw sockets nearly to itself.
const IDENTIFIER: u32 = 0x7764;

/// Sends them one after the other, each once the one before was answered or given up.
pub(super) fn ping(to: SocketAddr, ping: &Ping) -> io::Result<Tally> {
    let protocol = if to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let mut socket = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol))?;
    let mut tally = Tally::default();
    for number in 0..ping.count {
        let begun = Instant::now();
        match socket.send_to(&request(to, number), &SockAddr::from(to)) {
            Ok(_) if answered(&mut socket, to, number, begun + PATIENCE)? => tally.done += 1,
            Ok(_) => tally.pending += 1,
            Err(_) => tally.failed += 1,
        }
        let pause = Duration::from_millis(ping.every_millis);
        thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    Ok(tally)
}

/// The ICMP message. The kernel itself fills in the checksum of ICMPv6.
fn request(to: SocketAddr, number: u16) -> Vec<u8> {
    let nobody = std::net::Ipv4Addr::UNSPECIFIED;
    let r#type = if to.is_ipv4() { 8 } else { 128 };
    let rest = IDENTIFIER << 16 | u32::from(number);
    let described = Frame {
        ipv4: Some(Ipv4::plain(nobody, nobody)),
        icmp: Some(Icmp { r#type, code: 0, rest, checksum: Checksum::Good }),
        data: Hex(vec![b'x'; 56]),
        ..Frame::default()
    };
    frame::message(&described)
}

fn answered(
    socket: &mut Socket,
    to: SocketAddr,
    number: u16,
    deadline: Instant,
) -> io::Result<bool> {
    let mut packet = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.read(&mut packet) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // A raw IPv4 socket gives the IP header too.
        let header = if to.is_ipv4() { usize::from(packet[0] & 0x0f) * 4 } else { 0 };
        let reply = if to.is_ipv4() { 0 } else { 129 };
        let wanted = (IDENTIFIER << 16 | u32::from(number)).to_be_bytes();
        let message = packet.get(header..length).unwrap_or_default();
        if message.first() == Some(&reply) && message.get(4..8) == Some(&wanted) {
            return Ok(true);
        }
    }
}
