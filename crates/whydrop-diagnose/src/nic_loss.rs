//! What the counters of one network device say was lost, each packet once.
//!
//! The same loss is counted up to four times: by queue and in sum by the driver (`ethtool -S`), in
//! `rtnl_link_stats64`, and by the standard statistics. `nic-statistics.tsv` says which counter is
//! within which; only what is in no other is added, and of counters that may or may not be the same,
//! the largest stands. Loss before the host is never traced, so nothing here is matched with drops.

use std::collections::BTreeMap;

use whydrop_model::{EvidenceItem, EvidenceKind, Link};

use crate::nic::{self, Class, STANDARD, Statistic};

/// Counters listed as proof of one loss, the largest first.
const LISTED: usize = 8;

/// What was lost on a device in one way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Packets or frames.
    pub(crate) packets: u64,
    /// Growth of counters that count something else than packets: failures, blocks, bytes.
    pub(crate) events: u64,
    /// By queue, as far as queues are told.
    pub(crate) queues: BTreeMap<u32, u64>,
    /// Names of the counters that grew, and by how much; the largest first.
    pub(crate) counters: Vec<(String, u64)>,
}

impl Tally {
    /// Nothing grew.
    pub(crate) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// The counters as evidence, for a device of this name.
    pub(crate) fn proof(&self, device: &str) -> Vec<EvidenceItem> {
        let item = |(name, grown): &(String, u64)| {
            EvidenceItem::new(EvidenceKind::Counter, format!("{device} {name}"), *grown)
        };
        self.counters.iter().take(LISTED).map(item).collect()
    }

    /// The queue that lost most.
    pub(crate) fn worst_queue(&self) -> Option<(u32, u64)> {
        self.queues.iter().map(|(queue, lost)| (*queue, *lost)).max_by_key(|(_, lost)| *lost)
    }
}

/// Fields of `rtnl_link_stats64` whose every step is a loss of this class. Those in one row may count
/// the same packets (`igb` adds its missed packets to `rx_fifo_errors` too): the largest stands.
fn fields(class: Class) -> &'static [&'static [&'static str]] {
    match class {
        Class::NoBuffer => &[&["rx_missed_errors", "rx_fifo_errors"]],
        Class::Physical => &[&["rx_crc_errors"], &["rx_frame_errors"]],
        Class::Size => &[&["rx_length_errors", "rx_over_errors"]],
        Class::TxLoss => &[&["tx_errors"]],
        _ => &[],
    }
}

/// Every field that [`lost`] reads for any class.
pub(crate) fn all_fields(class: Class) -> impl Iterator<Item = &'static str> {
    fields(class).iter().flat_map(|row| row.iter().copied())
}

/// True if the counters of this device are those of a card or of the hypervisor's stand-in for one.
/// Software devices use the same fields for other things (a tunnel counts ECN conflicts as frame
/// errors), and a bond repeats those of its ports.
pub(crate) fn is_hardware(link: &Link) -> bool {
    const IFF_LOOPBACK: u32 = 8;
    const SOFTWARE: [&str; 4] = ["tun", "veth", "bonding", "team"];
    let driver = driver(link);
    let physical = link.kind.is_none() && link.tunnel.is_none();
    physical && link.flags & IFF_LOOPBACK == 0 && !SOFTWARE.contains(&driver)
}

/// Name of the driver; empty if unknown.
pub(crate) fn driver(link: &Link) -> &str {
    link.driver.as_ref().map_or("", |driver| driver.name.as_str())
}

/// A counter that grew.
struct Grown<'e> {
    name: &'e str,
    growth: u64,
    statistic: Statistic,
}

/// What the device lost in this way.
pub(crate) fn lost(link: &Link, class: Class) -> Tally {
    lost_where(link, class, |_| true)
}

