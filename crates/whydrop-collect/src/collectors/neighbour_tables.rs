//! The neighbour tables of the host: how full they are and what they refused, from a dump of
//! `RTM_GETNEIGHTBL` (`net/core/neighbour.c`). All namespaces share them.

use whydrop_model::NeighbourTable;

use crate::collector::{Collector, Facts, Place, Read};
use crate::cpu_rows;
use crate::error::Why;
use crate::netlink::{Attributes, Protocol, text, u32_at, u64_at};
use crate::stack::at_this_moment;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "neighbour_tables", what: "neighbour tables", read: Read::Host(read) };

pub(crate) const RTM_GETNEIGHTBL: u16 = 66;
/// Bytes of `struct ndtmsg` (`include/uapi/linux/neighbour.h`).
pub(crate) const NDTMSG: usize = 4;
const NDTA_NAME: u16 = 1;
const NDTA_THRESH1: u16 = 2;
const NDTA_THRESH2: u16 = 3;
const NDTA_THRESH3: u16 = 4;
const NDTA_CONFIG: u16 = 5;
const NDTA_STATS: u16 = 7;

/// The fields of `struct ndt_stats`, in order; the last came with 4.3.
const STATS: [&str; 11] = [
    "allocs",
    "destroys",
    "hash_grows",
    "res_failed",
    "lookups",
    "hits",
    "rcv_probes_mcast",
    "rcv_probes_ucast",
    "periodic_gc_runs",
    "forced_gc_runs",
    "table_fulls",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Route)?;
    let dump = socket.dump(RTM_GETNEIGHTBL, &[0; NDTMSG], place.buffer, parse)?;
    let mut tables = once(dump.items);
    for table in &mut tables {
        // What waited for an address and was thrown away is told in this file only, and this file
        // is in the initial namespace only.
        let text = place.table(&format!("stat/{}", table.name))?.unwrap_or_default();
        cpu_rows::for_each(&text, |name, sum, _| {
            if name == "unresolved_discards" {
                table.stats.insert(name.to_owned(), at_this_moment(sum.into()));
            }
        });
    }
    facts.stack.neighbour_tables = tables;
    Ok(())
}

/// The kernel sends a table again when its devices did not fit into one answer.
fn once(mut tables: Vec<NeighbourTable>) -> Vec<NeighbourTable> {
    let mut names: Vec<String> = Vec::new();
    tables.retain(|table| {
        let new = !names.contains(&table.name);
        if new {
            names.push(table.name.clone());
        }
        new
    });
    tables
}

/// A table from the payload of `RTM_NEWNEIGHTBL`; `None` for the message of one device.
pub(crate) fn parse(payload: &[u8]) -> Option<NeighbourTable> {
    let mut table = NeighbourTable::default();
    for (kind, value) in Attributes(payload.get(NDTMSG..)?) {
        let number = || u32_at(value, 0).unwrap_or(0);
        match kind {
            NDTA_NAME => table.name = text(value),
            NDTA_THRESH1 => table.gc_thresh1 = number(),
            NDTA_THRESH2 => table.gc_thresh2 = number(),
            NDTA_THRESH3 => table.gc_thresh3 = number(),
            // `struct ndt_config`: two lengths of 16 bits, then the entries.
            NDTA_CONFIG => table.entries = u32_at(value, 4).unwrap_or(0).into(),
            NDTA_STATS => {
                table.stats = STATS
                    .iter()
                    .enumerate()
                    .map_while(|(at, &name)| {
                        Some((name.to_owned(), at_this_moment(u64_at(value, at * 8)?)))
                    })
                    .collect();
            }
            _ => {}
        }
    }
    (!table.name.is_empty() && !table.stats.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    const FIXTURE: &str = "linux-6.18-neighbour-tables.bin";

    #[test]
    fn a_recorded_dump() {
        let tables = fixture::netlink(FIXTURE).iter().filter_map(|it| parse(it)).collect();
        let tables = once(tables);
        let [arp, ndisc] = &tables[..] else { panic!("{tables:?}") };
        assert_eq!((arp.name.as_str(), ndisc.name.as_str()), ("arp_cache", "ndisc_cache"));
        assert_eq!((arp.gc_thresh1, arp.gc_thresh2, arp.gc_thresh3), (128, 512, 1024));
        assert_eq!((arp.entries, arp.stats["res_failed"].after), (14, 2));
        assert_eq!((arp.stats["table_fulls"].after, arp.stats.len()), (0, 11));
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut(FIXTURE, |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
