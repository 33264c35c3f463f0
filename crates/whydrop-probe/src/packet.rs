//! Addresses and ports from the first bytes of a packet, as far as they can be trusted.
//!
//! The bytes belong to packets that were dropped, often because a header is wrong or cut short: an
//! address is told whenever it is there, a port only when it is certain to be one. Nothing here may
//! fail: what cannot be read is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whydrop_model::{Endpoint, Flow};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// The flow of a packet of this EtherType whose network header begins with `bytes`.
pub fn flow(ethertype: u16, bytes: &[u8]) -> Option<Flow> {
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(bytes),
        ETHERTYPE_IPV6 => ipv6(bytes),
        _ => None,
    }
}

/// The network identifier behind the headers of IP and UDP, if what is there looks like VXLAN (RFC
/// 7348): its flag for "valid" is set. Packets of other protocols may look so too.
pub(crate) fn vni(ethertype: u16, bytes: &[u8]) -> Option<u32> {
    const UDP_HEADER: usize = 8;
    const VALID: u8 = 0x08;
    let at = match ethertype {
        ETHERTYPE_IPV4 => usize::from(bytes.first()? & 15) * 4,
        ETHERTYPE_IPV6 => 40,
        _ => return None,
    };
    let header: &[u8; 8] = bytes.get(at + UDP_HEADER..)?.first_chunk()?;
    let [flags, _, _, _, high, middle, low, _] = *header;
    (flags & VALID != 0).then(|| u32::from_be_bytes([0, high, middle, low]))
}

fn ipv4(bytes: &[u8]) -> Option<Flow> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    if header[0] >> 4 != 4 {
        return None;
    }
    let length = usize::from(header[0] & 15) * 4;
    let first_fragment = u16::from_be_bytes([header[6], header[7]]).trailing_zeros() >= 13;
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]))
    };
    // A header shorter than itself says nothing about where the next one begins.
    let transport = bytes.get(length..).filter(|_| length >= 20 && first_fragment);
    Some(with_transport(address(12), address(16), header[9], transport.unwrap_or(&[])))
}

fn ipv6(bytes: &[u8]) -> Option<Flow> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| {
        let octets: Option<&[u8; 16]> = header[at..].first_chunk();
        octets.map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)))
    };
    let (protocol, transport) = behind_extensions(header[6], &bytes[40..]);
    Some(with_transport(address(8)?, address(24)?, protocol, transport))
}

/// Follows IPv6 extension headers. Where they lead out of the bytes at hand, the protocol is that
/// of the header that is not there, and there is nothing behind it.
fn behind_extensions(mut protocol: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    while let HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS = protocol {
        let Some(&[next, size, high, low, ..]) = rest.first_chunk::<8>() else {
            return (protocol, &[]);
        };
        let length = match protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(size) + 2) * 4,
            _ => (usize::from(size) + 1) * 8,
        };
        if protocol == FRAGMENT && u16::from_be_bytes([high, low]) >> 3 != 0 {
            return (next, &[]);
        }
        protocol = next;
        rest = rest.get(length..).unwrap_or(&[]);
    }
    (protocol, rest)
}

