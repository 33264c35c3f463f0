//! Queueing disciplines and their classes, from dumps of `RTM_GETQDISC` and `RTM_GETTCLASS`
//! (`net/sched/sch_api.c`).

use std::collections::BTreeSet;

use whydrop_model::{Qdisc, TcHandle};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::netlink::{Failure, Protocol, push_attribute, text};
use crate::stack::at_this_moment;
use crate::traffic_control::{
    Message, Statistics, TCA_DUMP_INVISIBLE, TCA_KIND, TCA_OPTIONS, TCA_STATS2, kinds, request,
    statistics,
};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "qdiscs", what: "queueing disciplines", read: Read::Namespace(read) };

const RTM_GETQDISC: u16 = 38;
const RTM_GETTCLASS: u16 = 42;

/// Kinds whose classes are only other qdiscs, or flows, and have nothing of their own to tell. Most
/// hosts have no other kinds, and asking each device costs.
const WITHOUT_CLASSES: [&str; 20] = [
    "noqueue",
    "noop",
    "pfifo_fast",
    "pfifo",
    "bfifo",
    "mq",
    "mqprio",
    "multiq",
    "fq",
    "fq_codel",
    "codel",
    "sfq",
    "tbf",
    "red",
    "netem",
    "cake",
    "pie",
    "fq_pie",
    "ingress",
    "clsact",
];

