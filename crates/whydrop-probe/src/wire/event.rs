//! The twin of what `bpf/wire.h` says about tracepoints other than `skb:kfree_skb`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whydrop_model::{Endpoint, Flow, SocketRef};

use super::{KEY_BYTES, name_at, u16_at, u32_at, u64_at};
use crate::packet;

/// Number of elements of the remainders, and of places in what the programs are told: the number of
/// every tracepoint is less.
pub(crate) const EVENTS: u32 = 16;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const ENDS_SOCKET: u8 = 1;
const ENDS_NEIGHBOUR: u8 = 2;

/// Offsets in `struct event_exemplar`.
mod exemplar {
    pub(super) const TIME: usize = 24;
    pub(super) const SOCKET_INODE: usize = 32;
    pub(super) const SOCKET_PORT: usize = 40;
    pub(super) const SOURCE_PORT: usize = 42;
    pub(super) const DESTINATION_PORT: usize = 44;
    pub(super) const L3: usize = 46;
    pub(super) const SOCKET_STATE: usize = 48;
    pub(super) const HAS_SOCKET: usize = 49;
    pub(super) const ENDS: usize = 50;
    pub(super) const ENDS_FAMILY: usize = 51;
    pub(super) const PACKET_BYTES: usize = 52;
    pub(super) const DEVICE: usize = 56;
    pub(super) const TRAP: usize = 72;
    pub(super) const SOURCE: usize = 112;
    pub(super) const DESTINATION: usize = 128;
    pub(super) const PACKET: usize = 144;
    pub(super) const SIZE: usize = 208;
}

/// What events are counted by. Numbers are those of the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventKey {
    pub(crate) event: u32,
    pub(crate) code: u32,
    pub(crate) netns: u32,
    pub(crate) ifindex: u32,
    pub(crate) port: u16,
    pub(crate) family: u16,
    pub(crate) l4: u8,
}

impl EventKey {
    /// The key of a slot; `None` if the slot is free.
    pub(crate) fn in_use(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let key = Self {
            event: u32_at(bytes, 0),
            code: u32_at(bytes, 4),
            netns: u32_at(bytes, 8),
            ifindex: u32_at(bytes, 12),
            port: u16_at(bytes, 16),
            family: u16_at(bytes, 18),
            l4: bytes[20],
        };
        (key.event != 0).then_some(key)
    }
}

/// One event in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEvent {
    pub(crate) key: EventKey,
    pub(crate) monotonic_ns: u64,
    pub(crate) device: Option<Box<str>>,
    pub(crate) trap: Option<Box<str>>,
    pub(crate) flow: Option<Flow>,
    pub(crate) neighbour: Option<IpAddr>,
    pub(crate) socket: Option<SocketRef>,
}

impl RawEvent {
    /// Copies a record out of the ring; `None` if it is not one.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let fixed: &[u8; exemplar::SIZE] = record.first_chunk()?;
        let key = EventKey::in_use(fixed.first_chunk()?)?;
        let packet_bytes = usize::from(fixed[exemplar::PACKET_BYTES]);
        let packet = fixed[exemplar::PACKET..].get(..packet_bytes)?;
        let neighbour = (fixed[exemplar::ENDS] == ENDS_NEIGHBOUR)
            .then(|| address(fixed, exemplar::DESTINATION))
            .flatten();
        let socket = (fixed[exemplar::HAS_SOCKET] != 0).then(|| SocketRef {
            family: key.family,
            state: fixed[exemplar::SOCKET_STATE],
            local_port: u16_at(fixed, exemplar::SOCKET_PORT),
            inode: u64_at(fixed, exemplar::SOCKET_INODE),
            receiver: false,
            filtered: false,
        });
        Some(Self {
            key,
            monotonic_ns: u64_at(fixed, exemplar::TIME),
            device: name_at::<16>(fixed, exemplar::DEVICE),
            trap: name_at::<40>(fixed, exemplar::TRAP),
            // What the packet itself says is more than what its socket knows.
            flow: packet::flow(u16_at(fixed, exemplar::L3), packet)
                .or_else(|| flow_of_socket(fixed, key.l4)),
            neighbour,
            socket,
        })
    }
}

fn flow_of_socket(fixed: &[u8; exemplar::SIZE], protocol: u8) -> Option<Flow> {
    if fixed[exemplar::ENDS] != ENDS_SOCKET {
        return None;
    }
    let end = |at, port| {
        let port = u16_at(fixed, port);
        Some(Endpoint { address: address(fixed, at)?, port: (port != 0).then_some(port) })
    };
    let source = end(exemplar::SOURCE, exemplar::SOURCE_PORT)?;
    let destination = end(exemplar::DESTINATION, exemplar::DESTINATION_PORT)?;
    // A socket that is not connected does not know whom the packet was from or for.
    let known = [source, destination].iter().all(|end| !end.address.is_unspecified());
    known.then_some(Flow { source, destination, protocol, tcp_flags: None, icmp: None })
}