fn with_transport(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Flow {
    let has_ports = matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE);
    let ports = transport.first_chunk::<4>().filter(|_| has_ports);
    let port = |at: usize| ports.map(|ports| u16::from_be_bytes([ports[at], ports[at + 1]]));
    Flow {
        source: Endpoint { address: source, port: port(0) },
        destination: Endpoint { address: destination, port: port(2) },
        protocol,
        tcp_flags: transport.get(13).copied().filter(|_| protocol == TCP),
        icmp: transport
            .first_chunk::<2>()
            .filter(|_| matches!(protocol, ICMP | ICMPV6))
            .map(|&[kind, code]| (kind, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        bytes.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend(transport);
        bytes
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        for last in [1, 2] {
            bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        bytes.extend(rest);
        bytes
    }

    /// Ports 4660 and 80, SYN.
    const SYN: [u8; 14] = [0x12, 0x34, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2];

    fn shown(flow: Option<Flow>) -> String {
        flow.map_or_else(String::new, |flow| {
            let flags = flow.tcp_flag_letters();
            format!("{} > {} {} {flags}", flow.source, flow.destination, flow.protocol_name())
        })
    }

    #[test]
    fn tcp_and_udp_of_both_families() {
        assert_eq!(shown(flow(0x0800, &v4(TCP, &SYN))), "192.0.2.1:4660 > 192.0.2.2:80 TCP S");
        assert_eq!(
            shown(flow(0x86dd, &v6(UDP, &SYN[..8]))),
            "[2001:db8::1]:4660 > [2001:db8::2]:80 UDP "
        );
    }

    #[test]
    fn icmp_has_type_and_code() {
        assert_eq!(flow(0x0800, &v4(ICMP, &[3, 1, 0, 0])).unwrap().icmp, Some((3, 1)));
        assert_eq!(flow(0x86dd, &v6(ICMPV6, &[135, 0])).unwrap().icmp, Some((135, 0)));
        assert_eq!(flow(0x0800, &v4(ICMP, &[3])).unwrap().icmp, None);
    }

    #[test]
    fn a_vxlan_header_has_its_network() {
        let vxlan = [0x12, 0x34, 0x12, 0xb5, 0, 50, 0, 0, 8, 0, 0, 0, 0, 0, 10, 0];
        assert_eq!(vni(0x0800, &v4(UDP, &vxlan)), Some(10));
        assert_eq!(vni(0x86dd, &v6(UDP, &vxlan)), Some(10));
        let mut invalid = vxlan;
        invalid[8] = 0;
        assert_eq!(vni(0x0800, &v4(UDP, &invalid)), None);
        assert_eq!(vni(0x0800, &v4(UDP, &vxlan[..15])), None);
        assert_eq!((vni(0x0806, &v4(UDP, &vxlan)), vni(0x0800, &[])), (None, None));
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut bytes = v4(UDP, &SYN);
        bytes[7] = 1;
        assert_eq!(shown(flow(0x0800, &bytes)), "192.0.2.1 > 192.0.2.2 UDP ");
        let mut fragment = vec![UDP, 0, 0, 8, 0, 0, 0, 0];
        fragment.extend(SYN);
        assert_eq!(flow(0x86dd, &v6(FRAGMENT, &fragment)).unwrap().source.port, None);
        fragment[3] = 1; // First fragment, more to come.
        assert_eq!(flow(0x86dd, &v6(FRAGMENT, &fragment)).unwrap().source.port, Some(0x1234));
    }

    #[test]
    fn extension_headers_are_followed_while_they_are_there() {
        let mut rest = vec![DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0];
        rest.extend([AUTHENTICATION, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend([TCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend(SYN);
        let found = flow(0x86dd, &v6(HOP_BY_HOP, &rest)).unwrap();
        assert_eq!((found.protocol, found.tcp_flags), (TCP, Some(2)));
        // The second header is cut off.
        let cut = flow(0x86dd, &v6(HOP_BY_HOP, &rest[..10])).unwrap();
        assert_eq!((cut.protocol, cut.source.port), (DESTINATION_OPTIONS, None));
    }

    #[test]
    fn options_move_the_ports_and_a_bad_length_hides_them() {
        let mut bytes = v4(TCP, &[0; 4]);
        bytes.extend(SYN);
        bytes[0] = 0x46;
        assert_eq!(flow(0x0800, &bytes).unwrap().destination.port, Some(80));
        bytes[0] = 0x43;
        assert_eq!(shown(flow(0x0800, &bytes)), "192.0.2.1 > 192.0.2.2 TCP ");
    }

    #[test]
    fn what_is_not_ip_has_no_flow() {
        assert_eq!(flow(0x0806, &v4(TCP, &SYN)), None);
        assert_eq!(flow(0x0800, &v6(TCP, &SYN)), None);
        assert_eq!(flow(0x86dd, &v4(TCP, &[0; 60])), None);
        for length in 0..20 {
            assert_eq!(flow(0x0800, &v4(TCP, &SYN)[..length]), None);
        }
        for length in 0..40 {
            assert_eq!(flow(0x86dd, &v6(TCP, &SYN)[..length]), None);
        }
    }
}