/// What those of its statistics say whose name is `wanted`.
pub(crate) fn lost_where(link: &Link, class: Class, wanted: impl Fn(&str) -> bool) -> Tally {
    let of = |driver, counters| grown(driver, counters, class, &wanted);
    let own = of(driver(link), &link.ethtool);
    let standard = of(STANDARD, &link.standard_stats);
    let (certain, guessed): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|one| one.statistic.certain);
    let by_fields: u64 = fields(class)
        .iter()
        .filter(|_| is_hardware(link))
        .map(|row| {
            let field = |name: &&str| link.stats.get(*name).map_or(0, |pair| pair.delta());
            let told = row.iter().filter(|name| wanted(name)).map(field).max().unwrap_or(0);
            // A driver that keeps the statistic and does not fill in the field.
            let within =
                |one: &&Grown<'_>| one.statistic.within.is_some_and(|it| row.contains(&it));
            told.max(once(certain.iter().filter(within)))
        })
        .sum();
    let repeated = |one: &&Grown<'_>| one.statistic.within.is_some_and(|it| is_field(class, it));
    // Within another statistic of the same kind, which says it all.
    let apart = |one: &&Grown<'_>| {
        let whole = one.statistic.within.filter(|it| link.ethtool.contains_key(*it));
        whole.is_none_or(|it| it == one.name || nic::class_of(driver(link), it) != Some(class))
    };
    let alone = once(certain.iter().filter(|one| !repeated(one)).filter(apart));
    // A damaged frame may be counted as a bad checksum, a fragment and bad symbols at once.
    let own = if class == Class::Physical { by_fields.max(alone) } else { by_fields + alone };
    let packets = own.max(once(guessed.iter())).max(once(standard.iter()));
    let every = || certain.iter().chain(&guessed).chain(&standard);
    Tally {
        packets,
        events: every().filter(|one| !in_packets(one)).map(|one| one.growth).max().unwrap_or(0),
        queues: queues(certain.iter().chain(&guessed)),
        counters: counters(link, class, &wanted, every()),
    }
}

fn is_field(class: Class, name: &str) -> bool {
    all_fields(class).any(|field| field == name)
}

fn in_packets(one: &Grown<'_>) -> bool {
    matches!(one.statistic.unit, "packets" | "frames")
}

fn grown<'e>(
    driver: &str,
    counters: &'e whydrop_model::Counters,
    class: Class,
    wanted: impl Fn(&str) -> bool,
) -> Vec<Grown<'e>> {
    let statistics = counters.iter().filter(|(name, pair)| pair.delta() > 0 && wanted(name));
    statistics
        .filter_map(|(name, pair)| {
            let statistic = nic::statistic(driver, name).filter(|it| it.class == class)?;
            Some(Grown { name, growth: pair.delta(), statistic })
        })
        .collect()
}

/// Packets of counters that may be about the same ones: queues of one name add up, names do not.
fn once<'g, 'e: 'g>(counters: impl Iterator<Item = &'g Grown<'e>>) -> u64 {
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for one in counters.filter(|one| in_packets(one)) {
        let name = one.name.split(" [").next().unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        *by_name.entry(name).or_default() += one.growth;
    }
    by_name.into_values().max().unwrap_or(0)
}

fn queues<'g, 'e: 'g>(counters: impl Iterator<Item = &'g Grown<'e>>) -> BTreeMap<u32, u64> {
    let mut queues: BTreeMap<u32, u64> = BTreeMap::new();
    for one in counters {
        if let Some(queue) = one.statistic.queue {
            let most = queues.entry(queue).or_default();
            *most = one.growth.max(*most);
        }
    }
    queues
}

