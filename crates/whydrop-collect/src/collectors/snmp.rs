//! `/proc/net/snmp`: IP, ICMP, TCP and UDP counters of a network namespace, keyed `Tcp.InSegs`.
//! Filled by `net/ipv4/proc.c`.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::line_pairs;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "snmp", what: "IPv4, TCP and UDP counters", read: Read::Namespace(read) };

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place.table("snmp")?.ok_or_else(|| Why::new("there is no /proc/net/snmp"))?;
    line_pairs::for_each(&text, |group, name, value| {
        facts.counters.push((format!("{group}.{name}"), value));
    });
    if facts.counters.is_empty() {
        return Err(Why::new("/proc/net/snmp was not understood"));
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
        assert_eq!(fixture::counter(&facts, "Ip.InReceives"), Some(5723));
        assert_eq!(fixture::counter(&facts, "Ip.OutTransmits"), Some(3930));
        assert_eq!(fixture::counter(&facts, "Tcp.PassiveOpens"), Some(2));
        assert_eq!(fixture::counter(&facts, "Tcp.MaxConn"), None, "-1 is no count");
        assert_eq!(fixture::counter(&facts, "Udp.MemErrors"), Some(0));

        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(fixture::counter(&facts, "Tcp.PassiveOpens"), Some(48_211));
        assert_eq!(fixture::counter(&facts, "Udp.RcvbufErrors"), Some(12));
        assert_eq!(fixture::counter(&facts, "Udp.MemErrors"), None, "came with 5.11");
        assert_eq!(fixture::counter(&facts, "Ip.OutTransmits"), None);

        let facts = fixture::read("linux-next", read).unwrap();
        assert_eq!(fixture::counter(&facts, "Tcp.PassiveOpens"), Some(9));
        assert_eq!(fixture::counter(&facts, "Tcp.BornTomorrow"), Some(3));
        assert_eq!(fixture::counter(&facts, "Quic.InPackets"), Some(17));
    }

    #[test]
    fn an_absent_or_unknown_table_is_a_reason() {
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }
}
