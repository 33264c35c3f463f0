//! Connection tracking: `/proc/net/stat/nf_conntrack` as counters `nf_conntrack.drop` and so on, by
//! the names in its first line, and its limits. Filled by
//! `net/netfilter/nf_conntrack_standalone.c`.
//!
//! What that line calls `chainlength` is, since 5.15, how often a chain was too long.

use rustix::io::Errno;
use whydrop_model::TrackedFlows;

use crate::collector::{Collector, Facts, Place, Read};
use crate::cpu_rows;
use crate::error::Why;
use crate::modules;
use crate::netlink::{Attributes, Failure, Protocol};

pub(crate) const COLLECTOR: Collector = Collector {
    name: "conntrack",
    what: "connection tracking counters",
    read: Read::Namespace(read),
};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET_STATS_CPU`.
const GET_STATS_CPU: u16 = (1 << 8) + 4;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = (1 << 8) + 1;
/// Entries that are read to see what the table is full of.
const MOST_FLOWS: usize = 4096;
/// `CTA_STATUS`, `CTA_PROTOINFO` and `CTA_TIMEOUT`.
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 1 << 1;
/// `TCP_CONNTRACK_*`: SYN_SENT, SYN_RECV and SYN_SENT2 of an open from both ends; ESTABLISHED.
const HALF_OPEN: [u8; 3] = [1, 2, 9];
const TCP_ESTABLISHED: u8 = 3;
/// Bytes of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

/// `CTA_STATS_*` of `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, by the names of the file.
const STATS: [(u16, &str); 14] = [
    (2, "found"),
    (3, "new"),
    (4, "invalid"),
    (5, "ignore"),
    (6, "delete"),
    (7, "delete_list"),
    (8, "insert"),
    (9, "insert_failed"),
    (10, "drop"),
    (11, "early_drop"),
    (12, "icmp_error"),
    (13, "search_restart"),
    (14, "clashres"),
    (15, "chainlength"),
];

/// There wherever connections are tracked.
const MOST: &str = "net.netfilter.nf_conntrack_max";
const SYSCTLS: &[&str] = &[
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
    MOST,
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_syn_recv",
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    counts(place, facts)?;
    if nearly_full(facts) {
        match sample(place) {
            Ok(flows) => facts.stack.tracked_flows = Some(flows),
            Err(why) => facts.stack.missing.push(("what fills the table of connections", why)),
        }
    }
    Ok(())
}

/// True from nine tenths on.
fn nearly_full(facts: &Facts) -> bool {
    let number = |name: &str| facts.sysctls.get(name).and_then(|it| it.trim().parse::<u64>().ok());
    let most = number(MOST).filter(|most| *most > 0);
    let entries = number("net.netfilter.nf_conntrack_count");
    most.zip(entries).is_some_and(|(most, entries)| entries >= most - most / 10)
}

/// Reads some of the entries; the kernel's order is that of their hashes, so they are like the rest.
fn sample(place: &mut Place<'_>) -> Result<TrackedFlows, Why> {
    let mut socket = place.netlink(Protocol::Netfilter)?.at_most(MOST_FLOWS);
    let flows = socket.dump(GET, &[0; NFGENMSG], place.buffer, |it| Some(flow(it)))?.items;
    Ok(summary(&flows))
}

pub(crate) fn summary(flows: &[Flow]) -> TrackedFlows {
    let established = || flows.iter().filter(|flow| flow.tcp_state == Some(TCP_ESTABLISHED));
    let half_open = |flow: &&Flow| match flow.tcp_state {
        Some(state) => HALF_OPEN.contains(&state),
        None => !flow.answered,
    };
    let left: u64 = established().map(|flow| u64::from(flow.left)).sum();
    TrackedFlows {
        seen: flows.len() as u32,
        half_open: flows.iter().filter(half_open).count() as u32,
        established: established().count() as u32,
        established_left: left.checked_div(established().count() as u64).unwrap_or(0),
    }
}

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// `enum tcp_conntrack`; `None` for other protocols.
    tcp_state: Option<u8>,
    answered: bool,
    /// Seconds until it times out.
    left: u32,
}

