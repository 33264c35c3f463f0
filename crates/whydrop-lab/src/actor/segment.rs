//! TCP segments in IP packets, as bytes. Knows the two headers, nothing of connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Length of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Length of an IPv6 header.
const IPV6_LEN: usize = 40;
/// Length of a TCP header without options.
const TCP_LEN: usize = 20;
/// IP protocol number of TCP.
const TCP: u8 = 6;
/// Kind and length of the timestamps option (RFC 7323).
const TIMESTAMPS: [u8; 2] = [8, 10];

/// TCP flag FIN.
pub(super) const FIN: u8 = 0x01;
/// TCP flag SYN.
pub(super) const SYN: u8 = 0x02;
/// TCP flag ACK.
pub(super) const ACK: u8 = 0x10;

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// Options as they stand in the header; what they lack to whole words is filled up.
    pub(super) options: Vec<u8>,
    /// Bytes of data.
    pub(super) data: usize,
}

/// The option that announces the largest segment.
pub(super) fn max_segment_size(size: u16) -> [u8; 4] {
    let [high, low] = size.to_be_bytes();
    [2, 4, high, low]
}

/// The timestamps option: the own clock, and the one heard last.
pub(super) fn timestamps(value: u32, echo: u32) -> [u8; 10] {
    let mut option = [0; 10];
    option[..2].copy_from_slice(&TIMESTAMPS);
    option[2..6].copy_from_slice(&value.to_be_bytes());
    option[6..].copy_from_slice(&echo.to_be_bytes());
    option
}

/// The option that acknowledges one block besides (SACK).
pub(super) fn selective(start: u32, end: u32) -> [u8; 10] {
    let mut option = [0; 10];
    option[..2].copy_from_slice(&[5, 10]);
    option[2..6].copy_from_slice(&start.to_be_bytes());
    option[6..].copy_from_slice(&end.to_be_bytes());
    option
}

