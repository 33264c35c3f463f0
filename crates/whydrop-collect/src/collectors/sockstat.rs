//! `/proc/net/sockstat` and `sockstat6`: how many sockets and how much memory each protocol uses, as
//! levels `sockstat.TCP.mem` (pages), `sockstat.FRAG.memory` and `sockstat6.FRAG6.memory` (bytes of
//! fragments that wait for the rest); and the limits of that memory. Filled by `net/ipv4/proc.c`.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "sockstat",
    what: "sockets and memory of each protocol",
    read: Read::Namespace(read),
};

const SYSCTLS: &[&str] = &[
    "net.ipv4.ipfrag_high_thresh",
    "net.ipv4.ipfrag_low_thresh",
    "net.ipv4.ipfrag_max_dist",
    "net.ipv4.ipfrag_time",
    "net.ipv6.ip6frag_high_thresh",
    "net.ipv6.ip6frag_low_thresh",
    "net.ipv6.ip6frag_time",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text =
        place.table("sockstat")?.ok_or_else(|| Why::new("there is no /proc/net/sockstat"))?;
    parse("sockstat", &text, &mut facts.stack.gauges);
    if facts.stack.gauges.is_empty() {
        return Err(Why::new("/proc/net/sockstat was not understood"));
    }
    // A kernel without IPv6 has no such file.
    let text = place.table("sockstat6")?.unwrap_or_default();
    parse("sockstat6", &text, &mut facts.stack.gauges);
    // Of a namespace that cannot be entered the levels are still worth having.
    if let Err(why) = place.sysctls(SYSCTLS, facts) {
        facts.stack.missing.push(("limits of fragment memory (sysctl)", why));
    }
    Ok(())
}

/// Lines as `TCP: inuse 5 orphan 0 mem 1`.
pub(crate) fn parse(file: &str, text: &str, gauges: &mut Vec<(String, u64)>) {
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if let Ok(value) = value.parse() {
                gauges.push((format!("{file}.{protocol}.{name}"), value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn gauge(facts: &Facts, name: &str) -> Option<u64> {
        facts.stack.gauges.iter().find(|gauge| gauge.0 == name).map(|gauge| gauge.1)
    }

    #[test]
    fn kernels_old_and_new() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(gauge(&facts, "sockstat.sockets.used"), Some(16));
        assert_eq!(gauge(&facts, "sockstat.FRAG.memory"), Some(0));
        assert_eq!(gauge(&facts, "sockstat6.FRAG6.memory"), Some(0));
        assert_eq!(facts.sysctls["net.ipv4.ipfrag_high_thresh"], "4194304");
        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(gauge(&facts, "sockstat.TCP.mem"), Some(3));
        assert_eq!(gauge(&facts, "sockstat6.TCP6.inuse"), None, "without IPv6");
        let facts = fixture::read("linux-next", read).unwrap();
        assert_eq!(gauge(&facts, "sockstat.QUIC.inuse"), Some(4));
        assert_eq!(gauge(&facts, "sockstat.TCP.mem"), Some(9));
    }

    #[test]
    fn an_absent_or_unknown_table_is_a_reason() {
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[A-C: \n0-9a-c-]{0,200}") {
            parse("sockstat", &text, &mut Vec::new());
        }
    }
}
