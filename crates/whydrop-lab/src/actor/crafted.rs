//! Peers whose TCP is this program's own: they can be late, or silent, where the kernel's cannot.
//!
//! Their addresses belong to no namespace. What they send leaves through a raw socket, and what they
//! are sent is read from a packet socket. As its last reader that socket also keeps the packet from
//! being traced as a drop of the namespace it passes through, which takes it for another host's;
//! so it must be read to the end.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::segment::{ACK, SYN, Segment};
use crate::part::{Handshakes, SynFlood, Tally};
use crate::topology::CRAFTED_NET;

/// EtherType of IPv4, as a packet socket wants it: in network byte order.
const IPV4: i32 = 0x0800_u16.to_be() as i32;
/// `IPPROTO_RAW`: the packet written brings its own IP header.
const RAW: i32 = 255;
/// Longest wait for a SYN-ACK: below the second after which it is sent again.
const PATIENCE: Duration = Duration::from_millis(800);
/// First of the ports that crafted peers use.
const FIRST_PORT: u16 = 20000;

/// Begins some handshakes, completes others, then sends the last ACKs of the first.
///
/// A handshake counts as done when its SYN was answered, whatever becomes of its last ACK: the peer
/// would take itself for connected.
pub(super) fn handshakes(to: SocketAddr, shakes: &Handshakes) -> io::Result<Tally> {
    let mut peers = Peers::new(to)?;
    let held = peers.begin(0..shakes.held)?;
    let mut done = held.len();
    for number in shakes.held..shakes.held + shakes.completed {
        // One at a time: half-open ones would fill the SYN queue before the accept queue.
        let answered = peers.begin(number..number + 1)?;
        peers.complete(&answered)?;
        done += answered.len();
    }
    for _ in 0..shakes.ack_rounds {
        peers.complete(&held)?;
        peers.ignore_answers()?;
    }
    let begun = u64::from(shakes.held + shakes.completed);
    Ok(Tally { done: done as u64, pending: begun - done as u64, failed: 0 })
}

/// Sends SYNs and nothing else.
pub(super) fn syn_flood(to: SocketAddr, flood: &SynFlood) -> io::Result<Tally> {
    let mut peers = Peers::new(to)?;
    for number in 0..flood.count {
        let source = address(u32::from(number), flood.sources);
        peers.send(&peers.syn(source, number))?;
        peers.ignore_answers()?;
    }
    Ok(Tally { done: flood.count.into(), pending: 0, failed: 0 })
}

/// The `number`th peer when they share `sources` addresses: no two share address and port.
fn address(number: u32, sources: u8) -> SocketAddrV4 {
    let sources = u32::from(sources.clamp(1, 254));
    let [a, b, c] = CRAFTED_NET;
    let host = (number % sources) as u8 + 1;
    SocketAddrV4::new([a, b, c, host].into(), FIRST_PORT + (number / sources) as u16)
}

/// A SYN-ACK's sequence number, by number of the peer.
type Answers = BTreeMap<u16, u32>;

struct Peers {
    to: SocketAddrV4,
    out: Socket,
    tap: Socket,
}

impl Peers {
    fn new(to: SocketAddr) -> io::Result<Self> {
        let SocketAddr::V4(to) = to else {
            return Err(io::Error::other("crafted packets are IPv4"));
        };
        // Packets of one CPU arrive in the order in which they were sent.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu());
        sched_setaffinity(None, &cpus)?;
        let out = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
        let tap = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(IPV4)))?;
        Ok(Self { to, out, tap })
    }

    fn syn(&self, source: SocketAddrV4, number: u16) -> Segment {
        Segment {
            source,
            destination: self.to,
            sequence: first_sequence(number),
            acknowledgment: 0,
            flags: SYN,
            max_segment_size: Some(1460),
        }
    }

    fn send(&self, segment: &Segment) -> io::Result<()> {
        self.out.send_to(&segment.to_packet(), &SockAddr::from(self.to))?;
        Ok(())
    }

    /// Sends SYNs and gives those that were answered in time.
    fn begin(&mut self, numbers: std::ops::Range<u16>) -> io::Result<Answers> {
        let mut waiting = BTreeMap::new();
        for number in numbers {
            let source = address(number.into(), u8::MAX);
            self.send(&self.syn(source, number))?;
            waiting.insert(source, number);
        }
        let mut answers = Answers::new();
        let deadline = Instant::now() + PATIENCE;
        let mut packet = [0; 2048];
        while !waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.tap.set_read_timeout(Some(left))?;
            let length = match self.tap.read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(answer) = Segment::from_packet(&packet[..length]) else { continue };
            if answer.source != self.to || answer.flags & (SYN | ACK) != SYN | ACK {
                continue;
            }
            if let Some(number) = waiting.remove(&answer.destination) {
                answers.insert(number, answer.sequence);
            }
        }
        Ok(answers)
    }

    /// Reads what has come and forgets it.
    fn ignore_answers(&mut self) -> io::Result<()> {
        self.tap.set_nonblocking(true)?;
        loop {
            match self.tap.read(&mut [0; 128]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.tap.set_nonblocking(false)
    }

    /// Sends the last ACKs.
    fn complete(&self, answers: &Answers) -> io::Result<()> {
        for (&number, &sequence) in answers {
            self.send(&Segment {
                source: address(number.into(), u8::MAX),
                destination: self.to,
                sequence: first_sequence(number).wrapping_add(1),
                acknowledgment: sequence.wrapping_add(1),
                flags: ACK,
                max_segment_size: None,
            })?;
        }
        Ok(())
    }
}

/// Sequence number of a peer's SYN.
fn first_sequence(number: u16) -> u32 {
    0x1000_0000_u32.wrapping_add(u32::from(number) * 0x0001_0001)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_peers_share_address_and_port() {
        for sources in [0, 1, 100, 255] {
            let peers: BTreeSet<_> = (0..1000).map(|number| address(number, sources)).collect();
            assert_eq!(peers.len(), 1000, "{sources} sources");
            let hosts: BTreeSet<_> = peers.iter().map(|peer| *peer.ip()).collect();
            assert_eq!(hosts.len(), usize::from(sources.clamp(1, 254)));
        }
        assert_eq!(address(0, 100).to_string(), "10.99.77.1:20000");
    }
}
