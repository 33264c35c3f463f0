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

/// Whether a namespace whose sockets are listed through a netlink socket of our own holds none but
/// that one, by what [`read`] told. The kernel counts all that programs opened as `sockets.used`
/// (`socket_seq_show()` in `net/socket.c`; before 4.17 those of the whole host, which then are more),
/// but not those in TIME_WAIT and not its own: those that can be listed count as `inuse`.
pub(crate) fn is_vacant(gauges: &[(String, u64)]) -> bool {
    let used = gauges.iter().find(|(name, _)| name == "sockstat.sockets.used");
    let counts_sockets = |name: &str| {
        let protocol_and_word = name.split_once('.').and_then(|(_, rest)| rest.split_once('.'));
        protocol_and_word.is_some_and(|(protocol, word)| {
            !protocol.starts_with("FRAG") && matches!(word, "inuse" | "tw")
        })
    };
    used.is_some_and(|(_, used)| *used <= 1)
        && gauges.iter().filter(|(name, _)| counts_sockets(name)).all(|(_, count)| *count == 0)
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

    #[test]
    fn a_namespace_is_vacant_without_any_socket_but_our_own() {
        let is_vacant = |v4: &str, v6: &str| {
            let mut gauges = Vec::new();
            parse("sockstat", v4, &mut gauges);
            parse("sockstat6", v6, &mut gauges);
            super::is_vacant(&gauges)
        };
        let none =
            "sockets: used 1\nTCP: inuse 0 orphan 0 tw 0 alloc 9 mem 3\nFRAG: inuse 2 memory 9\n";
        assert!(is_vacant(none, "UDP6: inuse 0\n"), "what is of the host, or no socket");
        assert!(!is_vacant(none, "UDP6: inuse 1\n"), "of a tunnel");
        assert!(!is_vacant(&none.replace("used 1", "used 2"), ""));
        assert!(!is_vacant(&none.replace("tw 0", "tw 1"), ""));
        assert!(!is_vacant("", ""), "nothing is known");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[A-C: \n0-9a-c-]{0,200}") {
            parse("sockstat", &text, &mut Vec::new());
        }
    }
}
