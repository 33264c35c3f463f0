//! Network devices at both ends of the window: what several collectors told of each, as one link.

use std::collections::BTreeMap;

use whydrop_model::{Counters, Link, Pair};

use super::counters_of;
use crate::collector::{EthtoolFacts, Facts, LinkFacts};

/// Devices at both ends, by index; one that went away keeps what it had when the window opened.
/// Collectors other than that of the links add to them, each only if it succeeded at both ends.
pub(crate) fn links(before: Option<&Facts>, after: &mut Facts) -> Vec<Link> {
    let partial = before.is_some_and(|facts| facts.links_partial.is_some());
    let mut opening: BTreeMap<u32, &LinkFacts> = before
        .map(|facts| facts.links.iter().map(|link| (link.about.ifindex, link)).collect())
        .unwrap_or_default();
    let mut links: Vec<Link> = Vec::new();
    for now in std::mem::take(&mut after.links) {
        let then = opening.remove(&now.about.ifindex);
        if then.is_none() && partial {
            // It may have been there when the window opened, and what it counted then is unknown.
            continue;
        }
        let mut link = joined(then, now);
        add_statistics(before, then.is_none(), after, &mut link);
        links.push(link);
    }
    links.extend(opening.into_values().map(|then| joined(Some(then), then.clone())));
    links.sort_by_key(|link| link.ifindex);
    for link in &mut links {
        let of_link = after.addresses.iter().filter(|address| address.0 == link.ifindex);
        link.addresses = of_link.map(|address| address.1).collect();
        let steering = after.steering.iter().find(|steering| steering.0 == link.ifindex);
        link.steering = steering.map(|steering| steering.1.clone());
    }
    links
}

fn joined(then: Option<&LinkFacts>, now: LinkFacts) -> Link {
    let before = then.map(|then| then.stats.as_slice()).unwrap_or_default();
    let changes_before = then.map_or(Some(0), |then| then.carrier_changes);
    Link {
        stats: counters_of(before.iter().copied(), now.stats),
        carrier_changes: changes_before
            .zip(now.carrier_changes)
            .map(|(before, after)| Pair { before: before.into(), after: after.into() }),
        ..now.about
    }
}

/// What ethtool and its netlink families told. A device that was there and did not answer when the
/// window opened says nothing about the window.
fn add_statistics(before: Option<&Facts>, born: bool, after: &mut Facts, link: &mut Link) {
    let of_link = |facts: &&EthtoolFacts| facts.ifindex == link.ifindex;
    let then = before.and_then(|facts| facts.ethtool.iter().find(of_link));
    let now = after.ethtool.iter().position(|facts| facts.ifindex == link.ifindex);
    if let Some(now) = now {
        let now = after.ethtool.swap_remove(now);
        if born || then.is_some() {
            link.ethtool = statistics(then, now.statistics);
        }
        link.driver = now.driver;
        link.ring = now.ring;
        link.channels = now.channels;
        link.coalesce = now.coalesce;
        link.pause = now.pause;
        link.features = now.features;
        link.speed = now.speed;
        link.full_duplex = now.full_duplex;
    }
    let of_link =
        |facts: &(u32, String, u64)| (facts.0 == link.ifindex).then(|| (facts.1.clone(), facts.2));
    let before: Vec<(String, u64)> = before
        .map(|facts| facts.standard_stats.iter().filter_map(of_link).collect())
        .unwrap_or_default();
    if born || !before.is_empty() {
        let after = after.standard_stats.iter().filter_map(of_link);
        let before = before.iter().map(|(name, value)| (name.as_str(), *value));
        link.standard_stats = counters_of(before, after);
    }
}

fn statistics(then: Option<&EthtoolFacts>, now: Vec<(String, u64)>) -> Counters {
    let before = then.map(|then| then.statistics.as_slice()).unwrap_or_default();
    counters_of(before.iter().map(|(name, value)| (name.as_str(), *value)), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Why;

    fn facts(links: &[(u32, u64)]) -> Facts {
        let links = links.iter().map(|&(ifindex, packets)| LinkFacts {
            about: Link { ifindex, name: format!("eth{ifindex}"), ..Link::default() },
            carrier_changes: Some(packets as u32),
            stats: vec![("rx_packets", packets)],
        });
        Facts { links: links.collect(), ..Facts::default() }
    }

    fn driver_says(ifindex: u32, statistics: &[(&str, u64)]) -> EthtoolFacts {
        EthtoolFacts {
            ifindex,
            statistics: statistics.iter().map(|it| (it.0.to_owned(), it.1)).collect(),
            features: vec!["rx-gro".into()],
            ..EthtoolFacts::default()
        }
    }

    fn packets(links: &[Link]) -> Vec<(u32, Pair)> {
        links.iter().map(|link| (link.ifindex, link.stats["rx_packets"])).collect()
    }

    #[test]
    fn devices_come_and_go() {
        let before = facts(&[(1, 10), (2, 20)]);
        let after = || {
            let mut after = facts(&[(3, 7), (1, 11)]);
            after.addresses = vec![(3, "192.0.2.1".parse().unwrap()), (1, "::1".parse().unwrap())];
            after
        };
        let merged = links(Some(&before), &mut after());
        assert_eq!(
            packets(&merged),
            [
                (1, Pair { before: 10, after: 11 }),
                (2, Pair { before: 20, after: 20 }),
                (3, Pair { before: 0, after: 7 }),
            ]
        );
        assert_eq!(merged[0].carrier_changes, Some(Pair { before: 10, after: 11 }));
        assert_eq!(merged[0].addresses, ["::1".parse::<std::net::IpAddr>().unwrap()]);
        let partial = Facts { links_partial: Some(Why::new("churn")), ..before };
        let merged = links(Some(&partial), &mut after());
        let known: Vec<u32> = merged.iter().map(|it| it.ifindex).collect();
        assert_eq!(known, [1, 2], "3 may be older than the window");
    }

    #[test]
    fn what_a_driver_says_counts_from_the_opening_or_from_birth() {
        let mut before = facts(&[(1, 0), (2, 0)]);
        before.ethtool = vec![driver_says(1, &[("rx_drops", 5)])];
        before.standard_stats = vec![(1, "qstats.rx-packets".into(), 8)];
        let mut after = facts(&[(1, 0), (2, 0), (3, 0)]);
        after.ethtool =
            (1..4).map(|at| driver_says(at, &[("rx_drops", 7), ("rx_new", 2)])).collect();
        after.standard_stats = (1..4).map(|at| (at, "qstats.rx-packets".into(), 9)).collect();
        after.steering = vec![(2, Vec::new())];
        let merged = links(Some(&before), &mut after);
        assert_eq!(merged[0].ethtool["rx_drops"], Pair { before: 5, after: 7 });
        assert_eq!(merged[0].ethtool["rx_new"], Pair { before: 0, after: 2 });
        assert_eq!(merged[0].standard_stats["qstats.rx-packets"], Pair { before: 8, after: 9 });
        assert_eq!(merged[1].features, ["rx-gro"], "settings are those of the end");
        assert!(merged[1].ethtool.is_empty(), "silent when the window opened");
        assert!(merged[1].standard_stats.is_empty());
        assert_eq!(merged[2].ethtool["rx_drops"], Pair { before: 0, after: 7 });
        assert_eq!(merged[2].standard_stats["qstats.rx-packets"], Pair { before: 0, after: 9 });
        let steering: Vec<bool> = merged.iter().map(|link| link.steering.is_some()).collect();
        assert_eq!(steering, [false, true, false]);
    }
}
