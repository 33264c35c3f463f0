//! The rules of nftables with their counters, asked of the kernel itself (`NFNL_SUBSYS_NFTABLES`,
//! `net/netfilter/nf_tables_api.c`), so that no `nft` is needed. Rules made by `iptables-nft` are
//! among them. Needs CAP_NET_ADMIN.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use whydrop_model::{Chain, Netfilter, Rule, RuleVerdict};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::modules;
use crate::netlink::{Dump, Failure, Protocol, Socket, push_attribute};
use crate::nftables::{self, Key, NFGENMSG, Named};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "nft", what: "firewall rules (nftables)", read: Read::Namespace(read) };

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10 << 8;
const GETTABLE: u16 = NFTABLES + 1;
const GETCHAIN: u16 = NFTABLES + 4;
const GETRULE: u16 = NFTABLES + 7;
const GETSET: u16 = NFTABLES + 10;
const GETSETELEM: u16 = NFTABLES + 13;
const GETOBJ: u16 = NFTABLES + 19;

/// Rules that are kept of a namespace; and, beyond these, such that can end a packet's way.
const MOST_RULES: usize = 4096;
/// Rules that are read.
const MOST_READ: usize = 100_000;
/// Sets whose elements are read.
const MOST_SETS: usize = 256;
/// Elements of a set that are read.
const MOST_ELEMENTS: usize = 256;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    place.entered()?;
    if modules::is_absent(place.roots, "nf_tables") {
        facts.stack.netfilter = Some(Netfilter::default());
        return Ok(());
    }
    let dump = match dump(place, GETCHAIN, &[], usize::MAX, nftables::chain) {
        Ok(dump) => dump,
        // A kernel without nftables.
        Err(Failure::Refused(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT)) => {
            facts.stack.netfilter = Some(Netfilter::default());
            return Ok(());
        }
        Err(failure) => return Err(failure.into()),
    };
    let mut interrupted = dump.interrupted;
    let mut chains = dump.items;
    let mut netfilter = Netfilter::default();
    if !chains.is_empty() {
        let dormant: BTreeSet<Key> =
            self::dump(place, GETTABLE, &[], usize::MAX, nftables::dormant_table)?
                .items
                .into_iter()
                .collect();
        for ((family, table, _), chain) in &mut chains {
            chain.dormant = dormant.contains(&(*family, table.clone(), String::new()));
        }
        let named = read_named(place)?;
        let rules = self::dump(place, GETRULE, &[], MOST_READ, |it| nftables::rule(it, &named))?;
        interrupted |= rules.interrupted;
        if rules.items.len() >= MOST_READ {
            let why = format!("only the first {MOST_READ} are read");
            facts.stack.missing.push(("further firewall rules", Why::new(why)));
        }
        netfilter = assemble(chains, rules.items, MOST_RULES);
    }
    if interrupted {
        let why = "they changed faster than the kernel could list them";
        facts.stack.missing.push(("some of the firewall rules", Why::new(why)));
    }
    if netfilter.dropping_rules_left_out > 0 {
        let why = format!("only {MOST_RULES} of them are kept");
        facts.stack.missing.push(("further firewall rules that can drop", Why::new(why)));
    }
    facts.stack.netfilter = Some(netfilter);
    Ok(())
}

/// Dumps objects of all families. A socket of its own, because a dump that is given up leaves it
/// unusable.
fn dump<T>(
    place: &mut Place<'_>,
    kind: u16,
    attributes: &[u8],
    most: usize,
    parse: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Dump<T>, Failure> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(Failure::Refused)?.at_most(most);
    let mut request = vec![0; NFGENMSG];
    request.extend(attributes);
    socket.dump(kind, &request, place.buffer, parse)
}