impl Segment {
    /// The whole IP packet. Both ends must be of one address family.
    pub(super) fn to_packet(&self) -> Vec<u8> {
        let mut tcp = self.tcp();
        let mut covered = Vec::new();
        let mut packet = Vec::new();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // Version, class and label; length of what follows, its protocol, hop limit.
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((tcp.len() as u16).to_be_bytes());
                packet.extend([TCP, 64]);
                covered.extend(source.octets());
                covered.extend(destination.octets());
                packet.extend(&covered);
            }
            (source, destination) => {
                let octets = |ip| if let IpAddr::V4(ip) = ip { ip.octets() } else { [0; 4] };
                packet.extend([0x45, 0]);
                packet.extend(((IPV4_LEN + tcp.len()) as u16).to_be_bytes());
                // Identification, don't fragment; hop limit, protocol, room for the checksum.
                packet.extend([0, 0, 0x40, 0]);
                packet.extend([64, TCP, 0, 0]);
                covered.extend(octets(source));
                covered.extend(octets(destination));
                packet.extend(&covered);
                let sum = checksum(&packet);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        covered.extend((tcp.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, TCP]);
        covered.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&covered).to_be_bytes());
        packet.extend(tcp);
        packet
    }

    /// Header and data, with room for the checksum.
    fn tcp(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        // Filled up with "no operation".
        options.resize(options.len().next_multiple_of(4), 1);
        let words = ((TCP_LEN + options.len()) / 4) as u8;
        let mut tcp = Vec::with_capacity(TCP_LEN + options.len() + self.data);
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([words << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        // Checksum, urgent pointer.
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.resize(tcp.len() + self.data, b'x');
        tcp
    }

    /// Reads an IP packet; `None` if it is not whole TCP right behind the IP header, or a fragment.
    /// Checksums are not looked at: on a veth they are often left to a card that is not there.
    pub(super) fn from_packet(packet: &[u8]) -> Option<Self> {
        let (source, destination, tcp) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        let tcp = Some(tcp).filter(|tcp| tcp.len() >= TCP_LEN)?;
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        Some(Self {
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
            sequence: word(4),
            acknowledgment: word(8),
            flags: tcp[13],
            window: port(14),
            options: tcp.get(TCP_LEN..header)?.to_vec(),
            data: tcp.len() - header,
        })
    }

    /// How much of the sequence space it takes: its data, SYN and FIN.
    pub(super) fn length(&self) -> u32 {
        let marks = [SYN, FIN].iter().filter(|mark| self.flags & **mark != 0).count();
        (self.data + marks) as u32
    }

    /// The sender's clock, if there is a timestamps option.
    pub(super) fn timestamp(&self) -> Option<u32> {
        let mut rest = self.options.as_slice();
        loop {
            match rest {
                [1, after @ ..] => rest = after,
                [8, 10, a, b, c, d, ..] => return Some(u32::from_be_bytes([*a, *b, *c, *d])),
                // "End of options" has no length either.
                [kind, length, ..] if *kind != 0 && *length >= 2 => {
                    rest = rest.get(usize::from(*length)..)?;
                }
                _ => return None,
            }
        }
    }
}

/// Addresses, and what lies behind the header of a whole IPv4 packet of TCP.
fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
    if header < IPV4_LEN || *packet.get(9)? != TCP || fragment != 0 {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    Some((address(12)?, address(16)?, packet.get(header..)?))
}

/// Likewise for IPv6, without extension headers.
fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    if *packet.get(6)? != TCP {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    Some((address(8)?, address(24)?, packet.get(IPV6_LEN..)?))
}

/// The internet checksum: ones' complement of the ones' complement sum (RFC 1071).
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Segment {
        Segment {
            source: "10.99.77.1:20000".parse().unwrap(),
            destination: "10.99.0.2:9000".parse().unwrap(),
            sequence: 0x0102_0304,
            acknowledgment: 0,
            flags: SYN,
            window: 0xffff,
            options: max_segment_size(1460).to_vec(),
            data: 0,
        }
    }

    fn ack() -> Segment {
        Segment {
            source: "10.99.77.254:20001".parse().unwrap(),
            sequence: 0x0102_0305,
            acknowledgment: 0xfffe_fdfc,
            flags: ACK,
            options: Vec::new(),
            ..syn()
        }
    }

    fn data6() -> Segment {
        Segment {
            source: "[fd99:77::1]:20000".parse().unwrap(),
            destination: "[fd99::2]:9000".parse().unwrap(),
            options: timestamps(7, 9).into_iter().chain([1, 1]).collect(),
            data: 5,
            ..ack()
        }
    }

    /// Written down from a computation that shares no code with this one.
    const SYN_BYTES: &str = "4500002c000040004006d9030a634d010a630002\
                             4e20232801020304000000006002ffffc10f0000020405b4";
    const ACK_BYTES: &str = "45000028000040004006d80a0a634dfe0a630002\
                             4e21232801020305fffefdfc5010ffffd9c20000";

    fn hex(bytes: &[u8]) -> String {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
    }

    #[test]
    fn known_bytes() {
        assert_eq!(hex(&syn().to_packet()), SYN_BYTES);
        assert_eq!(hex(&ack().to_packet()), ACK_BYTES);
    }

    #[test]
    fn reads_what_it_writes() {
        for segment in [syn(), ack(), data6()] {
            assert_eq!(Segment::from_packet(&segment.to_packet()), Some(segment));
        }
        assert_eq!((data6().timestamp(), syn().timestamp()), (Some(7), None));
        assert_eq!((syn().length(), ack().length(), data6().length()), (1, 0, 5));
    }

    /// What a receiver computes over addresses, protocol, length and segment is zero.
    #[test]
    fn the_checksum_of_ipv6_is_right() {
        let packet = data6().to_packet();
        let mut covered = packet[8..40].to_vec();
        covered.extend(((packet.len() - 40) as u32).to_be_bytes());
        covered.extend([0, 0, 0, 6]);
        covered.extend(&packet[40..]);
        assert_eq!(checksum(&covered), 0);
    }

    #[test]
    fn other_packets_are_not_segments() {
        let packet = ack().to_packet();
        for length in 0..packet.len() {
            assert_eq!(Segment::from_packet(&packet[..length]), None, "{length} bytes");
        }
        for (at, value, what) in [(0, 0x75, "version 7"), (9, 17, "UDP"), (6, 0x20, "a fragment")] {
            let mut other = packet.clone();
            other[at] = value;
            assert_eq!(Segment::from_packet(&other), None, "{what}");
        }
    }

    #[test]
    fn checksum_of_the_rfc() {
        // The example of RFC 1071, section 3, and an odd number of bytes.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0x12]), !0x1200);
    }
}
