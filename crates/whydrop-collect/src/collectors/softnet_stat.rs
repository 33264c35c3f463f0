//! `/proc/net/softnet_stat`: how each CPU's receive backlog fares. One table for the whole host.
//!
//! Hexadecimal columns without a header (`softnet_seq_show` in `net/core/net-procfs.c`). They grew
//! with the kernel: 9 at first, then received_rps, then flow_limit_count, then the backlog's length
//! and the CPU's number, then the two halves of the backlog (15 in 6.18). Every counter is kept in
//! 32 bits.

use crate::collector::{Collector, Facts, Place, Read, SoftnetFacts};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "softnet_stat", what: "receive backlog of each CPU", read: Read::Host(read) };

const PROCESSED: usize = 0;
const DROPPED: usize = 1;
const TIME_SQUEEZE: usize = 2;
const RECEIVED_RPS: usize = 9;
const FLOW_LIMIT: usize = 10;
const BACKLOG_LEN: usize = 11;
const CPU: usize = 12;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place
        .table("softnet_stat")?
        .ok_or_else(|| Why::new("there is no /proc/net/softnet_stat"))?;
    facts.softnet = rows(&text).collect();
    if facts.softnet.is_empty() {
        return Err(Why::new("/proc/net/softnet_stat was not understood"));
    }
    Ok(())
}

/// The rows of a table.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = SoftnetFacts> {
    text.lines().enumerate().filter_map(|(row, line)| parse(row, line))
}

/// A CPU, and the packets that it took in or lost at its backlog.
pub(crate) type Taken = (u32, u64, u64);

pub(crate) fn taken(row: &SoftnetFacts) -> Taken {
    (row.cpu, row.processed, row.dropped)
}

/// A row of fewer than 13 columns does not tell its CPU; it then is counted, which is right unless a
/// CPU with a lower number is offline.
pub(crate) fn parse(row: usize, line: &str) -> Option<SoftnetFacts> {
    let mut columns = [None; CPU + 1];
    for (at, column) in line.split_ascii_whitespace().enumerate() {
        let number = u64::from_str_radix(column, 16).ok()?;
        if let Some(known) = columns.get_mut(at) {
            *known = Some(number);
        }
    }
    Some(SoftnetFacts {
        cpu: columns[CPU].map_or(row as u32, |cpu| cpu as u32),
        processed: columns[PROCESSED]?,
        dropped: columns[DROPPED]?,
        time_squeeze: columns[TIME_SQUEEZE]?,
        flow_limit: columns[FLOW_LIMIT],
        received_rps: columns[RECEIVED_RPS],
        backlog_len: columns[BACKLOG_LEN].map(|packets| packets as u32),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn fifteen_columns() {
        let softnet = fixture::read("linux-6.18", read).unwrap().softnet;
        assert_eq!(softnet.len(), 2);
        assert_eq!((softnet[1].cpu, softnet[1].processed), (1, 0x1654));
        assert_eq!(softnet[1].flow_limit, Some(0));
        assert_eq!((softnet[1].received_rps, softnet[1].backlog_len), (Some(0), Some(0)));
    }

    #[test]
    fn thirteen_columns_with_a_cpu_offline() {
        let softnet = fixture::read("linux-5.15", read).unwrap().softnet;
        let cpus: Vec<u32> = softnet.iter().map(|row| row.cpu).collect();
        assert_eq!(cpus, [0, 2, 3]);
        assert_eq!((softnet[1].dropped, softnet[1].flow_limit), (0x1f, Some(2)));
    }

    #[test]
    fn eleven_and_nine_columns() {
        let softnet = fixture::read("linux-4.19", read).unwrap().softnet;
        assert_eq!((softnet[1].cpu, softnet[1].dropped, softnet[1].flow_limit), (1, 5, Some(1)));
        let softnet = fixture::read("linux-2.6.32", read).unwrap().softnet;
        assert_eq!((softnet[0].cpu, softnet[0].time_squeeze, softnet[0].flow_limit), (0, 7, None));
    }

    #[test]
    fn an_absent_or_unknown_table_is_a_reason() {
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "[0-9a-fxz \t]{0,200}") {
            parse(0, &line);
        }
    }
}