/// Classes of a namespace that are read. A shaper of an access network can have very many.
const MOST_CLASSES: usize = 4096;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Route)?;
    let mut all = request(0, 0);
    push_attribute(&mut all, TCA_DUMP_INVISIBLE, &[]);
    // `noqueue` keeps and counts nothing, and a host with many containers has very many of them.
    let parse_qdisc = |payload: &[u8]| parse(payload, false).filter(|it| it.kind != "noqueue");
    let mut qdiscs = socket.dump(RTM_GETQDISC, &all, place.buffer, parse_qdisc)?.items;
    let devices: BTreeSet<u32> = qdiscs
        .iter()
        .filter(|qdisc| !WITHOUT_CLASSES.contains(&qdisc.kind.as_str()))
        .map(|qdisc| qdisc.ifindex)
        .collect();
    let mut room = MOST_CLASSES;
    for ifindex in devices {
        if room == 0 {
            let why = format!("only the first {MOST_CLASSES} are read");
            facts.stack.missing.push(("further classes of queueing disciplines", Why::new(why)));
            break;
        }
        // A socket of its own, because a dump that is given up leaves it unusable.
        let mut socket = place.netlink(Protocol::Route)?.at_most(room);
        let parse_class = |payload: &[u8]| parse(payload, true);
        match socket.dump(RTM_GETTCLASS, &request(ifindex, 0), place.buffer, parse_class) {
            Ok(mut dump) => {
                dump.items.truncate(room);
                room -= dump.items.len();
                qdiscs.append(&mut dump.items);
            }
            // The device went away meanwhile.
            Err(Failure::Refused(rustix::io::Errno::NODEV)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    facts.stack.qdiscs = qdiscs;
    Ok(())
}

/// A qdisc or class; `None` without a kind.
pub(crate) fn parse(payload: &[u8], class: bool) -> Option<Qdisc> {
    let message = Message::parse(payload)?;
    let (mut kind, mut options, mut stats) = (None, &[][..], Statistics::default());
    for (attribute, value) in message.attributes {
        match attribute {
            TCA_KIND => kind = Some(text(value)),
            TCA_OPTIONS => options = value,
            TCA_STATS2 => stats = statistics(value),
            _ => {}
        }
    }
    let kind = kind?;
    kinds::counters(&kind, class, stats.own, options, &mut stats.counters);
    Some(Qdisc {
        ifindex: message.ifindex,
        handle: TcHandle(message.handle),
        parent: TcHandle(message.parent),
        class,
        options: kinds::options(&kind, class, options),
        kind,
        stats: stats.counters,
        qlen: at_this_moment(stats.qlen),
        backlog: at_this_moment(stats.backlog),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn recorded(name: &str, class: bool) -> Vec<Qdisc> {
        let messages = fixture::netlink(name);
        messages.iter().filter_map(|message| parse(message, class)).collect()
    }

    fn stats(qdisc: &Qdisc) -> [u64; 5] {
        ["bytes", "packets", "drops", "overlimits", "requeues"].map(|name| qdisc.stats[name].after)
    }

    fn options(qdisc: &Qdisc) -> BTreeMap<&str, u64> {
        qdisc.options.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    #[test]
    fn a_recorded_dump() {
        let qdiscs = recorded("linux-6.18-qdiscs.bin", false);
        let named: Vec<String> = qdiscs
            .iter()
            .map(|it| format!("{} {} {} {}", it.ifindex, it.kind, it.handle, it.parent))
            .collect();
        let expected = [
            "1 noqueue none root",
            "2 tbf 1: root",
            "3 htb 1: root",
            "3 pfifo 10: 1:10",
            "4 noqueue none root",
            "4 clsact ffff: ffff:fff1",
            "5 bfifo 2: root",
            "5 ingress ffff: ffff:fff1",
            "6 noqueue none root",
            "7 noqueue none root",
        ];
        assert_eq!(named[..2], expected[..2]);
        assert!(expected.iter().all(|wanted| named.contains(&(*wanted).to_owned())), "{named:?}");
        let of = |kind: &str| qdiscs.iter().find(|it| it.kind == kind).unwrap();
        assert_eq!(stats(of("tbf")), [11_514, 25, 50, 78, 0]);
        let expected = [("burst_bytes", 2000), ("limit_bytes", 10_000), ("rate_bytes", 125_000)];
        assert_eq!(options(of("tbf")), BTreeMap::from(expected));
        assert_eq!(stats(of("pfifo")), [8042, 17, 53, 0, 0]);
        assert_eq!(options(of("pfifo")), BTreeMap::from([("limit_packets", 5)]));
        let child_of_tbf = of("bfifo");
        assert_eq!((child_of_tbf.ifindex, child_of_tbf.parent), (2, TcHandle(0x1_0001)));
        assert_eq!(options(child_of_tbf), BTreeMap::from([("limit_bytes", 10_000)]));
        assert_eq!(of("htb").stats["direct_pkts"].after, 0);
        assert_eq!(of("clsact").stats["drops"].after, 11);
    }

    #[test]
    fn recorded_classes() {
        let classes = recorded("linux-6.18-classes.bin", true);
        let names: Vec<String> =
            classes.iter().map(|it| format!("{} in {}", it.handle, it.parent)).collect();
        assert_eq!(names, ["1:10 in 1:1", "1:1 in root"]);
        assert!(classes.iter().all(|it| it.class && it.kind == "htb" && it.ifindex == 3));
        assert_eq!(stats(&classes[0]), [8042, 17, 53, 6, 0]);
        let expected = [
            ("burst_bytes", 2048),
            ("ceil_burst_bytes", 1600),
            ("ceil_bytes", 250_000),
            ("rate_bytes", 125_000),
        ];
        assert_eq!(options(&classes[0]), BTreeMap::from(expected));
    }

    #[test]
    fn a_kind_not_yet_written_keeps_what_all_have() {
        let mut message = request(7, 0xffff_ffff);
        push_attribute(&mut message, TCA_KIND, b"dualpi3\0");
        push_attribute(&mut message, TCA_OPTIONS, &[7; 40]);
        push_attribute(&mut message, 777, &[1]);
        let mut stats = Vec::new();
        // Longer than today, with a count that does not fit 32 bits.
        push_attribute(&mut stats, 1, &[[1_u8, 0, 0, 0, 0, 0, 0, 0], [9; 8], [0; 8]].concat());
        push_attribute(&mut stats, 8, &(1_u64 << 40).to_ne_bytes());
        push_attribute(&mut message, TCA_STATS2, &stats);
        let qdisc = parse(&message, false).unwrap();
        assert_eq!((qdisc.kind.as_str(), qdisc.ifindex), ("dualpi3", 7));
        assert_eq!(qdisc.stats["packets"].after, 1 << 40);
        assert_eq!((qdisc.stats.len(), qdisc.options.len()), (2, 0), "{qdisc:?}");
    }

    #[test]
    fn a_cut_message_never_panics() {
        for name in ["linux-6.18-qdiscs.bin", "linux-6.18-classes.bin"] {
            fixture::cut(name, |bytes| {
                parse(bytes, bytes.len() % 2 == 0);
            });
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes, false);
        }
    }
}
