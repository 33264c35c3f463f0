//! What the statistics of network drivers mean.
//!
//! Every driver names its statistics as it likes (`ethtool -S`). The table
//! `knowledge/nic-statistics.tsv` says which of them tell of loss, of what kind, and in which other
//! counter the same packets are counted again; the first row that fits a name counts. What is in no
//! row tells nothing about loss. Statistics that mean the same for every driver have the driver
//! [`STANDARD`].

use std::sync::LazyLock;

/// Stands for the driver of the statistics in `Link::standard_stats`.
pub const STANDARD: &str = "standard";

/// What a statistic tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Packets lost before the host: it had no buffer in the ring.
    NoBuffer,
    /// Packets lost before the host: the buffer of the port overflowed, because of the bus as a rule.
    PortOverflow,
    /// The ring was nearly or for a moment empty; nothing need be lost.
    NearEmpty,
    /// No memory for a buffer or a packet.
    NoMemory,
    /// Frames damaged on the way: cable, optics, duplex.
    Physical,
    /// The link was down.
    LinkDown,
    /// Frames longer or shorter than this device accepts.
    Size,
    /// The switch held this host back; not a loss.
    PauseReceived,
    /// This host held the switch back: it cannot keep up; not a loss here.
    PauseSent,
    /// The bus is the bottleneck.
    Pcie,
    /// An XDP program refused packets.
    XdpDrop,
    /// What an XDP program wanted to send was lost.
    XdpError,
    /// The ring for sending was full and packets waited; not a loss.
    TxStopped,
    /// Packets lost when they should have been sent.
    TxLoss,
    /// The device stopped sending altogether.
    TxHang,
    /// Held back or dropped by a limit of the cloud or the hypervisor.
    Policer,
    /// Nobody here wanted it; not a loss.
    Unwanted,
    /// A wrong checksum; the stack decides what becomes of the packet.
    Checksum,
    /// Dropped by driver or device for a reason that the name does not tell.
    DriverDrop,
    /// Not a count but a state; or a count of something normal.
    State,
}

impl Class {
    /// Every class with its name in the table.
    const NAMES: [(Self, &'static str); 20] = [
        (Self::NoBuffer, "no-buffer"),
        (Self::PortOverflow, "port-overflow"),
        (Self::NearEmpty, "near-empty"),
        (Self::NoMemory, "no-memory"),
        (Self::Physical, "physical"),
        (Self::LinkDown, "link-down"),
        (Self::Size, "size"),
        (Self::PauseReceived, "pause-received"),
        (Self::PauseSent, "pause-sent"),
        (Self::Pcie, "pcie"),
        (Self::XdpDrop, "xdp-drop"),
        (Self::XdpError, "xdp-error"),
        (Self::TxStopped, "tx-stopped"),
        (Self::TxLoss, "tx-loss"),
        (Self::TxHang, "tx-hang"),
        (Self::Policer, "policer"),
        (Self::Unwanted, "unwanted"),
        (Self::Checksum, "checksum"),
        (Self::DriverDrop, "driver-drop"),
        (Self::State, "state"),
    ];

    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(class, _)| *class == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }
}

/// What one statistic means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistic {
    /// What it tells of.
    pub class: Class,
    /// What it counts: `packets`, `frames`, `events`, `bytes`, `usecs`, `percent`.
    pub unit: &'static str,
    /// The counter in which the same is counted again: a field of `rtnl_link_stats64` or a statistic
    /// of the same driver. Only what is in no other counter may be added up.
    pub within: Option<&'static str>,
    /// One line.
    pub meaning: &'static str,
    /// The queue, if it is about one.
    pub queue: Option<u32>,
    /// The row is about this driver; otherwise only the name suggests the meaning.
    pub certain: bool,
}

#[derive(Debug)]
struct Row {
    drivers: &'static str,
    pattern: &'static str,
    statistic: Statistic,
}

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    include_str!("../knowledge/nic-statistics.tsv").lines().skip(1).filter_map(row).collect()
});