/// An address of the family that the record names. Mapped ones are what they map.
fn address(fixed: &[u8; exemplar::SIZE], at: usize) -> Option<IpAddr> {
    match fixed[exemplar::ENDS_FAMILY] {
        AF_INET => Some(Ipv4Addr::from(super::chunk::<4>(fixed, at)).into()),
        AF_INET6 => {
            Some(IpAddr::from(Ipv6Addr::from(super::chunk::<16>(fixed, at))).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::{Btf, tests::events_object};

    fn expect(name: &str, size: usize, members: &[(&str, usize, usize)]) {
        let (found, layout) = Btf::parse(events_object()).unwrap().layout(name).unwrap();
        let found_members: Vec<_> = layout
            .iter()
            .filter(|(name, ..)| name != "padding")
            .map(|(name, at, size)| (name.as_str(), *at as usize / 8, *size as usize / 8))
            .collect();
        assert_eq!((found as usize, &found_members[..]), (size, members), "struct {name}");
    }

    #[test]
    fn offsets_are_those_of_the_compiled_object() {
        expect(
            "event_key",
            KEY_BYTES,
            &[
                ("event", 0, 4),
                ("code", 4, 4),
                ("netns", 8, 4),
                ("ifindex", 12, 4),
                ("port", 16, 2),
                ("family", 18, 2),
                ("l4", 20, 1),
            ],
        );
        expect(
            "event_exemplar",
            exemplar::SIZE,
            &[
                ("key", 0, KEY_BYTES),
                ("time_ns", exemplar::TIME, 8),
                ("socket_inode", exemplar::SOCKET_INODE, 8),
                ("socket_port", exemplar::SOCKET_PORT, 2),
                ("source_port", exemplar::SOURCE_PORT, 2),
                ("destination_port", exemplar::DESTINATION_PORT, 2),
                ("l3", exemplar::L3, 2),
                ("socket_state", exemplar::SOCKET_STATE, 1),
                ("has_socket", exemplar::HAS_SOCKET, 1),
                ("ends", exemplar::ENDS, 1),
                ("ends_family", exemplar::ENDS_FAMILY, 1),
                ("packet_bytes", exemplar::PACKET_BYTES, 1),
                ("device", exemplar::DEVICE, 16),
                ("trap", exemplar::TRAP, 40),
                ("source", exemplar::SOURCE, 16),
                ("destination", exemplar::DESTINATION, 16),
                ("packet", exemplar::PACKET, 64),
            ],
        );
    }

    #[test]
    fn constants_are_those_of_the_header() {
        let header = include_str!("../../bpf/wire.h");
        for (name, value) in [
            ("EVENTS", EVENTS),
            ("ENDS_SOCKET", ENDS_SOCKET.into()),
            ("ENDS_NEIGHBOUR", ENDS_NEIGHBOUR.into()),
        ] {
            let words = ["#define", name, &value.to_string()];
            let defined = header
                .lines()
                .any(|line| line.split_whitespace().take(3).eq(words.iter().copied()));
            assert!(defined, "{name} is not {value}");
        }
    }

    fn record(family: u8, ends: u8) -> [u8; exemplar::SIZE] {
        let mut record = [0; exemplar::SIZE];
        record[0] = 1;
        record[20] = 6;
        record[exemplar::ENDS] = ends;
        record[exemplar::ENDS_FAMILY] = family;
        record[exemplar::SOURCE..][..4].copy_from_slice(&[192, 0, 2, 1]);
        record[exemplar::DESTINATION..][..4].copy_from_slice(&[192, 0, 2, 2]);
        record[exemplar::DESTINATION_PORT..][..2].copy_from_slice(&443_u16.to_ne_bytes());
        record
    }

    #[test]
    fn addresses_come_from_the_socket_where_there_is_no_packet() {
        let event = RawEvent::read(&record(AF_INET, ENDS_SOCKET)).unwrap();
        let flow = event.flow.unwrap();
        assert_eq!(flow.source.to_string(), "192.0.2.1");
        assert_eq!(flow.destination.to_string(), "192.0.2.2:443");
        assert_eq!((flow.protocol, event.socket, event.neighbour), (6, None, None));
        let mut mapped = record(AF_INET6, ENDS_SOCKET);
        for at in [exemplar::SOURCE, exemplar::DESTINATION] {
            mapped.copy_within(at..at + 4, at + 12);
            mapped[at..at + 10].fill(0);
            mapped[at + 10..at + 12].fill(0xff);
        }
        let flow = RawEvent::read(&mapped).unwrap().flow.unwrap();
        assert_eq!(flow.destination.to_string(), "192.0.2.2:443");
    }

    #[test]
    fn a_socket_without_a_peer_has_no_flow() {
        let mut record = record(AF_INET, ENDS_SOCKET);
        record[exemplar::SOURCE..][..4].fill(0);
        assert_eq!(RawEvent::read(&record).unwrap().flow, None);
    }

    #[test]
    fn a_neighbour_is_no_flow() {
        let event = RawEvent::read(&record(AF_INET, ENDS_NEIGHBOUR)).unwrap();
        assert_eq!(event.neighbour.unwrap().to_string(), "192.0.2.2");
        assert_eq!(event.flow, None);
    }

    #[test]
    fn lengths_in_a_record_are_not_believed() {
        let mut record = record(AF_INET, ENDS_SOCKET);
        for length in 0..exemplar::SIZE {
            assert_eq!(RawEvent::read(&record[..length]), None);
        }
        record[exemplar::PACKET_BYTES] = 65;
        assert_eq!(RawEvent::read(&record), None);
    }
}
