//! What drivers tell of their devices: `ethtool -i`, `-S`, `-g`, `-l`, `-c`, `-a`, `-k` and the speed.
//!
//! By the old ioctl, which every kernel answers in the same form and which alone has the driver's own
//! statistics. A driver that has no answer to a question leaves its field empty. Loopback is not
//! asked: it has no driver.

use std::collections::BTreeMap;

use rustix::io::Errno;
use whydrop_model::Driver;

use crate::collector::{Collector, EthtoolFacts, Facts, Place, Read};
use crate::collectors::links;
use crate::error::Why;
use crate::ethtool_ioctl::{Ethtool, Get, Strings};
use crate::netlink::{text, u32_at, u64_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "ethtool", what: "statistics of drivers", read: Read::Namespace(read) };

/// The structures that hold nothing but numbers, in order, after the command.
const RING: &[&str] = &[
    "rx_max_pending",
    "rx_mini_max_pending",
    "rx_jumbo_max_pending",
    "tx_max_pending",
    "rx_pending",
    "rx_mini_pending",
    "rx_jumbo_pending",
    "tx_pending",
];
const CHANNELS: &[&str] = &[
    "max_rx",
    "max_tx",
    "max_other",
    "max_combined",
    "rx_count",
    "tx_count",
    "other_count",
    "combined_count",
];
const COALESCE: &[&str] = &[
    "rx_coalesce_usecs",
    "rx_max_coalesced_frames",
    "rx_coalesce_usecs_irq",
    "rx_max_coalesced_frames_irq",
    "tx_coalesce_usecs",
    "tx_max_coalesced_frames",
    "tx_coalesce_usecs_irq",
    "tx_max_coalesced_frames_irq",
    "stats_block_coalesce_usecs",
    "use_adaptive_rx_coalesce",
    "use_adaptive_tx_coalesce",
    "pkt_rate_low",
    "rx_coalesce_usecs_low",
    "rx_max_coalesced_frames_low",
    "tx_coalesce_usecs_low",
    "tx_max_coalesced_frames_low",
    "pkt_rate_high",
    "rx_coalesce_usecs_high",
    "rx_max_coalesced_frames_high",
    "tx_coalesce_usecs_high",
    "tx_max_coalesced_frames_high",
    "rate_sample_interval",
];
const PAUSE: &[&str] = &["autoneg", "rx_pause", "tx_pause"];

/// Where `struct ethtool_drvinfo` has its names, each of 32 bytes.
const DRVINFO: [usize; 4] = [4, 36, 68, 100];

/// Most offloads a kernel could have: the bits of `netdev_features_t` are 64 as of 6.18.
const MOST_FEATURES: u32 = 512;

/// Where `struct ethtool_link_settings` tells how long its masks are.
const LINK_MODE_MASKS_NWORDS: usize = 15;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let devices = links::named(place)?;
    if devices.is_empty() {
        return Ok(());
    }
    let mut ethtool = Ethtool::open()?;
    // Any device that has not gone away meanwhile knows the names.
    let offloads: Vec<String> = devices
        .iter()
        .find_map(|device| {
            let names = ethtool.strings(&device.name, Strings::Features).ok()??;
            Some(names.into_iter().map(text).collect())
        })
        .unwrap_or_default();
    for links::Named { ifindex, name, .. } in devices {
        match device(&mut ethtool, ifindex, &name, &offloads) {
            Ok(told) => facts.ethtool.push(told),
            // It went away.
            Err(Errno::NODEV) => {}
            Err(error) => facts.partial.push(Why::new(format!("{name}: {}", Why::from(error).0))),
        }
    }
    Ok(())
}

