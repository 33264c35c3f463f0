//! Statistics of devices that mean the same for every driver: IEEE 802.3 and RMON counters and pause
//! frames from the family `ethtool` (5.13, 5.9), totals of all queues from the family `netdev` (6.9).
//!
//! A kernel without these families, and a driver that does not report, has none; both are common.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::genetlink::{attributes, dump, family};
use crate::netlink::{Attributes, Protocol, push_attribute, u32_at, u64_at};

pub(crate) const COLLECTOR: Collector = Collector {
    name: "standard_stats",
    what: "standard statistics of devices",
    read: Read::Namespace(read),
};

/// `include/uapi/linux/netdev.h`.
const NETDEV_CMD_QSTATS_GET: u8 = 12;
const NETDEV_A_QSTATS_IFINDEX: u16 = 1;
/// The first of [`QSTATS`].
const NETDEV_A_QSTATS_RX_PACKETS: u16 = 8;

/// By the names of `Documentation/netlink/specs/netdev.yaml`. Kernels add at the end.
const QSTATS: [&str; 27] = [
    "rx-packets",
    "rx-bytes",
    "tx-packets",
    "tx-bytes",
    "rx-alloc-fail",
    "rx-hw-drops",
    "rx-hw-drop-overruns",
    "rx-csum-complete",
    "rx-csum-unnecessary",
    "rx-csum-none",
    "rx-csum-bad",
    "rx-hw-gro-packets",
    "rx-hw-gro-bytes",
    "rx-hw-gro-wire-packets",
    "rx-hw-gro-wire-bytes",
    "rx-hw-drop-ratelimits",
    "tx-hw-drops",
    "tx-hw-drop-errors",
    "tx-csum-none",
    "tx-needs-csum",
    "tx-hw-gso-packets",
    "tx-hw-gso-bytes",
    "tx-hw-gso-wire-packets",
    "tx-hw-gso-wire-bytes",
    "tx-hw-drop-ratelimits",
    "tx-stop",
    "tx-wake",
];

/// `include/uapi/linux/ethtool_netlink.h`.
const ETHTOOL_MSG_PAUSE_GET: u8 = 21;
const ETHTOOL_MSG_STATS_GET: u8 = 32;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_STATS: u32 = 1 << 2;
const ETHTOOL_A_PAUSE_HEADER: u16 = 1;
const ETHTOOL_A_PAUSE_STATS: u16 = 5;
const ETHTOOL_A_PAUSE_STAT_TX_FRAMES: u16 = 2;
const ETHTOOL_A_PAUSE_STAT_RX_FRAMES: u16 = 3;
const ETHTOOL_A_STATS_HEADER: u16 = 2;
const ETHTOOL_A_STATS_GROUPS: u16 = 3;
const ETHTOOL_A_STATS_GRP: u16 = 4;
const ETHTOOL_A_STATS_GRP_ID: u16 = 2;
const ETHTOOL_A_STATS_GRP_STAT: u16 = 4;
const ETHTOOL_A_BITSET_NOMASK: u16 = 1;
const ETHTOOL_A_BITSET_SIZE: u16 = 2;
const ETHTOOL_A_BITSET_VALUE: u16 = 4;
const NLA_F_NESTED: u16 = 0x8000;

/// The groups in order, each with its statistics in order, by the kernel's own strings. The kernel
/// knows more groups; these are about packets on the wire.
const GROUPS: [(&str, &[&str]); 4] = [
    ("eth-phy", &["SymbolErrorDuringCarrier"]),
    (
        "eth-mac",
        &[
            "FramesTransmittedOK",
            "SingleCollisionFrames",
            "MultipleCollisionFrames",
            "FramesReceivedOK",
            "FrameCheckSequenceErrors",
            "AlignmentErrors",
            "OctetsTransmittedOK",
            "FramesWithDeferredXmissions",
            "LateCollisions",
            "FramesAbortedDueToXSColls",
            "FramesLostDueToIntMACXmitError",
            "CarrierSenseErrors",
            "OctetsReceivedOK",
            "FramesLostDueToIntMACRcvError",
            "MulticastFramesXmittedOK",
            "BroadcastFramesXmittedOK",
            "FramesWithExcessiveDeferral",
            "MulticastFramesReceivedOK",
            "BroadcastFramesReceivedOK",
            "InRangeLengthErrors",
            "OutOfRangeLengthField",
            "FrameTooLongErrors",
        ],
    ),
    (
        "eth-ctrl",
        &["MACControlFramesTransmitted", "MACControlFramesReceived", "UnsupportedOpcodesReceived"],
    ),
    (
        "rmon",
        &[
            "etherStatsUndersizePkts",
            "etherStatsOversizePkts",
            "etherStatsFragments",
            "etherStatsJabbers",
        ],
    ),
];

