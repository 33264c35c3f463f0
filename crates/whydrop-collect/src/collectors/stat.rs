//! `/proc/stat`: what each CPU spent its time on (`fs/proc/stat.c`). Once for the host.

use rustix::param::clock_ticks_per_second;

use crate::collector::{Collector, CpuCounts, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "stat", what: "time of each CPU", read: Read::Host(read) };

/// The columns, in order; guests follow, which are part of user and nice. Kernels add at the end.
const COLUMNS: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place.proc("stat")?.ok_or_else(|| Why::new("there is no /proc/stat"))?;
    let ticks = clock_ticks_per_second().max(1);
    facts.cpu_times = text.lines().filter_map(|line| parse(line, ticks)).collect();
    if facts.cpu_times.is_empty() {
        return Err(Why::new("/proc/stat was not understood"));
    }
    Ok(())
}

/// The row of one CPU in milliseconds; `None` for any other row, that of all CPUs among them.
pub(crate) fn parse(line: &str, ticks_per_second: u64) -> Option<CpuCounts> {
    let mut words = line.split_ascii_whitespace();
    let cpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let counts = COLUMNS
        .into_iter()
        .zip(words)
        .map(|(name, ticks)| {
            Some((name, ticks.parse::<u64>().ok()?.saturating_mul(1000) / ticks_per_second))
        })
        .collect::<Option<Vec<_>>>()?;
    (!counts.is_empty()).then_some(CpuCounts { cpu, counts })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn rows_of_cpus_only() {
        let cpus = fixture::read("linux-6.18", read).unwrap().cpu_times;
        assert_eq!(cpus.iter().map(|row| row.cpu).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cpus[1].counts.len(), COLUMNS.len());
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn ticks_become_milliseconds() {
        let row = parse("cpu3 7 0 1 90 0 0 2 5 1 0 77", 100).unwrap();
        let counts: Vec<u64> = row.counts.iter().map(|count| count.1).collect();
        assert_eq!((row.cpu, counts), (3, vec![70, 0, 10, 900, 0, 0, 20, 50]));
        let old = parse("cpu0 1 2 3 4", 1000).unwrap();
        assert_eq!(old.counts.last(), Some(&("idle", 4)), "2.4 had no more");
        for other in ["cpu  1 2 3", "intr 1 2 3", "cpu1", "cpux 1", "cpu1 1 -2", ""] {
            assert_eq!(parse(other, 100), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "(cpu)?[0-9 -]{0,200}") {
            parse(&line, 100);
        }
    }
}