fn device(
    ethtool: &mut Ethtool,
    ifindex: u32,
    name: &str,
    offloads: &[String],
) -> Result<EthtoolFacts, Errno> {
    let statistics = match statistics(ethtool, name) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        other => other?,
    };
    let mut numbers = |get, fields: &[&str]| {
        let answer = ethtool.get(name, get, &[]);
        answer.map(|answer| numbered(answer, fields)).unwrap_or_default()
    };
    let [mut ring, mut channels, mut coalesce] =
        [(Get::Ring, RING), (Get::Channels, CHANNELS), (Get::Coalesce, COALESCE)]
            .map(|(get, fields)| numbers(get, fields));
    let pause = numbers(Get::Pause, PAUSE);
    for settings in [&mut ring, &mut channels, &mut coalesce] {
        // The device has nothing of the kind, or it is off.
        settings.retain(|_, value| *value != 0);
    }
    let (speed, full_duplex) = link_settings(ethtool, name).unwrap_or_default();
    Ok(EthtoolFacts {
        ifindex,
        driver: ethtool.get(name, Get::DriverInfo, &[]).ok().and_then(driver),
        statistics,
        ring,
        channels,
        coalesce,
        pause,
        features: features(ethtool, name, offloads).unwrap_or_default(),
        speed,
        full_duplex,
    })
}

fn statistics(ethtool: &mut Ethtool, device: &str) -> Result<Vec<(String, u64)>, Errno> {
    let Some(names) = ethtool.strings(device, Strings::Statistics)? else { return Ok(Vec::new()) };
    let names: Vec<String> = names.into_iter().map(text).collect();
    let Some(values) = ethtool.statistics(device)? else { return Ok(Vec::new()) };
    if values.len() != names.len() * 8 {
        // The device was reconfigured in between, so that names and values do not match.
        return Err(Errno::AGAIN);
    }
    Ok(named(&names, values))
}

/// Values with their names. Some drivers indent names, or leave the names of what they do not have
/// empty. Some give each queue the same names (vmxnet3): the second and later get a number, as
/// `pkts rx OOB [1]`.
pub(crate) fn named(names: &[String], values: &[u8]) -> Vec<(String, u64)> {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    let mut all = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let (name, Some(value)) = (name.trim(), u64_at(values, at * 8)) else { break };
        if name.is_empty() {
            continue;
        }
        let times = times.entry(name).or_default();
        all.push((if *times == 0 { name.to_owned() } else { format!("{name} [{times}]") }, value));
        *times += 1;
    }
    all
}

pub(crate) fn numbered(answer: &[u8], fields: &[&str]) -> BTreeMap<String, u32> {
    fields
        .iter()
        .enumerate()
        .filter_map(|(at, field)| Some(((*field).to_owned(), u32_at(answer, 4 + at * 4)?)))
        .collect()
}

pub(crate) fn driver(answer: &[u8]) -> Option<Driver> {
    let [name, version, firmware, bus] = DRVINFO.map(|at| {
        let told = answer.get(at..at + 32).map(text).unwrap_or_default();
        if told == "N/A" { String::new() } else { told }
    });
    (!name.is_empty()).then_some(Driver { name, version, firmware, bus })
}

fn features(ethtool: &mut Ethtool, device: &str, names: &[String]) -> Result<Vec<String>, Errno> {
    let blocks = (names.len() as u32).min(MOST_FEATURES).div_ceil(32);
    let answer = ethtool.get(device, Get::Features, &[blocks])?;
    Ok(active(answer, names))
}

/// The offloads that are on. `struct ethtool_gfeatures` holds for each 32 of them the masks
/// available, requested, active and never changed.
pub(crate) fn active(answer: &[u8], names: &[String]) -> Vec<String> {
    let blocks = u32_at(answer, 4).unwrap_or(0) as usize;
    let is_active = |at: usize| {
        let block = at / 32;
        let mask = u32_at(answer, 8 + block * 16 + 8).filter(|_| block < blocks).unwrap_or(0);
        mask >> (at % 32) & 1 == 1
    };
    let named = names.iter().enumerate().filter(|(_, name)| !name.is_empty());
    named.filter(|(at, _)| is_active(*at)).map(|(_, name)| name.clone()).collect()
}

