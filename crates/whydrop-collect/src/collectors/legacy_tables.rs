//! Rules of `iptables-legacy` and `ip6tables-legacy` with their counters: the tables that are named in
//! `/proc/net/ip_tables_names` (`net/netfilter/x_tables.c`), asked of the kernel by a socket option.
//! Needs CAP_NET_ADMIN. Those of `arptables-legacy` are only named.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::nftables::legacy::{self, Family};
use crate::xtables_sockopt;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "legacy_tables",
    what: "tables of iptables-legacy",
    read: Read::Namespace(read),
};

const FILES: [(&str, &str, Option<Family>); 3] = [
    ("ip_tables_names", "ip", Some(Family::Ip)),
    ("ip6_tables_names", "ip6", Some(Family::Ip6)),
    ("arp_tables_names", "arp", None),
];
/// Rules that are kept of a namespace.
const MOST_RULES: usize = 4096;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut room = MOST_RULES;
    for (file, family, readable) in FILES {
        for name in place.table(file)?.unwrap_or_default().split_ascii_whitespace() {
            facts.stack.legacy_tables.push(format!("{family} {name}"));
            let Some(readable) = readable else {
                let why = "whydrop cannot read them; `arptables-legacy -L -v -n -x` shows them";
                facts.stack.missing.push(("rules of arptables-legacy", Why::new(why)));
                continue;
            };
            if let Err(why) = read_table(place, readable, name, &mut room, facts) {
                facts.stack.missing.push(("rules of iptables-legacy", why));
            }
        }
    }
    Ok(())
}

fn read_table(
    place: &Place<'_>,
    family: Family,
    name: &str,
    room: &mut usize,
    facts: &mut Facts,
) -> Result<(), Why> {
    place.entered()?;
    let table = xtables_sockopt::table(family, name)?;
    let mut chains = legacy::chains(family, name, &table.info, &table.entries);
    if chains.is_empty() {
        return Err(Why::new(format!("the kernel's answer about table {name} was not understood")));
    }
    for chain in &mut chains {
        if chain.rules.len() > *room {
            chain.rules.truncate(*room);
            let why = format!("only the first {MOST_RULES} are kept");
            facts.stack.missing.push(("further rules of iptables-legacy", Why::new(why)));
        }
        *room -= chain.rules.len();
    }
    facts.stack.legacy_chains.append(&mut chains);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::netlink::Buffer;

    #[test]
    fn tables_of_a_namespace_that_cannot_be_entered_are_named_and_told_to_be_missing() {
        // Where this runs as root, those of the fixture must not be asked for: that would make them.
        let (folder, mut roots) = (tempfile::tempdir().unwrap(), fixture::roots("empty"));
        let net = folder.path().join("7/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("ip_tables_names"), "nat\nfilter\n").unwrap();
        std::fs::write(net.join("arp_tables_names"), "filter\n").unwrap();
        roots.proc = folder.path().to_owned();
        let (mut buffer, mut facts) = (Buffer::new(), Facts::default());
        let why = Why::new("not permitted");
        read(&mut Place::of_process(&roots, &mut buffer, 7, why), &mut facts).unwrap();
        assert_eq!(facts.stack.legacy_tables, ["ip nat", "ip filter", "arp filter"]);
        let missing: Vec<&str> = facts.stack.missing.iter().map(|it| it.0).collect();
        let [legacy, arp] = ["rules of iptables-legacy", "rules of arptables-legacy"];
        assert_eq!(missing, [legacy, legacy, arp]);
        let facts = fixture::read("empty", super::read).unwrap();
        assert!(facts.stack.legacy_tables.is_empty() && facts.stack.missing.is_empty());
    }
}
