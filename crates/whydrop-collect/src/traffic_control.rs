//! Messages of traffic control (`struct tcmsg`) and their statistics, for the collectors of qdiscs
//! and of filters. What the options of a kind mean is in `kinds`.

use whydrop_model::Counters;

use crate::netlink::{Attributes, u32_at, u64_at};
use crate::stack::at_this_moment;

pub(crate) mod kinds;

/// Bytes of `struct tcmsg` (`include/uapi/linux/rtnetlink.h`).
const TCMSG: usize = 20;
/// Attributes of all messages of traffic control.
pub(crate) const TCA_KIND: u16 = 1;
pub(crate) const TCA_OPTIONS: u16 = 2;
pub(crate) const TCA_STATS2: u16 = 7;
pub(crate) const TCA_DUMP_INVISIBLE: u16 = 10;
pub(crate) const TCA_CHAIN: u16 = 11;
/// Attributes inside the statistics (`include/uapi/linux/gen_stats.h`).
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_APP: u16 = 4;
const TCA_STATS_PKT64: u16 = 8;

/// `struct tcmsg` and what follows it.
#[derive(Debug, Clone)]
pub(crate) struct Message<'a> {
    pub(crate) ifindex: u32,
    pub(crate) handle: u32,
    pub(crate) parent: u32,
    pub(crate) info: u32,
    pub(crate) attributes: Attributes<'a>,
}

impl<'a> Message<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        Some(Self {
            ifindex: u32_at(payload, 4)?,
            handle: u32_at(payload, 8)?,
            parent: u32_at(payload, 12)?,
            info: u32_at(payload, 16)?,
            attributes: Attributes(payload.get(TCMSG..)?),
        })
    }
}

/// A request for what hangs on `parent` of a device; zero means all.
pub(crate) fn request(ifindex: u32, parent: u32) -> Vec<u8> {
    let mut request = vec![0; TCMSG];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request[12..16].copy_from_slice(&parent.to_ne_bytes());
    request
}

/// Statistics at one moment.
#[derive(Debug, Default)]
pub(crate) struct Statistics<'a> {
    pub(crate) counters: Counters,
    pub(crate) qlen: u64,
    pub(crate) backlog: u64,
    /// What the kind adds, in its own form.
    pub(crate) own: &'a [u8],
}

/// The nest `TCA_STATS2` of a qdisc or class, or `TCA_ACT_STATS` of an action.
pub(crate) fn statistics(nest: &[u8]) -> Statistics<'_> {
    let mut statistics = Statistics::default();
    let mut packets = None;
    let mut add = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            statistics.counters.insert(name.to_owned(), at_this_moment(value));
        }
    };
    for (kind, value) in Attributes(nest) {
        let narrow = |at| u32_at(value, at).map(u64::from);
        match kind {
            TCA_STATS_BASIC => {
                add("bytes", u64_at(value, 0));
                packets = packets.or(narrow(8));
            }
            // Sent only if the count does not fit the 32 bits above.
            TCA_STATS_PKT64 => packets = u64_at(value, 0),
            TCA_STATS_QUEUE => {
                statistics.qlen = narrow(0).unwrap_or(0);
                statistics.backlog = narrow(4).unwrap_or(0);
                add("drops", narrow(8));
                add("requeues", narrow(12));
                add("overlimits", narrow(16));
            }
            TCA_STATS_APP => statistics.own = value,
            _ => {}
        }
    }
    add("packets", packets);
    statistics
}