/// One device: its index, and its statistics with the name of their group.
pub(crate) type Told = (u32, Vec<(String, u64)>);

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Generic)?;
    let mut told: Vec<Told> = Vec::new();
    if let Some(ethtool) = family(&mut socket, place.buffer, "ethtool")? {
        let request = all_groups();
        told.extend(dump(
            &mut socket,
            place.buffer,
            ethtool,
            ETHTOOL_MSG_STATS_GET,
            &request,
            groups,
        )?);
        let request = with_statistics();
        told.extend(dump(
            &mut socket,
            place.buffer,
            ethtool,
            ETHTOOL_MSG_PAUSE_GET,
            &request,
            pause,
        )?);
    }
    if let Some(netdev) = family(&mut socket, place.buffer, "netdev")? {
        told.extend(dump(&mut socket, place.buffer, netdev, NETDEV_CMD_QSTATS_GET, &[], qstats)?);
    }
    for (ifindex, statistics) in told {
        facts.standard_stats.extend(statistics.into_iter().map(|it| (ifindex, it.0, it.1)));
    }
    Ok(())
}

/// Asks for the statistics of the first groups, as many as [`GROUPS`] has.
fn all_groups() -> Vec<u8> {
    let mut bits = Vec::new();
    push_attribute(&mut bits, ETHTOOL_A_BITSET_NOMASK, &[]);
    push_attribute(&mut bits, ETHTOOL_A_BITSET_SIZE, &(GROUPS.len() as u32).to_ne_bytes());
    let value = (1_u32 << GROUPS.len()) - 1;
    push_attribute(&mut bits, ETHTOOL_A_BITSET_VALUE, &value.to_ne_bytes());
    let mut request = Vec::new();
    push_attribute(&mut request, ETHTOOL_A_STATS_HEADER | NLA_F_NESTED, &[]);
    push_attribute(&mut request, ETHTOOL_A_STATS_GROUPS | NLA_F_NESTED, &bits);
    request
}

fn with_statistics() -> Vec<u8> {
    let mut header = Vec::new();
    push_attribute(&mut header, ETHTOOL_A_HEADER_FLAGS, &ETHTOOL_FLAG_STATS.to_ne_bytes());
    let mut request = Vec::new();
    push_attribute(&mut request, ETHTOOL_A_PAUSE_HEADER | NLA_F_NESTED, &header);
    request
}

fn ifindex(header: &[u8]) -> Option<u32> {
    let (_, value) = Attributes(header).find(|(kind, _)| *kind == ETHTOOL_A_HEADER_DEV_INDEX)?;
    u32_at(value, 0)
}

/// An answer to `ETHTOOL_MSG_STATS_GET`; `None` without a device or without statistics.
pub(crate) fn groups(payload: &[u8]) -> Option<Told> {
    let (mut device, mut statistics) = (None, Vec::new());
    for (kind, value) in attributes(payload) {
        match kind {
            ETHTOOL_A_STATS_HEADER => device = ifindex(value),
            ETHTOOL_A_STATS_GRP => group(value, &mut statistics),
            _ => {}
        }
    }
    (!statistics.is_empty()).then_some((device?, statistics))
}

fn group(nested: &[u8], statistics: &mut Vec<(String, u64)>) {
    let id = Attributes(nested).find(|(kind, _)| *kind == ETHTOOL_A_STATS_GRP_ID);
    let id = id.and_then(|(_, value)| u32_at(value, 0));
    let Some((group, names)) = id.and_then(|id| GROUPS.get(id as usize)) else { return };
    let values = Attributes(nested)
        .filter(|(kind, _)| *kind == ETHTOOL_A_STATS_GRP_STAT)
        .flat_map(|(_, value)| Attributes(value));
    for (at, value) in values {
        if let (Some(name), Some(value)) = (names.get(usize::from(at)), u64_at(value, 0)) {
            statistics.push((format!("{group}.{name}"), value));
        }
    }
}

/// An answer to `ETHTOOL_MSG_PAUSE_GET`, likewise.
pub(crate) fn pause(payload: &[u8]) -> Option<Told> {
    let (mut device, mut statistics) = (None, Vec::new());
    for (kind, value) in attributes(payload) {
        match kind {
            ETHTOOL_A_PAUSE_HEADER => device = ifindex(value),
            ETHTOOL_A_PAUSE_STATS => {
                for (kind, value) in Attributes(value) {
                    let name = match kind {
                        ETHTOOL_A_PAUSE_STAT_TX_FRAMES => "pause.tx_pause_frames",
                        ETHTOOL_A_PAUSE_STAT_RX_FRAMES => "pause.rx_pause_frames",
                        _ => continue,
                    };
                    statistics.extend(u64_at(value, 0).map(|value| (name.to_owned(), value)));
                }
            }
            _ => {}
        }
    }
    (!statistics.is_empty()).then_some((device?, statistics))
}

