//! `/proc/net/netstat`: the rest of the IP and TCP counters, and those of MPTCP, keyed
//! `TcpExt.ListenOverflows`. Filled by `net/ipv4/proc.c`.

use whydrop_model::Counters;

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::line_pairs;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "netstat",
    what: "extended TCP and IP counters",
    read: Read::Namespace(read),
};

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place.table("netstat")?.ok_or_else(|| Why::new("there is no /proc/net/netstat"))?;
    line_pairs::for_each(&text, |group, name, value| {
        facts.counters.push((format!("{group}.{name}"), value));
    });
    if facts.counters.is_empty() {
        return Err(Why::new("/proc/net/netstat was not understood"));
    }
    Ok(())
}

/// What tells that SYNs meet a full queue, so that counting half-open connections is worth its
/// price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SynTrouble {
    pub(crate) listen_drops: u64,
    pub(crate) cookies_sent: u64,
}

impl SynTrouble {
    /// From the table.
    pub(crate) fn parse(text: &str) -> Self {
        let mut trouble = Self::default();
        line_pairs::for_each(text, |group, name, value| trouble.take(group, name, value));
        trouble
    }

    /// From counters read before.
    pub(crate) fn of(facts: &Facts) -> Self {
        let mut trouble = Self::default();
        for (name, value) in &facts.counters {
            if let Some((group, name)) = name.split_once('.') {
                trouble.take(group, name, *value);
            }
        }
        trouble
    }

    /// Whether it grew from one end of the window to the other.
    pub(crate) fn grew(counters: &Counters) -> bool {
        let names = ["TcpExt.ListenDrops", "TcpExt.SyncookiesSent"];
        names.iter().filter_map(|name| counters.get(*name)).any(|it| it.before != it.after)
    }

    fn take(&mut self, group: &str, name: &str, value: u64) {
        match (group, name) {
            ("TcpExt", "ListenDrops") => self.listen_drops = value,
            ("TcpExt", "SyncookiesSent") => self.cookies_sent = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::netlink::Buffer;

    #[test]
    fn kernels_old_and_new() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(fixture::counter(&facts, "TcpExt.TCPAutoCorking"), Some(254));
        assert_eq!(fixture::counter(&facts, "TcpExt.BeyondWindow"), Some(0));
        assert_eq!(fixture::counter(&facts, "IpExt.InOctets"), Some(97_342_169));
        assert_eq!(fixture::counter(&facts, "MPTcpExt.Blackhole"), Some(0));

        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(fixture::counter(&facts, "TcpExt.ListenOverflows"), Some(152));
        assert_eq!(fixture::counter(&facts, "TcpExt.BeyondWindow"), None, "came with 6.17");

        let facts = fixture::read("linux-next", read).unwrap();
        assert_eq!(fixture::counter(&facts, "TcpExt.ListenOverflows"), Some(4));
        assert_eq!(fixture::counter(&facts, "TcpExt.InsertedInTheMiddle"), Some(1));
    }

    #[test]
    fn an_absent_or_unknown_table_is_a_reason() {
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn trouble_is_the_same_from_the_table_and_from_the_facts() {
        let (roots, mut buffer) = (fixture::roots("linux-4.19"), Buffer::new());
        let text = Place::here(&roots, &mut buffer).table("netstat").unwrap().unwrap();
        let trouble = SynTrouble::parse(&text);
        assert_eq!(trouble, SynTrouble { listen_drops: 160, cookies_sent: 31 });
        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(SynTrouble::of(&facts), trouble);
    }
}
