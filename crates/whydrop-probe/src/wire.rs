//! The only place where bytes from the kernel side become types, by copy. Twin of `bpf/wire.h`; a
//! test compares the two through the compiled object.

use whydrop_model::{Flow, Marks, SocketRef};

use crate::packet;

pub(crate) mod event;

/// Size of `struct key` and of `struct event_key`.
pub(crate) const KEY_BYTES: usize = 24;
const SLOT_BYTES: usize = KEY_BYTES + TOTAL_BYTES;
const BUCKET_SLOTS: usize = 8;
/// Size of `struct bucket`, an element of the table.
pub(crate) const BUCKET_BYTES: usize = BUCKET_SLOTS * SLOT_BYTES;
/// Size of `struct total`, an element of the remainders.
pub(crate) const TOTAL_BYTES: usize = 32;

const REMAINDER_CORE: u32 = 256;
const REMAINDER_SUBSYSTEMS: u32 = 4;
const REMAINDER_PER_SUBSYSTEM: u32 = 64;
const REMAINDER_OTHER: u32 = REMAINDER_CORE + REMAINDER_SUBSYSTEMS * REMAINDER_PER_SUBSYSTEM;
/// Number of elements of the remainders.
pub(crate) const REMAINDERS: u32 = REMAINDER_OTHER + 1;

/// Element of the counters: drops kept in detail.
pub(crate) const COUNTER_SAMPLED: u32 = 0;
/// Element of the counters: drops that found the ring full.
pub(crate) const COUNTER_RING_FULL: u32 = 1;

/// An exemplar wakes the reader if none was made for so many nanoseconds.
pub(crate) const REST_NS: u32 = 250_000_000;

const MARK_SYN: u8 = 0x01;
const MARK_MULTICAST: u8 = 0x02;
const MARK_EMPTY: u8 = 0x04;
const MARK_RX_SK: u8 = 0x08;
const MARK_L4: u8 = 0x10;

/// Bytes of the packet that every exemplar has room for.
pub(crate) const PACKET_BYTES: u32 = 96;
/// Most that may follow them.
pub(crate) const MORE_BYTES: u32 = 8192;

const SOCKET_NONE: u8 = 0;
const SOCKET_RECEIVER: u8 = 2;
const SOCKET_FILTERED: u8 = 0x80;

/// Offsets in `struct exemplar`.
mod exemplar {
    pub(super) const TIME: usize = 24;
    pub(super) const SOCKET_INODE: usize = 32;
    pub(super) const LEN: usize = 40;
    pub(super) const PACKET_LEN: usize = 44;
    pub(super) const STACK_BYTES: usize = 48;
    pub(super) const MORE_BYTES: usize = 52;
    pub(super) const SOCKET_FAMILY: usize = 56;
    pub(super) const SOCKET_PORT: usize = 58;
    pub(super) const SOCKET_STATE: usize = 60;
    pub(super) const SOCKET_KIND: usize = 61;
    pub(super) const PACKET_BYTES: usize = 62;
    pub(super) const MAC_BYTES: usize = 63;
    pub(super) const DEVICE: usize = 64;
    pub(super) const MAC: usize = 80;
    pub(super) const VLAN: usize = 94;
    pub(super) const PACKET: usize = 96;
    pub(super) const STACK: usize = 192;
    pub(super) const END: usize = 448;
}

/// What drops are counted by. Numbers are those of the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Return address of the call that freed the packet.
    pub location: u64,
    /// Number of the drop reason; 0 on kernels without reasons.
    pub reason: u32,
    /// Inode number of the network namespace; 0 if the packet did not tell.
    pub netns: u32,
    /// Interface index in that namespace; 0 if the packet did not tell.
    pub ifindex: u32,
    /// EtherType (`skb->protocol`).
    pub l3: u16,
    /// IP protocol; of IPv6 the first next-header. `None` if not IP or not readable.
    pub l4: Option<u8>,
    /// What else sets the packets apart.
    pub marks: Marks,
}

impl Key {
    /// The key of a slot; `None` if the slot is free.
    pub(crate) fn in_use(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let key = Self::read(bytes);
        (key.location != 0).then_some(key)
    }

    fn read(bytes: &[u8; KEY_BYTES]) -> Self {
        let marks: u8 = bytes[23];
        Self {
            location: u64_at(bytes, 0),
            reason: u32_at(bytes, 8),
            netns: u32_at(bytes, 12),
            ifindex: u32_at(bytes, 16),
            l3: u16_at(bytes, 20),
            l4: (marks & MARK_L4 != 0).then_some(bytes[22]),
            marks: Marks {
                syn: marks & MARK_SYN != 0,
                multicast: marks & MARK_MULTICAST != 0,
                empty: marks & MARK_EMPTY != 0,
                rx_sk: marks & MARK_RX_SK != 0,
            },
        }
    }
}

