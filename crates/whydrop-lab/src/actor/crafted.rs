//! Peers whose TCP is this program's own: they can be late, or silent, where the kernel's cannot.
//!
//! Their addresses belong to no namespace. What they send leaves through a raw socket, and what they
//! are sent is read from a packet socket. As its last reader that socket also keeps the packet from
//! being traced as a drop of the namespace it passes through, which takes it for another host's;
//! so it must be read to the end.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::segment::{ACK, SYN, Segment, max_segment_size};
use crate::part::{Handshakes, SynFlood, Tally};
use crate::topology::{CRAFTED_NET, CRAFTED_NET6};

/// EtherTypes as a packet socket wants them: in network byte order.
const IPV4: i32 = 0x0800_u16.to_be() as i32;
const IPV6: i32 = 0x86dd_u16.to_be() as i32;
/// Room for what a veth hands over unsegmented.
const PACKET: usize = 1 << 17;
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
        let source = address(to, u32::from(number), flood.sources);
        peers.send(&peers.syn(source, number))?;
        peers.ignore_answers()?;
    }
    Ok(Tally { done: flood.count.into(), pending: 0, failed: 0 })
}

/// The `number`th peer of `to` when they share `sources` addresses: no two share address and port.
fn address(to: SocketAddr, number: u32, sources: u8) -> SocketAddr {
    let sources = u32::from(sources.clamp(1, 254));
    let host = (number % sources) as u8 + 1;
    let ip: IpAddr = if to.is_ipv4() {
        let [a, b, c] = CRAFTED_NET;
        [a, b, c, host].into()
    } else {
        let [a, b] = CRAFTED_NET6;
        [a, b, 0, 0, 0, 0, 0, host.into()].into()
    };
    SocketAddr::new(ip, FIRST_PORT + (number / sources) as u16)
}

/// A SYN-ACK, by number of the peer.
pub(super) type Answers = BTreeMap<u16, Segment>;

/// The sockets of all peers of one server.
pub(super) struct Peers {
    to: SocketAddr,
    out: Socket,
    tap: Socket,
}

impl Peers {
    /// Peers of this server, without a connection yet.
    pub(super) fn new(to: SocketAddr) -> io::Result<Self> {
        // Packets of one CPU arrive in the order in which they were sent.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu());
        sched_setaffinity(None, &cpus)?;
        let ethertype = if to.is_ipv4() { IPV4 } else { IPV6 };
        let out = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(RAW)))?;
        let tap = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ethertype)))?;
        Ok(Self { to, out, tap })
    }

    /// The SYN of a peer.
    pub(super) fn syn(&self, source: SocketAddr, number: u16) -> Segment {
        Segment {
            source,
            destination: self.to,
            sequence: first_sequence(number),
            acknowledgment: 0,
            flags: SYN,
            window: u16::MAX,
            options: max_segment_size(1460).to_vec(),
            data: 0,
        }
    }

    /// The SYN of a peer that has an address of its own.
    pub(super) fn syn_of(&self, number: u16) -> Segment {
        self.syn(address(self.to, number.into(), u8::MAX), number)
    }

    /// Sends a segment.
    pub(super) fn send(&self, segment: &Segment) -> io::Result<()> {
        // The port would be taken for a protocol number.
        let to = SocketAddr::new(self.to.ip(), 0);
        self.out.send_to(&segment.to_packet(), &SockAddr::from(to))?;
        Ok(())
    }

    /// Sends an ACK without data.
    fn acknowledge(&self, answer: &Segment) -> io::Result<()> {
        self.send(&Segment {
            source: answer.destination,
            destination: answer.source,
            sequence: answer.acknowledgment,
            acknowledgment: answer.sequence.wrapping_add(1),
            flags: ACK,
            window: u16::MAX,
            options: Vec::new(),
            data: 0,
        })
    }

    /// Sends the SYNs of these peers and gives those that were answered in time.
    fn begin(&mut self, numbers: std::ops::Range<u16>) -> io::Result<Answers> {
        let syns = numbers.map(|number| (number, self.syn_of(number))).collect();
        self.open(&syns)
    }

    /// Sends these SYNs and gives those that were answered in time.
    pub(super) fn open(&mut self, syns: &BTreeMap<u16, Segment>) -> io::Result<Answers> {
        let mut waiting = BTreeMap::new();
        for (number, syn) in syns {
            self.send(syn)?;
            waiting.insert(syn.source, *number);
        }
        let mut answers = Answers::new();
        let deadline = Instant::now() + PATIENCE;
        while !waiting.is_empty() {
            let Some(answer) = self.hear(deadline)? else { break };
            if answer.flags & (SYN | ACK) != SYN | ACK {
                continue;
            }
            if let Some(number) = waiting.remove(&answer.destination) {
                answers.insert(number, answer);
            }
        }
        Ok(answers)
    }

    /// The next segment from the server to any of its peers; `None` if none comes in time.
    pub(super) fn hear(&mut self, deadline: Instant) -> io::Result<Option<Segment>> {
        let mut packet = vec![0; PACKET];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.tap.set_read_timeout(Some(left))?;
            let length = match self.tap.read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let segment = Segment::from_packet(&packet[..length]);
            if let Some(segment) = segment.filter(|it| it.source == self.to) {
                return Ok(Some(segment));
            }
        }
    }

    /// Reads what has come and forgets it.
    pub(super) fn ignore_answers(&mut self) -> io::Result<()> {
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
        answers.values().try_for_each(|answer| self.acknowledge(answer))
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
        for to in ["10.99.0.2:9000", "[fd99::2]:9000"] {
            let to = to.parse().unwrap();
            for sources in [0, 1, 100, 255] {
                let peers: BTreeSet<_> =
                    (0..1000).map(|number| address(to, number, sources)).collect();
                assert_eq!(peers.len(), 1000, "{sources} sources");
                let hosts: BTreeSet<_> = peers.iter().map(SocketAddr::ip).collect();
                assert_eq!(hosts.len(), usize::from(sources.clamp(1, 254)));
            }
        }
        let first = |to: &str| address(to.parse().unwrap(), 0, 100).to_string();
        assert_eq!(first("10.99.0.2:9000"), "10.99.77.1:20000");
        assert_eq!(first("[fd99::2]:9000"), "[fd99:77::1]:20000");
    }
}