/// Speed, and whether the link is full duplex. Asked twice: the first answer only tells the length
/// of the second, as a negative number.
fn link_settings(
    ethtool: &mut Ethtool,
    device: &str,
) -> Result<(Option<u32>, Option<bool>), Errno> {
    let answer = ethtool.get(device, Get::LinkSettings, &[])?;
    let words = answer.get(LINK_MODE_MASKS_NWORDS).map_or(0, |&words| words.wrapping_neg());
    let mut header = [0_u8; 12];
    header[LINK_MODE_MASKS_NWORDS - 4] = words;
    let header: Vec<u32> = (0..3).filter_map(|at| u32_at(&header, at * 4)).collect();
    Ok(speed_and_duplex(ethtool.get(device, Get::LinkSettings, &header)?))
}

pub(crate) fn speed_and_duplex(answer: &[u8]) -> (Option<u32>, Option<bool>) {
    // Unknown is -1, and 0 without a link.
    let speed = u32_at(answer, 4).filter(|&speed| speed != 0 && speed != u32::MAX);
    let full_duplex = match answer.get(8) {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    };
    (speed, full_duplex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn structures_of_numbers() {
        let ring = numbered(&words(&[0x10, 4096, 0, 0, 4096, 512, 0, 0, 256]), RING);
        assert_eq!(
            (ring["rx_max_pending"], ring["rx_pending"], ring["tx_pending"]),
            (4096, 512, 256)
        );
        let short = numbered(&words(&[0x12, 1, 0]), PAUSE);
        assert_eq!(short.len(), 2, "what the kernel does not tell is not there");
        assert_eq!(COALESCE.len() * 4 + 4, 92, "bytes of struct ethtool_coalesce");
    }

    #[test]
    fn names_are_trimmed_numbered_and_empty_ones_dropped() {
        let names = ["  pkts rx OOB", "", "rx_drops", "pkts rx OOB"].map(str::to_owned);
        let values: Vec<u8> = (1..=4_u64).flat_map(u64::to_ne_bytes).collect();
        let all = named(&names, &values);
        let expected = [("pkts rx OOB", 1), ("rx_drops", 3), ("pkts rx OOB [1]", 4)];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(named(&names, &values[..12]).len(), 1, "half a number is none");
    }

    #[test]
    fn a_driver_that_does_not_know_says_nothing() {
        let mut answer = vec![0; 196];
        answer[4..10].copy_from_slice(b"bridge");
        answer[68..71].copy_from_slice(b"N/A");
        let told = driver(&answer).unwrap();
        assert_eq!((told.name.as_str(), told.firmware.as_str()), ("bridge", ""));
        assert_eq!(driver(&[0; 196]), None);
        assert_eq!(driver(&[]), None);
    }

    #[test]
    fn offloads_that_are_on() {
        let names: Vec<String> = (0..70).map(|at| format!("f{at}")).collect();
        let answer = words(&[0x3a, 2, !0, 0, 0b101, 0, !0, 0, 1 << 31, 0, !0, 0, !0, 0]);
        assert_eq!(active(&answer, &names), ["f0", "f2", "f63"], "the third block was not told");
        assert_eq!(active(&answer[..20], &names), ["f0", "f2"]);
    }

    #[test]
    fn speed_known_and_unknown() {
        let answer = |speed: u32, duplex: u8| [&words(&[0x4c, speed])[..], &[duplex; 8]].concat();
        assert_eq!(speed_and_duplex(&answer(10_000, 1)), (Some(10_000), Some(true)));
        assert_eq!(speed_and_duplex(&answer(100, 0)), (Some(100), Some(false)));
        assert_eq!(speed_and_duplex(&answer(u32::MAX, 0xff)), (None, None));
        assert_eq!(speed_and_duplex(&[]), (None, None));
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let names: Vec<String> = (0..100).map(|at| format!("f{at}")).collect();
            active(&bytes, &names);
            driver(&bytes);
            named(&names, &bytes);
            numbered(&bytes, COALESCE);
            speed_and_duplex(&bytes);
        }
    }
}