/// Counters, and sets: those that are written where they are used, and the maps to verdicts, with
/// their elements.
fn read_named(place: &mut Place<'_>) -> Result<Named, Failure> {
    let sets = dump(place, GETSET, &[], usize::MAX, nftables::set)?.items;
    let counters = match dump(place, GETOBJ, &[], MOST_READ, nftables::counter) {
        Ok(dump) => dump.items,
        // Named counters came with 4.10.
        Err(Failure::Refused(Errno::INVAL | Errno::OPNOTSUPP)) => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let mut named =
        Named { sets: sets.into_iter().collect(), counters: counters.into_iter().collect() };
    let wanted = named.sets.iter_mut().filter(|(_, set)| set.anonymous || set.to_verdicts);
    for ((family, table, name), set) in wanted.take(MOST_SETS) {
        let mut request = vec![*family, 0, 0, 0];
        for (kind, text) in [(1, table), (2, name)] {
            push_attribute(&mut request, kind, &[text.as_bytes(), &[0]].concat());
        }
        // Each message holds many elements.
        let mut socket = Socket::open(Protocol::Netfilter).map_err(Failure::Refused)?.at_most(4);
        let parse = |payload: &[u8]| Some(nftables::elements(payload));
        // A set that went away meanwhile has none.
        if let Ok(dump) = socket.dump(GETSETELEM, &request, place.buffer, parse) {
            set.elements = dump.items.into_iter().flatten().take(MOST_ELEMENTS).collect();
        }
    }
    Ok(named)
}

/// Puts rules into their chains. Of more than `most`, those are kept that can end a packet's way.
pub(crate) fn assemble(
    chains: Vec<(Key, Chain)>,
    rules: Vec<(Key, Rule)>,
    most: usize,
) -> Netfilter {
    let mut netfilter = Netfilter::default();
    let places: BTreeMap<Key, usize> =
        chains.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
    netfilter.chains = chains.into_iter().map(|(_, chain)| chain).collect();
    let everything = rules.len() <= most;
    let mut kept = 0;
    for (key, rule) in rules {
        let Some(place) = places.get(&key) else { continue };
        if !everything && !rule.verdicts.iter().any(RuleVerdict::may_end) {
            netfilter.rules_left_out += 1;
        } else if kept == most {
            netfilter.dropping_rules_left_out += 1;
        } else {
            kept += 1;
            netfilter.chains[*place].rules.push(rule);
        }
    }
    netfilter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_rules_those_that_can_drop_are_kept() {
        let key = |name: &str| (2, "t".to_owned(), name.to_owned());
        let chain = |name: &str| (key(name), Chain { name: name.into(), ..Chain::default() });
        let rule = |chain: &str, handle, verdict| {
            (key(chain), Rule { handle, verdicts: vec![verdict], ..Rule::default() })
        };
        let rules = || {
            vec![
                rule("in", 1, RuleVerdict::Accept),
                rule("in", 2, RuleVerdict::Drop),
                rule("gone", 3, RuleVerdict::Drop),
                rule("out", 4, RuleVerdict::Jump("x".into())),
                rule("out", 5, RuleVerdict::Queue { number: 1, bypass: true }),
            ]
        };
        let handles = |netfilter: &Netfilter| -> Vec<Vec<u64>> {
            let of = |chain: &Chain| chain.rules.iter().map(|rule| rule.handle).collect();
            netfilter.chains.iter().map(of).collect()
        };
        let chains = || vec![chain("in"), chain("out")];
        let all = assemble(chains(), rules(), 5);
        assert_eq!(handles(&all), [vec![1, 2], vec![4, 5]]);
        assert_eq!((all.rules_left_out, all.dropping_rules_left_out), (0, 0));
        let some = assemble(chains(), rules(), 2);
        assert_eq!(handles(&some), [vec![2], vec![5]]);
        assert_eq!((some.rules_left_out, some.dropping_rules_left_out), (2, 0));
        let few = assemble(chains(), rules(), 1);
        assert_eq!((handles(&few), few.dropping_rules_left_out), (vec![vec![2], vec![]], 1));
    }
}
