//! Whether rules of `iptables-legacy` (or `ip6tables-legacy`, `arptables-legacy`) are in force: the
//! names in `/proc/net/ip_tables_names` (`net/netfilter/x_tables.c`).
//!
//! The kernel tells such rules and their counters only through a socket option that needs unsafe
//! code, so they are told to be missing.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "legacy_tables",
    what: "tables of iptables-legacy",
    read: Read::Namespace(read),
};

const FILES: [(&str, &str); 3] =
    [("ip_tables_names", "ip"), ("ip6_tables_names", "ip6"), ("arp_tables_names", "arp")];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    for (file, family) in FILES {
        for name in place.table(file)?.unwrap_or_default().split_ascii_whitespace() {
            facts.stack.legacy_tables.push(format!("{family} {name}"));
        }
    }
    if !facts.stack.legacy_tables.is_empty() {
        let why = "whydrop cannot read them; `iptables-legacy-save -c` shows them with counters";
        facts.stack.missing.push(("rules of iptables-legacy", Why::new(why)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn tables_are_named_and_their_rules_told_to_be_missing() {
        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(facts.stack.legacy_tables, ["ip nat", "ip filter", "ip6 filter"]);
        let [(what, why)] = &facts.stack.missing[..] else { panic!("{:?}", facts.stack.missing) };
        assert_eq!(*what, "rules of iptables-legacy");
        assert!(why.0.contains("iptables-legacy-save -c"));
        let facts = fixture::read("empty", read).unwrap();
        assert!(facts.stack.legacy_tables.is_empty() && facts.stack.missing.is_empty());
    }
}