fn row(line: &'static str) -> Option<Row> {
    let mut fields = line.split('\t');
    let (drivers, pattern) = (fields.next()?, fields.next()?);
    Some(Row {
        drivers,
        pattern,
        statistic: Statistic {
            class: Class::named(fields.next()?)?,
            unit: fields.next()?,
            within: fields.next().filter(|within| *within != "-"),
            meaning: fields.next()?,
            queue: None,
            certain: drivers != "*",
        },
    })
}

/// What a driver's statistic means; `None` if it tells nothing about loss, or nothing that is known.
#[must_use]
pub fn statistic(driver: &str, name: &str) -> Option<Statistic> {
    let (name, repeated) = without_repeat(name);
    TABLE
        .iter()
        .filter(|row| row.drivers == "*" || row.drivers.split(',').any(|known| known == driver))
        .find_map(|row| {
            let fit = fit(row.pattern.as_bytes(), name.as_bytes())?;
            Some(Statistic { queue: fit.number.or(repeated), ..row.statistic })
        })
}

/// The class of a driver's statistic; see [`statistic`].
#[must_use]
pub fn class_of(driver: &str, name: &str) -> Option<Class> {
    statistic(driver, name).map(|statistic| statistic.class)
}

/// A driver that gives several statistics the same name means queues; the collector numbers the
/// second and later ones, as `pkts rx OOB [1]`.
fn without_repeat(name: &str) -> (&str, Option<u32>) {
    let split = name.strip_suffix(']').and_then(|name| name.rsplit_once(" ["));
    match split.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
        Some((name, number)) => (name, Some(number)),
        None => (name, None),
    }
}

/// A name that fits its pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fit {
    /// The first number that stands for `#`.
    number: Option<u32>,
}