fn counters<'g, 'e: 'g>(
    link: &Link,
    class: Class,
    wanted: impl Fn(&str) -> bool,
    every: impl Iterator<Item = &'g Grown<'e>>,
) -> Vec<(String, u64)> {
    let fields = all_fields(class).filter(|name| is_hardware(link) && wanted(name));
    let grown = |name: &'static str| Some((name.to_owned(), link.stats.get(name)?.delta()));
    let mut counters: Vec<(String, u64)> = fields
        .filter_map(grown)
        .filter(|(_, grown)| *grown > 0)
        .chain(every.map(|one| (one.name.to_owned(), one.growth)))
        .collect();
    counters.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counters.dedup_by(|a, b| a.0 == b.0);
    counters
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Driver, Pair};

    use super::*;

    fn link(driver: &str, stats: &[(&str, u64)], ethtool: &[(&str, u64)]) -> Link {
        let counters = |list: &[(&str, u64)]| {
            let pair = |delta: u64| Pair { before: 7, after: 7 + delta };
            list.iter().map(|(name, delta)| ((*name).to_owned(), pair(*delta))).collect()
        };
        Link {
            driver: Some(Driver { name: driver.into(), ..Driver::default() }),
            stats: counters(stats),
            ethtool: counters(ethtool),
            ..Link::default()
        }
    }

    #[test]
    fn one_loss_in_many_counters_counts_once() {
        for (link, packets) in [
            // In the field, in the driver's sum and on its queues.
            (
                link(
                    "bnxt_en",
                    &[("rx_missed_errors", 30)],
                    &[
                        ("rx_total_ring_discards", 30),
                        ("[0]: rx_discards", 10),
                        ("[1]: rx_discards", 20),
                    ],
                ),
                30,
            ),
            // The driver fills no field.
            (
                link("gve", &[], &[("rx_no_buffers_posted[0]", 4), ("rx_no_buffers_posted[1]", 5)]),
                9,
            ),
            // Two names for what may be the same packets.
            (link("gve", &[], &[("rx_no_buffers_posted[0]", 4), ("rx_queue_drop_cnt[0]", 6)]), 6),
            // The packet buffer of the device, and the descriptors of a queue: two losses.
            (
                link(
                    "ixgbe",
                    &[("rx_missed_errors", 30)],
                    &[("rx_missed_errors", 30), ("rx_no_dma_resources", 5)],
                ),
                35,
            ),
            // igb counts its missed packets as fifo errors too.
            (
                link(
                    "igb",
                    &[("rx_missed_errors", 3), ("rx_fifo_errors", 10)],
                    &[("rx_queue_0_drops", 7), ("rx_missed_errors", 3), ("rx_fifo_errors", 10)],
                ),
                10,
            ),
            // The whole card's count holds that of this function.
            (
                link(
                    "mlx5_core",
                    &[("rx_missed_errors", 12)],
                    &[("rx_out_of_buffer", 12), ("dev_out_of_buffer", 12)],
                ),
                12,
            ),
            (link("tomorrow", &[("rx_missed_errors", 12)], &[("rx_nobuf", 12)]), 12),
            (link("vmxnet3", &[], &[("pkts rx OOB", 2), ("pkts rx OOB [1]", 3)]), 5),
        ] {
            assert_eq!(lost(&link, Class::NoBuffer).packets, packets, "{link:?}");
        }
    }

    #[test]
    fn software_devices_have_other_uses_for_the_fields() {
        let mut tunnel = link("vxlan", &[("rx_frame_errors", 9)], &[]);
        assert_eq!(lost(&tunnel, Class::Physical).packets, 9);
        tunnel.kind = Some("vxlan".into());
        assert!(lost(&tunnel, Class::Physical).is_empty());
    }

    #[test]
    fn queues_and_proof() {
        let link = link(
            "igb",
            &[("rx_fifo_errors", 9)],
            &[("rx_queue_3_drops", 7), ("rx_queue_0_drops", 2)],
        );
        let tally = lost(&link, Class::NoBuffer);
        assert_eq!(tally.worst_queue(), Some((3, 7)));
        let names: Vec<_> = tally.proof("eth0").into_iter().map(|item| item.name).collect();
        assert_eq!(
            names,
            ["eth0 rx_fifo_errors", "eth0 rx_queue_3_drops", "eth0 rx_queue_0_drops"]
        );
    }

    #[test]
    fn failures_are_no_packets() {
        let tally = lost(&link("mlx5_core", &[], &[("rx_buff_alloc_err", 9)]), Class::NoMemory);
        assert_eq!((tally.packets, tally.events), (0, 9));
    }
}