/// Packets and bytes of one count, on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Total {
    pub(crate) fn read(bytes: &[u8; TOTAL_BYTES]) -> Self {
        Self { packets: u64_at(bytes, 0), bytes: u64_at(bytes, 8) }
    }
}

/// The slots in use of a bucket, of which `in_use` reads the key.
pub(crate) fn slots<K>(
    bucket: &[u8; BUCKET_BYTES],
    in_use: fn(&[u8; KEY_BYTES]) -> Option<K>,
) -> impl Iterator<Item = (K, Total)> {
    let (slots, _) = bucket.as_chunks::<SLOT_BYTES>();
    slots.iter().filter_map(move |slot| {
        Some((in_use(slot.first_chunk()?)?, Total::read(slot.last_chunk()?)))
    })
}

/// The reason that an element of the remainders counts; `None` for the last, which counts all that
/// have no element of their own.
pub(crate) fn remainder_reason(index: u32) -> Option<u32> {
    match index.checked_sub(REMAINDER_CORE) {
        None => Some(index),
        Some(_) if index >= REMAINDER_OTHER => None,
        Some(rest) => {
            let subsystem = rest / REMAINDER_PER_SUBSYSTEM + 1;
            Some((subsystem << 16) | (rest % REMAINDER_PER_SUBSYSTEM))
        }
    }
}

/// One drop in detail, in the kernel's numbers. [`Resolver`](crate::Resolver) names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDrop {
    /// What it was counted under.
    pub key: Key,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// `skb->len`.
    pub len: u32,
    /// Name of `skb->dev`; `None` if that was not a device any more.
    pub device: Option<Box<str>>,
    /// Link-layer header; `None` if the packet had none (yet).
    pub mac: Option<[u8; 14]>,
    /// Length from the network header on, data outside the linear part included.
    pub packet_len: u32,
    /// The first bytes from the network header on, as many as were asked for and are in the linear
    /// part.
    pub packet: Box<[u8]>,
    /// VLAN id of its tag; `None` if it has none (any more).
    pub vlan: Option<u16>,
    /// Network identifier, if the packet looks like VXLAN from its network header on.
    pub vni: Option<u32>,
    /// Addresses and ports, if the packet is IP.
    pub flow: Option<Flow>,
    /// The receiving or owning socket.
    pub socket: Option<SocketRef>,
    /// Return addresses, innermost first, the tracer's own frames included; empty without stacks.
    pub stack: Box<[u64]>,
}

impl RawDrop {
    /// Copies a record out of the ring; `None` if it is too short to be one. `stacks` says whether
    /// records have room for a stack.
    pub(crate) fn read(record: &[u8], stacks: bool) -> Option<Self> {
        let fixed: &[u8; exemplar::STACK] = record.first_chunk()?;
        let key = Key::read(fixed.first_chunk()?);
        let packet_bytes = usize::from(fixed[exemplar::PACKET_BYTES]);
        let packet = fixed[exemplar::PACKET..].get(..packet_bytes)?;
        let more_bytes = usize::from(u16_at(fixed, exemplar::MORE_BYTES));
        let behind = if stacks { exemplar::END } else { exemplar::STACK };
        let more = record.get(behind..)?.get(..more_bytes)?;
        let stack_bytes = u32_at(fixed, exemplar::STACK_BYTES) as usize;
        let (stack, _) = record[exemplar::STACK..behind].get(..stack_bytes)?.as_chunks();
        Some(Self {
            key,
            monotonic_ns: u64_at(fixed, exemplar::TIME),
            len: u32_at(fixed, exemplar::LEN),
            device: name_at::<16>(fixed, exemplar::DEVICE),
            mac: (fixed[exemplar::MAC_BYTES] == 14)
                .then(|| fixed[exemplar::MAC..].first_chunk().copied())
                .flatten(),
            packet_len: u32_at(fixed, exemplar::PACKET_LEN),
            packet: [packet, more].concat().into(),
            vlan: Some(u16_at(fixed, exemplar::VLAN)).filter(|&id| id != 0),
            vni: packet::vni(key.l3, packet),
            flow: packet::flow(key.l3, packet),
            socket: socket(fixed),
            stack: stack.iter().copied().map(u64::from_ne_bytes).collect(),
        })
    }
}

fn socket(fixed: &[u8; exemplar::STACK]) -> Option<SocketRef> {
    let kind = fixed[exemplar::SOCKET_KIND];
    (kind != SOCKET_NONE).then(|| SocketRef {
        family: u16_at(fixed, exemplar::SOCKET_FAMILY),
        state: fixed[exemplar::SOCKET_STATE],
        local_port: u16_at(fixed, exemplar::SOCKET_PORT),
        inode: u64_at(fixed, exemplar::SOCKET_INODE),
        receiver: kind & !SOCKET_FILTERED == SOCKET_RECEIVER,
        filtered: kind & SOCKET_FILTERED != 0,
    })
}

