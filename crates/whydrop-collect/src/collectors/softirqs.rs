//! `/proc/softirqs`: how often each CPU ran the softirqs of the network (`fs/proc/softirqs.c`). Once
//! for the host.

use crate::collector::{Collector, CpuCounts, Facts, Place, Read};
use crate::cpu_table;
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "softirqs", what: "softirqs of each CPU", read: Read::Host(read) };

/// Those that have to do with packets, and the timer to compare with.
const NAMES: [&str; 3] = ["NET_RX", "NET_TX", "TIMER"];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place.proc("softirqs")?.ok_or_else(|| Why::new("there is no /proc/softirqs"))?;
    facts.softirqs = parse(&text);
    if facts.softirqs.is_empty() {
        return Err(Why::new("/proc/softirqs was not understood"));
    }
    Ok(())
}

pub(crate) fn parse(text: &str) -> Vec<CpuCounts> {
    let mut lines = text.lines();
    let mut cpus: Vec<CpuCounts> = lines
        .next()
        .map(cpu_table::cpus)
        .unwrap_or_default()
        .into_iter()
        .map(|cpu| CpuCounts { cpu, counts: Vec::new() })
        .collect();
    for line in lines {
        let Some((label, rest)) = line.split_once(':') else { continue };
        let Some(name) = NAMES.into_iter().find(|name| *name == label.trim()) else { continue };
        let Some((counts, _)) = cpu_table::counts(rest, cpus.len()) else { continue };
        for (cpu, count) in cpus.iter_mut().zip(counts) {
            cpu.counts.push((name, count));
        }
    }
    cpus.retain(|cpu| !cpu.counts.is_empty());
    cpus
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn the_softirqs_of_the_network() {
        let cpus = fixture::read("linux-6.18", read).unwrap().softirqs;
        assert_eq!(cpus.len(), 2);
        let names: Vec<&str> = cpus[1].counts.iter().map(|count| count.0).collect();
        assert_eq!(names, ["TIMER", "NET_TX", "NET_RX"]);
        assert!(cpus[1].counts[2].1 > 1000);
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn a_row_that_does_not_fit_is_skipped() {
        let text = "  CPU0 CPU3\nTIMER: 1\nNET_TX: 5 6\nNET_RX: 7 x\nNEW: 1 2\n";
        let cpus = parse(text);
        assert_eq!(cpus[1], CpuCounts { cpu: 3, counts: vec![("NET_TX", 6)] });
        assert_eq!(parse(""), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "( CPU[0-9]){0,3}\n(NET_[RT]X: ?[0-9 x]{0,20}\n){0,4}") {
            parse(&text);
        }
    }
}
