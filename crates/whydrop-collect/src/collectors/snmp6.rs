//! `/proc/net/snmp6`: IPv6, ICMPv6 and UDPv6 counters of a network namespace, keyed
//! `snmp6.Ip6InReceives`. Filled by `net/ipv6/proc.c`.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "snmp6", what: "IPv6 counters", read: Read::Namespace(read) };

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let Some(text) = place.table("snmp6")? else {
        // A kernel without IPv6 (or `ipv6.disable=1`) has nothing to tell and nothing to lose.
        return Ok(());
    };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            facts.counters.push((format!("snmp6.{name}"), value));
        }
    }
    if facts.counters.is_empty() {
        return Err(Why::new("/proc/net/snmp6 was not understood"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn kernels_old_and_new() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(fixture::counter(&facts, "snmp6.Ip6InReceives"), Some(1));
        assert_eq!(fixture::counter(&facts, "snmp6.Udp6MemErrors"), Some(0));

        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(fixture::counter(&facts, "snmp6.Ip6InReceives"), Some(903));
        assert_eq!(fixture::counter(&facts, "snmp6.Udp6MemErrors"), None);

        let facts = fixture::read("linux-next", read).unwrap();
        assert_eq!(fixture::counter(&facts, "snmp6.Ip6BornTomorrow"), Some(2));
    }

    #[test]
    fn no_ipv6_is_no_failure_but_an_unknown_form_is() {
        assert!(fixture::read("empty", read).unwrap().counters.is_empty());
        assert!(fixture::read("garbage", read).is_err());
    }
}