/// Whether a name fits a pattern: `*` stands for anything, `?` for one byte, `#` for a number.
fn fit(pattern: &[u8], name: &[u8]) -> Option<Fit> {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty().then_some(Fit { number: None });
    };
    match first {
        b'*' => (0..=name.len()).find_map(|at| fit(rest, &name[at..])),
        b'#' => {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&name[..digits]).ok()?.parse().ok()?;
            fit(rest, &name[digits..]).map(|_| Fit { number: Some(number) })
        }
        b'?' => fit(rest, name.get(1..)?),
        _ => fit(rest, name.strip_prefix(std::slice::from_ref(first))?),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Names of statistics with the class that they must have, or `-`. Those of `virtio_net` and
    /// `veth` are recorded on 6.18 (`virtio_net` also on kernels from 5.10 to 7.2), the others are
    /// written down from what their drivers have.
    const LISTS: [(&str, &str); 12] = [
        ("virtio_net", include_str!("../fixtures/ethtool/virtio_net.tsv")),
        ("veth", include_str!("../fixtures/ethtool/veth.tsv")),
        ("ena", include_str!("../fixtures/ethtool/ena.tsv")),
        ("gve", include_str!("../fixtures/ethtool/gve.tsv")),
        ("mlx5_core", include_str!("../fixtures/ethtool/mlx5_core.tsv")),
        ("ixgbe", include_str!("../fixtures/ethtool/ixgbe.tsv")),
        ("igb", include_str!("../fixtures/ethtool/igb.tsv")),
        ("i40e", include_str!("../fixtures/ethtool/i40e.tsv")),
        ("ice", include_str!("../fixtures/ethtool/ice.tsv")),
        ("bnxt_en", include_str!("../fixtures/ethtool/bnxt_en.tsv")),
        ("vmxnet3", include_str!("../fixtures/ethtool/vmxnet3.tsv")),
        (STANDARD, include_str!("../fixtures/ethtool/standard.tsv")),
    ];

    #[test]
    fn every_row_is_understood_and_no_row_hides_another() {
        let text = include_str!("../knowledge/nic-statistics.tsv");
        assert_eq!(text.lines().next(), Some("drivers\tpattern\tclass\tunit\twithin\tmeaning"));
        assert_eq!(TABLE.len(), text.lines().count() - 1, "a class or a field is wrong");
        assert!(text.lines().all(|line| line.split('\t').count() == 6));
        let units = ["packets", "frames", "events", "bytes", "usecs", "percent"];
        let mut seen = BTreeSet::new();
        for row in TABLE.iter() {
            let Statistic { class, unit, meaning, .. } = row.statistic;
            assert!(class == Class::State || units.contains(&unit), "{}: {unit}", row.pattern);
            assert!(!meaning.is_empty() && meaning.len() <= 100, "{}: {meaning}", row.pattern);
            let new = seen.insert((row.drivers, row.pattern));
            assert!(new, "{} {} twice", row.drivers, row.pattern);
        }
        let first_generic = TABLE.iter().position(|row| row.drivers == "*").unwrap();
        assert!(TABLE[first_generic..].iter().all(|row| row.drivers == "*"), "they come last");
        assert!(
            Class::NAMES
                .iter()
                .all(|(class, _)| TABLE.iter().any(|it| it.statistic.class == *class))
        );
    }

    #[test]
    fn the_lists_of_drivers_are_classified() {
        let mut wrong = Vec::new();
        for (driver, list) in LISTS {
            for line in list.lines() {
                let (name, expected) = line.split_once('\t').unwrap();
                let found = class_of(driver, name).map_or("-", Class::name);
                if found != expected {
                    wrong.push(format!("{driver}: {name} is {found}, must be {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_row_about_a_driver_is_met_by_its_list() {
        let mut unmet = Vec::new();
        for row in TABLE.iter().filter(|row| row.drivers != "*") {
            let met = LISTS
                .iter()
                .filter(|(driver, _)| row.drivers.split(',').any(|known| known == *driver))
                .flat_map(|(_, list)| list.lines())
                .filter_map(|line| line.split('\t').next())
                .any(|name| fits(row.pattern, without_repeat(name).0));
            if !met {
                unmet.push(format!("{} {}", row.drivers, row.pattern));
            }
        }
        assert!(unmet.is_empty(), "{unmet:#?}");
    }

    #[test]
    fn a_counter_within_another_names_one_that_exists() {
        for row in TABLE.iter() {
            let Some(within) = row.statistic.within else { continue };
            let is_field = ["rx_", "tx_"].iter().any(|it| within.starts_with(it))
                && ["dropped", "errors"].iter().any(|it| within.ends_with(it));
            let is_other = TABLE
                .iter()
                .any(|other| other.drivers == row.drivers && fits(other.pattern, within));
            assert!(is_field || is_other, "{} is within {within}", row.pattern);
        }
    }

    #[test]
    fn queues_and_certainty() {
        let of = |driver, name| statistic(driver, name).unwrap();
        assert_eq!(of("virtio_net", "rx12_drops").queue, Some(12));
        assert_eq!(of("virtio_net", "rx12_drops").within, Some("rx_drops"));
        assert_eq!(of("bnxt_en", "[3]: rx_discards").queue, Some(3));
        assert_eq!(of("vmxnet3", "pkts rx OOB [1]").queue, Some(1));
        assert_eq!(of("gve", "rx_no_buffers_posted[7]").queue, Some(7));
        assert!(of("ena", "pps_allowance_exceeded").certain);
        let unknown = of("tomorrow_net", "rx_missed_errors");
        assert!(!unknown.certain);
        assert_eq!((unknown.class, unknown.within), (Class::NoBuffer, Some("rx_missed_errors")));
        assert_eq!(class_of("tomorrow_net", "rx_packets"), None);
    }

    fn fits(pattern: &str, name: &str) -> bool {
        fit(pattern.as_bytes(), name.as_bytes()).is_some()
    }

    #[test]
    fn patterns() {
        assert!(fits("rx_*_err", "rx__err") && fits("*", "") && fits("a*b*c", "abbc"));
        assert!(!fits("rx_*_err", "rx_err") && !fits("a#", "a") && !fits("a?", "a"));
        assert_eq!(fit(b"rx#_x[#]", b"rx10_x[2]"), Some(Fit { number: Some(10) }));
        assert_eq!(fit(b"#", b"99999999999"), None);
        assert!(!fits("*a*a*a*a*b", &"a".repeat(31)));
    }
}