/// An answer to `NETDEV_CMD_QSTATS_GET`, likewise. The kernel writes each number in four bytes if it
/// fits, else in eight.
pub(crate) fn qstats(payload: &[u8]) -> Option<Told> {
    let (mut device, mut statistics) = (None, Vec::new());
    for (kind, value) in attributes(payload) {
        if kind == NETDEV_A_QSTATS_IFINDEX {
            device = u32_at(value, 0);
        }
        let name =
            kind.checked_sub(NETDEV_A_QSTATS_RX_PACKETS).and_then(|at| QSTATS.get(usize::from(at)));
        let value = u64_at(value, 0).or_else(|| u32_at(value, 0).map(u64::from));
        if let (Some(name), Some(value)) = (name, value) {
            statistics.push((format!("qstats.{name}"), value));
        }
    }
    (!statistics.is_empty()).then_some((device?, statistics))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            push_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        [vec![0; 4], nested(attributes)].concat()
    }

    #[test]
    fn recorded_totals_of_queues() {
        let told: Vec<Told> =
            fixture::netlink("linux-6.18-qstats.bin").iter().filter_map(|it| qstats(it)).collect();
        let [(ifindex, statistics)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*ifindex, 4);
        let names: Vec<&str> = statistics.iter().map(|it| it.0.as_str()).collect();
        assert!(names.contains(&"qstats.rx-packets") && names.contains(&"qstats.tx-stop"));
        let packets = statistics.iter().find(|it| it.0 == "qstats.rx-packets").unwrap();
        assert!(packets.1 > 100);
    }

    #[test]
    fn numbers_short_and_long_and_those_of_tomorrow() {
        let index = 7_u32.to_ne_bytes();
        let (short, long) = (5_u32.to_ne_bytes(), (1_u64 << 40).to_ne_bytes());
        let told = qstats(&message(&[(1, &index), (13, &short), (34, &long), (90, &short)]));
        let expected = [("qstats.rx-hw-drops", 5), ("qstats.tx-wake", 1 << 40)];
        assert_eq!(told, Some((7, expected.map(|(name, value)| (name.to_owned(), value)).into())));
        assert_eq!(qstats(&message(&[(1, &index)])), None);
        assert_eq!(qstats(&message(&[(13, &short)])), None);
    }

    #[test]
    fn groups_and_pause_frames() {
        let header = nested(&[(1, &7_u32.to_ne_bytes()), (2, b"eth0\0")]);
        let value = 9_u64.to_ne_bytes();
        let stat = |at: u16| nested(&[(at, &value)]);
        let group = |id: u32, at: u16| {
            nested(&[(2, &id.to_ne_bytes()), (3, &[20, 0, 0, 0]), (4, &stat(at)), (4, &stat(99))])
        };
        let told = groups(&message(&[
            (2, &header),
            (4, &group(1, 4)),
            (4, &group(3, 3)),
            (4, &group(0, 0)),
            (4, &group(17, 0)),
        ]));
        let expected = [
            "eth-mac.FrameCheckSequenceErrors",
            "rmon.etherStatsJabbers",
            "eth-phy.SymbolErrorDuringCarrier",
        ];
        assert_eq!(told, Some((7, expected.map(|name| (name.to_owned(), 9)).into())));

        let stats = nested(&[(2, &value), (3, &value), (8, &value)]);
        let told = pause(&message(&[(1, &header), (2, &[1]), (5, &stats)]));
        let expected = ["pause.tx_pause_frames", "pause.rx_pause_frames"];
        assert_eq!(told, Some((7, expected.map(|name| (name.to_owned(), 9)).into())));
        assert_eq!(pause(&message(&[(1, &header), (2, &[1])])), None, "settings alone");
    }

    #[test]
    fn the_kernel_understands_the_requests() {
        use crate::Roots;
        use crate::netlink::Buffer;
        let (roots, mut buffer) = (Roots::default(), Buffer::new());
        let place = Place::here(&roots, &mut buffer);
        let mut socket = place.netlink(Protocol::Generic).unwrap();
        let Some(ethtool) = family(&mut socket, place.buffer, "ethtool").unwrap() else { return };
        for (command, request) in
            [(ETHTOOL_MSG_STATS_GET, all_groups()), (ETHTOOL_MSG_PAUSE_GET, with_statistics())]
        {
            let request = [&[command, 1, 0, 0][..], &request].concat();
            let answer = socket.dump(ethtool, &request, place.buffer, |_| Some(()));
            assert!(answer.is_ok(), "{command}: {answer:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            qstats(&bytes);
            groups(&bytes);
            pause(&bytes);
        }
    }
}