pub(crate) fn flow(payload: &[u8]) -> Flow {
    let nest = payload.get(NFGENMSG..).unwrap_or_default();
    let attribute =
        |nest, wanted| Attributes(nest).find(|(kind, _)| *kind == wanted).map(|it| it.1);
    let number = |wanted| {
        let value = attribute(nest, wanted).and_then(|it| it.get(..4));
        value.and_then(|it| it.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let tcp = attribute(nest, PROTOINFO).and_then(|it| attribute(it, 1));
    Flow {
        tcp_state: tcp.and_then(|it| attribute(it, 1)).and_then(|it| it.first().copied()),
        answered: number(STATUS) & SEEN_REPLY != 0,
        left: number(TIMEOUT),
    }
}

fn counts(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    if let Err(why) = place.sysctls(SYSCTLS, facts) {
        facts.stack.missing.push(("limits of connection tracking (sysctl)", why));
    }
    if let Some(text) = place.table("stat/nf_conntrack")? {
        return parse(&text, facts);
    }
    // Nothing is tracked. The kernel is not even asked, because that could load the module.
    if !matches!(place.sysctl(MOST), Ok(Some(_))) {
        return Ok(());
    }
    if modules::is_absent(place.roots, "nf_conntrack_netlink") {
        let why =
            "this kernel tells them by its module nf_conntrack_netlink only, which is not loaded";
        return Err(Why::new(why));
    }
    let mut socket = place.netlink(Protocol::Netfilter)?;
    let rows = match socket.dump(GET_STATS_CPU, &[0; NFGENMSG], place.buffer, |it| Some(row(it))) {
        Ok(dump) => dump.items,
        Err(Failure::Refused(Errno::INVAL | Errno::OPNOTSUPP)) => {
            return Err(Why::new("this kernel tells its counters neither in /proc nor by netlink"));
        }
        Err(failure) => return Err(failure.into()),
    };
    facts.stack.narrow_counters = sum(&rows);
    Ok(())
}

pub(crate) fn parse(text: &str, facts: &mut Facts) -> Result<(), Why> {
    cpu_rows::for_each(text, |name, sum, first| {
        if name == "entries" {
            facts.stack.gauges.push(("nf_conntrack.entries".to_owned(), first.into()));
        } else {
            facts.stack.narrow_counters.push((format!("nf_conntrack.{name}"), sum.into()));
        }
    });
    if facts.stack.narrow_counters.is_empty() {
        return Err(Why::new("/proc/net/stat/nf_conntrack was not understood"));
    }
    Ok(())
}

pub(crate) type Row = Vec<(&'static str, u32)>;

/// The counters of one CPU. Numbers of netfilter are big-endian.
pub(crate) fn row(payload: &[u8]) -> Row {
    Attributes(payload.get(NFGENMSG..).unwrap_or_default())
        .filter_map(|(kind, value)| {
            let (_, name) = STATS.iter().find(|(wanted, _)| *wanted == kind)?;
            Some((*name, u32::from_be_bytes(value.get(..4)?.try_into().ok()?)))
        })
        .collect()
}

pub(crate) fn sum(rows: &[Row]) -> Vec<(String, u64)> {
    STATS
        .iter()
        .filter_map(|(_, name)| {
            let mut all = rows.iter().flatten().filter(|(of, _)| of == name).peekable();
            all.peek()?;
            let sum = all.fold(0_u32, |sum, (_, value)| sum.wrapping_add(*value));
            Some((format!("nf_conntrack.{name}"), sum.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::push_attribute;

    fn narrow(facts: &Facts, name: &str) -> Option<u64> {
        facts.stack.narrow_counters.iter().find(|it| it.0 == name).map(|it| it.1)
    }

    #[test]
    fn kernels_old_and_new() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(narrow(&facts, "nf_conntrack.drop"), Some(125));
        assert_eq!(narrow(&facts, "nf_conntrack.clashres"), Some(0));
        assert_eq!(facts.stack.gauges, [("nf_conntrack.entries".to_owned(), 20)]);
        assert_eq!(facts.sysctls["net.netfilter.nf_conntrack_max"], "20");
        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(narrow(&facts, "nf_conntrack.drop"), Some(3));
        assert_eq!(narrow(&facts, "nf_conntrack.searched"), Some(0));
        assert_eq!(narrow(&facts, "nf_conntrack.insert_failed"), Some(0x12));
        assert_eq!(facts.stack.gauges[0].1, 0x1a2, "not once for each CPU");
        let facts = fixture::read("empty", read).unwrap();
        assert!(facts.stack.narrow_counters.is_empty(), "no tracking, no trouble");
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn by_netlink_where_there_is_no_file() {
        let messages = fixture::netlink("linux-6.18-conntrack-stats.bin");
        let recorded = sum(&messages.iter().map(|it| row(it)).collect::<Vec<_>>());
        let names: Vec<&str> = recorded.iter().map(|it| it.0.as_str()).collect();
        assert!(names.contains(&"nf_conntrack.drop") && names.contains(&"nf_conntrack.clashres"));
        assert!(recorded.contains(&("nf_conntrack.drop".to_owned(), 125)), "{recorded:?}");
        let cpu = |drops: u32| {
            let mut message = vec![0; NFGENMSG];
            push_attribute(&mut message, 10, &drops.to_be_bytes());
            push_attribute(&mut message, 99, &[1; 8]);
            row(&message)
        };
        assert_eq!(sum(&[cpu(u32::MAX), cpu(6)]), [("nf_conntrack.drop".to_owned(), 5)]);
    }

    #[test]
    fn entries_are_told_by_their_states() {
        let entry = |status: u32, tcp_state: Option<u8>, left: u32| {
            let mut message = vec![0; NFGENMSG];
            push_attribute(&mut message, STATUS, &status.to_be_bytes());
            if let Some(state) = tcp_state {
                let (mut tcp, mut info) = (Vec::new(), Vec::new());
                push_attribute(&mut tcp, 1, &[state]);
                push_attribute(&mut info, 1, &tcp);
                push_attribute(&mut message, PROTOINFO, &info);
            }
            push_attribute(&mut message, TIMEOUT, &left.to_be_bytes());
            flow(&message)
        };
        let flows = [
            entry(0, None, 20),
            entry(SEEN_REPLY, None, 20),
            entry(0, Some(1), 100),
            entry(SEEN_REPLY, Some(3), 100),
            entry(SEEN_REPLY, Some(3), 300),
        ];
        let told = summary(&flows);
        assert_eq!((told.seen, told.half_open, told.established), (5, 2, 2));
        assert_eq!(told.established_left, 200);
        assert_eq!(summary(&[]), TrackedFlows::default());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            flow(&bytes);
            row(&bytes);
        }
    }
}
