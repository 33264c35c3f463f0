//! Puts the two readings of a window together into the model's pairs.
//!
//! An object that only the later reading shows was born inside the window, so its counters count
//! from zero. Computes nothing else.

use std::collections::BTreeMap;

use whydrop_model::{Counters, Link, Pair, SoftnetCpu};

use crate::collector::{Facts, LinkFacts};

/// Counters at both ends. `before` is `None` for a namespace born inside the window.
pub(crate) fn counters(before: Option<&Facts>, after: &mut Facts) -> Counters {
    let before: BTreeMap<&str, u64> = before
        .map(|facts| facts.counters.iter().map(|(name, value)| (name.as_str(), *value)).collect())
        .unwrap_or_default();
    std::mem::take(&mut after.counters)
        .into_iter()
        .map(|(name, after)| {
            let before = before.get(name.as_str()).copied().unwrap_or(0);
            (name, Pair { before, after })
        })
        .collect()
}

/// Devices at both ends, by index; one that went away keeps what it had when the window opened.
pub(crate) fn links(before: Option<&Facts>, after: &Facts) -> Vec<Link> {
    let partial = before.is_some_and(|facts| facts.links_partial.is_some());
    let mut before: BTreeMap<u32, &LinkFacts> = before
        .map(|facts| facts.links.iter().map(|link| (link.ifindex, link)).collect())
        .unwrap_or_default();
    let mut links: Vec<Link> = Vec::new();
    for now in &after.links {
        let then = before.remove(&now.ifindex);
        if then.is_none() && partial {
            // It may have been there when the window opened, and what it counted then is unknown.
            continue;
        }
        links.push(link(then, now, after));
    }
    links.extend(before.into_values().map(|then| link(Some(then), then, after)));
    links.sort_by_key(|link| link.ifindex);
    links
}

fn link(then: Option<&LinkFacts>, now: &LinkFacts, after: &Facts) -> Link {
    let stats = now
        .stats
        .iter()
        .map(|&(name, after)| {
            let before = then
                .and_then(|then| then.stats.iter().find(|stat| stat.0 == name))
                .map_or(0, |stat| stat.1);
            (name.to_owned(), Pair { before, after })
        })
        .collect();
    Link {
        ifindex: now.ifindex,
        name: now.name.clone(),
        kind: now.kind.clone(),
        up: now.up,
        carrier: now.carrier,
        mtu: now.mtu,
        addresses: after
            .addresses
            .iter()
            .filter(|address| address.0 == now.ifindex)
            .map(|address| address.1)
            .collect(),
        stats,
    }
}

/// CPUs that have a row at both ends. A CPU that came online meanwhile kept the counts of its
/// earlier life, which are unknown.
pub(crate) fn softnet(before: &Facts, after: &Facts) -> Vec<SoftnetCpu> {
    let mut cpus: Vec<SoftnetCpu> = after
        .softnet
        .iter()
        .filter_map(|now| {
            let then = before.softnet.iter().find(|then| then.cpu == now.cpu)?;
            let pair = |before, after| Pair { before, after };
            Some(SoftnetCpu {
                cpu: now.cpu,
                processed: pair(then.processed, now.processed),
                dropped: pair(then.dropped, now.dropped),
                time_squeeze: pair(then.time_squeeze, now.time_squeeze),
                flow_limit: then
                    .flow_limit
                    .zip(now.flow_limit)
                    .map(|(before, after)| pair(before, after)),
            })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::SoftnetFacts;
    use crate::error::Why;

    fn facts(counters: &[(&str, u64)], links: &[(u32, u64)]) -> Facts {
        Facts {
            counters: counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            links: links
                .iter()
                .map(|&(ifindex, packets)| LinkFacts {
                    ifindex,
                    name: format!("eth{ifindex}"),
                    stats: vec![("rx_packets", packets)],
                    ..LinkFacts::default()
                })
                .collect(),
            ..Facts::default()
        }
    }

    fn packets(links: &[Link]) -> Vec<(u32, Pair)> {
        links.iter().map(|link| (link.ifindex, link.stats["rx_packets"])).collect()
    }

    #[test]
    fn counters_of_both_ends() {
        let before = facts(&[("A.x", 3), ("A.gone", 1)], &[]);
        let after = || facts(&[("A.x", 5), ("A.new", 2)], &[]);
        let merged = counters(Some(&before), &mut after());
        assert_eq!(merged.len(), 2);
        assert_eq!(merged["A.x"], Pair { before: 3, after: 5 });
        assert_eq!(merged["A.new"], Pair { before: 0, after: 2 });
        assert_eq!(counters(None, &mut after())["A.x"], Pair { before: 0, after: 5 });
    }

    #[test]
    fn devices_come_and_go() {
        let before = facts(&[], &[(1, 10), (2, 20)]);
        let mut after = facts(&[], &[(3, 7), (1, 11)]);
        after.addresses = vec![(3, "192.0.2.1".parse().unwrap()), (1, "::1".parse().unwrap())];
        assert_eq!(
            packets(&links(Some(&before), &after)),
            [
                (1, Pair { before: 10, after: 11 }),
                (2, Pair { before: 20, after: 20 }),
                (3, Pair { before: 0, after: 7 }),
            ]
        );
        let partial = Facts { links_partial: Some(Why::new("churn")), ..before };
        let known: Vec<u32> = links(Some(&partial), &after).iter().map(|it| it.ifindex).collect();
        assert_eq!(known, [1, 2], "3 may be older than the window");
        let of_first = &links(None, &after)[0].addresses;
        assert_eq!(of_first, &["::1".parse::<std::net::IpAddr>().unwrap()]);
    }

    #[test]
    fn a_cpu_needs_both_ends() {
        let row = |cpu, dropped, flow_limit| SoftnetFacts {
            cpu,
            processed: 9,
            dropped,
            time_squeeze: 0,
            flow_limit,
        };
        let of = |softnet| Facts { softnet, ..Facts::default() };
        let before = of(vec![row(0, 1, Some(1)), row(1, 5, None)]);
        let after = of(vec![row(2, 8, None), row(1, 6, Some(1)), row(0, 4, Some(2))]);
        let cpus = softnet(&before, &after);
        assert_eq!(cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cpus[0].dropped, Pair { before: 1, after: 4 });
        assert_eq!(cpus[0].flow_limit, Some(Pair { before: 1, after: 2 }));
        assert_eq!(cpus[1].flow_limit, None);
    }
}