/// A name, padded with zeroes to `N` bytes; `None` if it is empty.
fn name_at<const N: usize>(bytes: &[u8], at: usize) -> Option<Box<str>> {
    let name = bytes[at..at + N].split(|&byte| byte == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(chunk(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(chunk(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(chunk(bytes, at))
}

/// Panics beyond the end; every caller passes offsets of a record whose size it has checked.
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut chunk = [0; N];
    chunk.copy_from_slice(&bytes[at..at + N]);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::{Btf, tests::object};

    /// Size of a struct and its members as (name, offset, size) in bytes, padding last.
    fn layout(name: &str) -> (u32, Vec<(String, u32, u32)>) {
        let (size, members) = Btf::parse(object()).unwrap().layout(name).unwrap();
        let bytes = members.into_iter().map(|(name, at, size)| (name, at / 8, size / 8));
        (size, bytes.collect())
    }

    fn expect(name: &str, size: usize, members: &[(&str, usize, usize)]) {
        let expected = members
            .iter()
            .map(|&(name, at, size)| (name.to_owned(), at as u32, size as u32))
            .collect();
        assert_eq!(layout(name), (size as u32, expected), "struct {name}");
    }

    #[test]
    fn offsets_are_those_of_the_compiled_object() {
        expect(
            "key",
            KEY_BYTES,
            &[
                ("location", 0, 8),
                ("reason", 8, 4),
                ("netns", 12, 4),
                ("ifindex", 16, 4),
                ("l3", 20, 2),
                ("l4", 22, 1),
                ("marks", 23, 1),
            ],
        );
        expect(
            "total",
            TOTAL_BYTES,
            &[
                ("packets", 0, 8),
                ("bytes", 8, 8),
                ("refilled_ns", 16, 8),
                ("looked_jiffies", 24, 4),
                ("tokens", 28, 4),
            ],
        );
        expect("slot", SLOT_BYTES, &[("", 0, KEY_BYTES), ("total", KEY_BYTES, TOTAL_BYTES)]);
        expect("bucket", BUCKET_BYTES, &[("slot", 0, BUCKET_SLOTS * SLOT_BYTES)]);
        expect(
            "exemplar",
            exemplar::END,
            &[
                ("key", 0, KEY_BYTES),
                ("time_ns", exemplar::TIME, 8),
                ("socket_inode", exemplar::SOCKET_INODE, 8),
                ("len", exemplar::LEN, 4),
                ("packet_len", exemplar::PACKET_LEN, 4),
                ("stack_bytes", exemplar::STACK_BYTES, 4),
                ("more_bytes", exemplar::MORE_BYTES, 2),
                ("reserved", exemplar::MORE_BYTES + 2, 2),
                ("socket_family", exemplar::SOCKET_FAMILY, 2),
                ("socket_port", exemplar::SOCKET_PORT, 2),
                ("socket_state", exemplar::SOCKET_STATE, 1),
                ("socket_kind", exemplar::SOCKET_KIND, 1),
                ("packet_bytes", exemplar::PACKET_BYTES, 1),
                ("mac_bytes", exemplar::MAC_BYTES, 1),
                ("device", exemplar::DEVICE, 16),
                ("mac", exemplar::MAC, 14),
                ("vlan", exemplar::VLAN, 2),
                ("packet", exemplar::PACKET, 96),
                ("stack", exemplar::STACK, 32 * 8),
            ],
        );
    }

    /// Numbers that are not in BTF, from the header itself.
    #[test]
    fn constants_are_those_of_the_header() {
        let header = include_str!("../bpf/wire.h");
        let constant = |name: &str| {
            let line = header.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some("#define") && words.next() == Some(name))
                    .then(|| words.next())?
            });
            let text = line.unwrap_or_else(|| panic!("{name} is not defined"));
            match text.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
                None => text.parse().unwrap(),
            }
        };
        for (name, value) in [
            ("BUCKET_SLOTS", BUCKET_SLOTS as u32),
            ("REMAINDER_CORE", REMAINDER_CORE),
            ("REMAINDER_SUBSYSTEMS", REMAINDER_SUBSYSTEMS),
            ("REMAINDER_PER_SUBSYSTEM", REMAINDER_PER_SUBSYSTEM),
            ("COUNTER_SAMPLED", COUNTER_SAMPLED),
            ("COUNTER_RING_FULL", COUNTER_RING_FULL),
            ("REST_NS", REST_NS),
            ("MORE_BYTES", MORE_BYTES),
            ("PACKET_BYTES", PACKET_BYTES),
            ("MARK_SYN", MARK_SYN.into()),
            ("MARK_MULTICAST", MARK_MULTICAST.into()),
            ("MARK_EMPTY", MARK_EMPTY.into()),
            ("MARK_RX_SK", MARK_RX_SK.into()),
            ("MARK_L4", MARK_L4.into()),
            ("SOCKET_NONE", SOCKET_NONE.into()),
            ("SOCKET_RECEIVER", SOCKET_RECEIVER.into()),
            ("SOCKET_FILTERED", SOCKET_FILTERED.into()),
        ] {
            assert_eq!(constant(name), value, "{name}");
        }
    }

    #[test]
    fn remainders_name_their_reason() {
        assert_eq!(remainder_reason(0), Some(0));
        assert_eq!(remainder_reason(255), Some(255));
        assert_eq!(remainder_reason(256), Some(0x1_0000));
        assert_eq!(remainder_reason(256 + 64 + 5), Some(0x2_0005));
        assert_eq!(remainder_reason(REMAINDER_OTHER - 1), Some(0x4_003f));
        assert_eq!(remainder_reason(REMAINDER_OTHER), None);
    }

    fn record() -> Vec<u8> {
        let mut record = vec![0; exemplar::END];
        record[..8].copy_from_slice(&0xffff_ffff_8100_0000_u64.to_ne_bytes());
        record[20..22].copy_from_slice(&0x0800_u16.to_ne_bytes());
        record[22] = 17;
        record[23] = MARK_L4 | MARK_RX_SK;
        record[exemplar::SOCKET_KIND] = SOCKET_RECEIVER;
        record[exemplar::SOCKET_PORT..][..2].copy_from_slice(&53_u16.to_ne_bytes());
        record[exemplar::DEVICE..][..4].copy_from_slice(b"eth0");
        record[exemplar::STACK_BYTES] = 16;
        record[exemplar::STACK..][..8].copy_from_slice(&7_u64.to_ne_bytes());
        record
    }

    #[test]
    fn a_record_is_copied_out() {
        let drop = RawDrop::read(&record(), true).unwrap();
        assert_eq!(drop.key.l4, Some(17));
        assert!(drop.key.marks.rx_sk && !drop.key.marks.syn);
        assert_eq!(drop.device.as_deref(), Some("eth0"));
        assert_eq!(drop.socket.unwrap().local_port, 53);
        assert_eq!(*drop.stack, [7, 0]);
        assert_eq!((drop.mac, drop.flow), (None, None));
    }

    #[test]
    fn lengths_in_a_record_are_not_believed() {
        let mut record = record();
        for length in 0..exemplar::STACK {
            assert_eq!(RawDrop::read(&record[..length], true), None);
        }
        // A record without room for the stack it claims.
        assert_eq!(RawDrop::read(&record[..exemplar::STACK], true), None);
        record[exemplar::STACK_BYTES + 3] = 0xff;
        assert_eq!(RawDrop::read(&record, true), None);
        record[exemplar::STACK_BYTES + 3] = 0;
        record[exemplar::PACKET_BYTES] = 97;
        assert_eq!(RawDrop::read(&record, true), None);
        record[exemplar::PACKET_BYTES] = 96;
        record[exemplar::MORE_BYTES] = 1;
        assert_eq!(RawDrop::read(&record, true), None);
        // The bytes of the packet that follow are no addresses.
        record.push(7);
        assert_eq!(RawDrop::read(&record, true).map(|drop| drop.packet.len()), Some(97));
        record[exemplar::STACK_BYTES + 1] = 0x10;
        record.resize(1 << 13, 0);
        assert_eq!(RawDrop::read(&record, true), None);
    }

    #[test]
    fn the_bytes_of_a_packet_go_on_behind_the_stack() {
        let mut record = record();
        record[exemplar::PACKET_BYTES] = 96;
        record[exemplar::PACKET + 95] = 1;
        record[exemplar::MORE_BYTES] = 2;
        record.extend([2, 3, 4]);
        let packet = RawDrop::read(&record, true).unwrap().packet;
        assert_eq!((packet.len(), &packet[95..]), (98, &[1, 2, 3][..]));
        record[exemplar::STACK_BYTES] = 0;
        record.drain(exemplar::STACK..exemplar::END);
        assert_eq!(RawDrop::read(&record, false).unwrap().packet, packet);
    }

    #[test]
    fn empty_slots_are_skipped() {
        let mut bucket = [0; BUCKET_BYTES];
        bucket[SLOT_BYTES] = 1;
        bucket[SLOT_BYTES + KEY_BYTES] = 9;
        let found: Vec<_> = slots(&bucket, Key::in_use).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, Total { packets: 9, bytes: 0 });
    }
}
