//! Queues of packets to programs (`NFQUEUE`), from `/proc/net/netfilter/nfnetlink_queue`
//! (`net/netfilter/nfnetlink_queue.c`), and groups of copies for programs (`NFLOG`), from
//! `nfnetlink_log` beside it (`net/netfilter/nfnetlink_log.c`).

use whydrop_model::{Counters, LogGroup, PacketQueue};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::stack::at_this_moment;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "packet_queues",
    what: "queues of packets to programs (NFQUEUE, NFLOG)",
    read: Read::Namespace(read),
};

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    // Absent on a kernel without such queues.
    let text = place.table("netfilter/nfnetlink_queue")?.unwrap_or_default();
    facts.stack.packet_queues = text.lines().filter_map(parse).collect();
    if facts.stack.packet_queues.is_empty() && !text.trim().is_empty() {
        return Err(Why::new("/proc/net/netfilter/nfnetlink_queue was not understood"));
    }
    let text = place.table("netfilter/nfnetlink_log")?.unwrap_or_default();
    facts.stack.log_groups = text.lines().filter_map(log_group).collect();
    Ok(())
}

/// A line without names: group, port of the reader, waiting, copy mode, copy range, flush timeout, users.
pub(crate) fn log_group(line: &str) -> Option<LogGroup> {
    let mut columns = line.split_ascii_whitespace().map(|it| it.parse().ok());
    let mut next = || columns.next().flatten();
    Some(LogGroup { number: next()?, port: next()?, waiting: next()? })
}

/// A line without names: queue, port of the reader, waiting, copy mode, copy range, dropped, dropped
/// at the reader's socket, last packet, 1.
pub(crate) fn parse(line: &str) -> Option<PacketQueue> {
    let columns: Vec<u32> =
        line.split_ascii_whitespace().map(|it| it.parse().ok()).collect::<Option<_>>()?;
    let [number, port, waiting, _, _, dropped, user_dropped, ..] = columns[..] else { return None };
    let counted = |name: &str, value: u32| (name.to_owned(), at_this_moment(value.into()));
    Some(PacketQueue {
        number,
        port,
        waiting: at_this_moment(waiting.into()),
        stats: Counters::from([counted("dropped", dropped), counted("user_dropped", user_dropped)]),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_queue_with_a_slow_reader() {
        let queues = fixture::read("linux-6.18", read).unwrap().stack.packet_queues;
        let [queue] = &queues[..] else { panic!("{queues:?}") };
        assert_eq!((queue.waiting.after, queue.stats["dropped"].after), (4, 16));
        let queues = fixture::read("linux-4.19", read).unwrap().stack.packet_queues;
        let [queue, other] = &queues[..] else { panic!("{queues:?}") };
        assert_eq!((queue.number, queue.port, queue.waiting.after), (5, 23_121, 1024));
        assert_eq!((queue.stats["dropped"].after, queue.stats["user_dropped"].after), (77, 3));
        assert_eq!(other.number, 65_535);
        assert_eq!(fixture::read("empty", read).unwrap().stack.packet_queues, []);
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn groups_that_log() {
        let groups = fixture::read("linux-4.19", read).unwrap().stack.log_groups;
        let group = |number, port, waiting| LogGroup { number, port, waiting };
        assert_eq!(groups, [group(5, 23_121, 3), group(65_535, u32::MAX, 0)]);
        assert_eq!(fixture::read("linux-6.18", read).unwrap().stack.log_groups, []);
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "[0-9a ]{0,80}") {
            parse(&line);
            log_group(&line);
        }
    }
}
