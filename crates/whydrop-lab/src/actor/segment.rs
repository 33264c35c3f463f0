//! TCP segments in IPv4 packets, as bytes. Knows the two headers, nothing of connections.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Length of an IPv4 header without options.
const IP_LEN: usize = 20;
/// Length of a TCP header without options.
const TCP_LEN: usize = 20;
/// IP protocol number of TCP.
const TCP: u8 = 6;

/// TCP flag SYN.
pub(super) const SYN: u8 = 0x02;
/// TCP flag ACK.
pub(super) const ACK: u8 = 0x10;

/// A segment without data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    /// Announced as the option of that name; only with SYN.
    pub(super) max_segment_size: Option<u16>,
}

impl Segment {
    /// The whole IP packet.
    pub(super) fn to_packet(&self) -> Vec<u8> {
        let options = match self.max_segment_size {
            Some(size) => vec![2, 4, size.to_be_bytes()[0], size.to_be_bytes()[1]],
            None => Vec::new(),
        };
        let tcp_len = (TCP_LEN + options.len()) as u16;
        let mut ip = Vec::with_capacity(IP_LEN + usize::from(tcp_len));
        // Version and header length in words, service class, length, identification, don't fragment.
        ip.extend([0x45, 0]);
        ip.extend((IP_LEN as u16 + tcp_len).to_be_bytes());
        ip.extend([0, 0, 0x40, 0]);
        // Hop limit, protocol, room for the checksum.
        ip.extend([64, TCP, 0, 0]);
        ip.extend(self.source.ip().octets());
        ip.extend(self.destination.ip().octets());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut tcp = Vec::with_capacity(usize::from(tcp_len));
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        // Header length in words, flags, window, room for the checksum, urgent pointer.
        tcp.extend([((tcp_len / 4) as u8) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        let mut covered = Vec::new();
        covered.extend(self.source.ip().octets());
        covered.extend(self.destination.ip().octets());
        covered.extend([0, TCP]);
        covered.extend(tcp_len.to_be_bytes());
        covered.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&covered).to_be_bytes());

        ip.extend(tcp);
        ip
    }

    /// Reads an IP packet; `None` if it is not whole TCP over IPv4, or a fragment. Checksums are not
    /// looked at: on a veth they are often left to a card that is not there.
    pub(super) fn from_packet(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let ip_len = usize::from(first & 0x0f) * 4;
        let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
        if first >> 4 != 4 || ip_len < IP_LEN || *packet.get(9)? != TCP || fragment != 0 {
            return None;
        }
        let tcp = packet.get(ip_len..).filter(|tcp| tcp.len() >= TCP_LEN)?;
        let address = |at: usize| {
            let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets))
        };
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        Some(Self {
            source: SocketAddrV4::new(address(12)?, port(0)),
            destination: SocketAddrV4::new(address(16)?, port(2)),
            sequence: word(4),
            acknowledgment: word(8),
            flags: tcp[13],
            max_segment_size: None,
        })
    }
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
            max_segment_size: Some(1460),
        }
    }

    fn ack() -> Segment {
        Segment {
            source: "10.99.77.254:20001".parse().unwrap(),
            sequence: 0x0102_0305,
            acknowledgment: 0xfffe_fdfc,
            flags: ACK,
            max_segment_size: None,
            ..syn()
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
        assert_eq!(Segment::from_packet(&ack().to_packet()), Some(ack()));
    }

    #[test]
    fn other_packets_are_not_segments() {
        let packet = ack().to_packet();
        for length in 0..packet.len() {
            assert_eq!(Segment::from_packet(&packet[..length]), None, "{length} bytes");
        }
        for (at, value, what) in [(0, 0x65, "IPv6"), (9, 17, "UDP"), (6, 0x20, "a fragment")] {
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
