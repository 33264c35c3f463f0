//! Described frames as bytes. Knows where each field lies and what a healthy sender writes there,
//! nothing of what a receiver makes of it.

use super::segment::checksum;
use crate::part::frame::{Checksum, Ether, Frame, Icmp, Ipv4, Ipv6, Tcp, Udp, Vxlan};

/// MAC of `veth0` in role `a`, where frames come from unless they say otherwise.
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
/// MAC of `veth0` in role `b`, where frames go.
const TO: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
/// Flag of a VXLAN header: there is a network identifier in it.
const VXLAN_VALID: u8 = 0x08;
/// "Nothing follows": what a header says that has only a payload behind it.
const NO_NEXT_HEADER: u8 = 59;

/// The bytes of a frame in a round.
pub(super) fn bytes(frame: &Frame, round: u16) -> Vec<u8> {
    let (protocol, upper) = upper(frame, round);
    let (ethertype, packet) = match (&frame.ipv4, &frame.ipv6) {
        (Some(header), _) => (ETHERTYPE_IPV4, ipv4(header, protocol, &upper, round)),
        (None, Some(header)) => (ETHERTYPE_IPV6, ipv6(header, protocol, &upper, round)),
        (None, None) => (0, upper),
    };
    let mut bytes = link(&frame.ether, ethertype);
    bytes.extend(packet);
    if let Some(cut) = frame.cut {
        bytes.truncate(cut.into());
    }
    bytes
}

fn link(ether: &Ether, ethertype: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ether.to.map_or(TO, |mac| mac.0));
    bytes.extend(ether.from.map_or(FROM, |mac| mac.0));
    if let Some(vlan) = ether.vlan {
        bytes.extend(ETHERTYPE_VLAN.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ether.r#type.unwrap_or(ethertype).to_be_bytes());
    bytes
}

/// What lies behind the IP header.
pub(super) fn message(frame: &Frame) -> Vec<u8> {
    upper(frame, 0).1
}

/// The IP protocol number and what lies behind the IP header.
fn upper(frame: &Frame, round: u16) -> (Option<u8>, Vec<u8>) {
    let mut payload = frame.data.0.clone();
    payload.resize(payload.len().max(frame.payload.into()), b'x');
    if let Some(carried) = &frame.vxlan {
        payload.splice(0..0, vxlan(carried, round));
    }
    let icmp_number = if frame.ipv4.is_some() { ICMP } else { ICMPV6 };
    // Number, header, offset of its checksum, and what it is to be.
    let layer = match frame {
        Frame { udp: Some(header), .. } => {
            Some((UDP, udp(header, payload.len()), 6, header.checksum))
        }
        Frame { tcp: Some(header), .. } => Some((TCP, tcp(header), 16, header.checksum)),
        Frame { icmp: Some(header), .. } => Some((icmp_number, icmp(header), 2, header.checksum)),
        _ => None,
    };
    let Some((number, mut bytes, at, wanted)) = layer else { return (None, payload) };
    bytes.extend(payload);
    let mut covered =
        if number == ICMP { Vec::new() } else { pseudo_header(frame, number, bytes.len()) };
    covered.extend(&bytes);
    let mut sum = checksum(&covered);
    if number == UDP && sum == 0 {
        // Zero means "none".
        sum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&field(sum, wanted));
    (Some(number), bytes)
}

fn vxlan(carried: &Vxlan, round: u16) -> Vec<u8> {
    let mut bytes = vec![carried.flags.unwrap_or(VXLAN_VALID), 0, 0, 0];
    bytes.extend((carried.vni << 8).to_be_bytes());
    bytes.extend(self::bytes(&carried.frame, round));
    bytes
}

fn field(right: u16, wanted: Checksum) -> [u8; 2] {
    match wanted {
        Checksum::Good => right,
        // One bit off: neither right nor zero.
        Checksum::Bad if right == 1 => 3,
        Checksum::Bad => right ^ 1,
        Checksum::Zero => 0,
    }
    .to_be_bytes()
}

/// The addresses, protocol and length that a transport checksum covers too.
fn pseudo_header(frame: &Frame, number: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (&frame.ipv4, &frame.ipv6) {
        (Some(Ipv4 { from, to, .. }), _) => {
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        (None, Some(Ipv6 { from, to, .. })) => {
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        (None, None) => {}
    }
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, number]);
    bytes
}

fn udp(header: &Udp, payload: usize) -> Vec<u8> {
    let length = header.length.unwrap_or(8 + payload as u16);
    let mut bytes = Vec::new();
    for field in [header.from, header.to, length, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes
}

fn tcp(header: &Tcp) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(header.from.to_be_bytes());
    bytes.extend(header.to.to_be_bytes());
    bytes.extend(header.sequence.to_be_bytes());
    bytes.extend([0; 4]);
    let flags = header.flags.unwrap_or(super::segment::SYN);
    // Header length in words, flags, window, room for the checksum, urgent pointer.
    bytes.extend([header.header_words.unwrap_or(5) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

fn icmp(header: &Icmp) -> Vec<u8> {
    let mut bytes = vec![header.r#type, header.code, 0, 0];
    bytes.extend(header.rest.to_be_bytes());
    bytes
}

fn ipv4(header: &Ipv4, protocol: Option<u8>, upper: &[u8], round: u16) -> Vec<u8> {
    let mut options = header.options.0.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    let header_len = 20 + options.len();
    let words = header.header_words.unwrap_or((header_len / 4) as u8);
    let length = header.length.unwrap_or((header_len + upper.len()) as u16);
    let flags = u16::from(header.dont_fragment) << 14 | u16::from(header.more_fragments) << 13;
    let mut bytes = vec![header.version.unwrap_or(4) << 4 | words, header.tos];
    bytes.extend(length.to_be_bytes());
    bytes.extend(header.id.wrapping_add(round).to_be_bytes());
    bytes.extend((flags | (header.offset / 8)).to_be_bytes());
    let protocol = header.protocol.or(protocol).unwrap_or(UDP);
    bytes.extend([header.ttl.unwrap_or(64), protocol, 0, 0]);
    bytes.extend(header.from.octets());
    bytes.extend(header.to.octets());
    bytes.extend(options);
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&field(sum, header.checksum));
    bytes.extend(upper);
    bytes
}

fn ipv6(header: &Ipv6, protocol: Option<u8>, upper: &[u8], round: u16) -> Vec<u8> {
    let next = header.next_header.or(protocol).unwrap_or(NO_NEXT_HEADER);
    let mut behind = header.extension.0.clone();
    let first = match header.fragment_id {
        Some(id) => {
            let place = header.offset & !7 | u16::from(header.more_fragments);
            behind.extend([next, 0]);
            behind.extend(place.to_be_bytes());
            behind.extend(id.wrapping_add(round.into()).to_be_bytes());
            FRAGMENT
        }
        None => next,
    };
    behind.extend(upper);
    let length = header.length.unwrap_or(behind.len() as u16);
    let mut bytes = vec![header.version.unwrap_or(6) << 4, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([first, header.hop_limit.unwrap_or(64)]);
    bytes.extend(header.from.octets());
    bytes.extend(header.to.octets());
    bytes.extend(behind);
    bytes
}

#[cfg(test)]
mod tests;
