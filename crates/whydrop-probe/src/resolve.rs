//! Turns the tracer's numbers into the names of the running kernel: reasons from BTF, call sites
//! from the symbol table. Both are read once, after attaching, because together they cost more time
//! than attaching does.

use std::collections::BTreeMap;
use std::path::Path;

use whydrop_model::{Attach, CallSite, DropTotal, Ether, Exemplar, NotChecked, TracerEvidence};

use crate::counts::{Count, Counts};
use crate::debug_info::{DebugInfo, Places};
use crate::symbols::nameless;
use crate::wire::{Key, RawDrop};
use crate::{Error, Reasons, Symbols, SymbolsUnavailable};

/// The name of what spilled without saying its reason.
const OTHER: &str = "OTHER";

/// Names for reasons and addresses. What could not be read costs only its names.
pub struct Resolver {
    reasons: Result<Reasons, Error>,
    symbols: Result<Symbols, SymbolsUnavailable>,
}

impl Resolver {
    /// Reads the reasons from this kernel BTF and the symbols from `/proc/kallsyms`.
    pub fn read(btf: &Path) -> Self {
        let reasons = Reasons::read(btf);
        Self { reasons, symbols: Symbols::read() }
    }

    /// What could not be read, and why.
    pub fn not_checked(&self) -> Vec<NotChecked> {
        let reasons = self.reasons.as_ref().err().map(|why| NotChecked {
            what: "names of drop reasons".to_owned(),
            why: why.to_string(),
        });
        let symbols = self.symbols.as_ref().err().map(|why| NotChecked {
            what: "names of the functions that dropped packets".to_owned(),
            why: why.to_string(),
        });
        reasons.into_iter().chain(symbols).collect()
    }

    /// The name of a drop reason.
    pub fn reason(&self, value: u32) -> String {
        match &self.reasons {
            Ok(reasons) => reasons.name(value),
            Err(_) => format!("UNKNOWN_{value}"),
        }
    }

    /// The names of all reasons of this kernel, by number.
    pub fn reason_names(&self) -> Vec<String> {
        let reasons = self.reasons.iter().flat_map(Reasons::iter);
        reasons.map(|reason| reason.name.clone()).collect()
    }

    /// The function that a return address lies in; nameless without symbols.
    pub fn call_site(&self, return_address: u64) -> CallSite {
        match &self.symbols {
            Ok(symbols) => symbols.call_site(return_address),
            Err(_) => nameless(return_address),
        }
    }

    /// Where lines and merged functions of this kernel's code are to be had; nothing is opened yet.
    pub fn debug_info(&self) -> DebugInfo {
        let symbols = self.symbols.as_ref().ok();
        let text = symbols.and_then(|symbols| symbols.address("_stext"));
        DebugInfo::new(Places::of_this_host(), text)
    }

    /// A drop in detail, with names. `opened_ns` is when the window was opened; `known` says which
    /// namespaces exist.
    pub fn exemplar(&self, raw: &RawDrop, opened_ns: u64, known: &dyn Fn(u64) -> bool) -> Exemplar {
        let key = settle(raw.key, known);
        let site = self.call_site(key.location);
        Exemplar {
            at_ns: raw.monotonic_ns.saturating_sub(opened_ns),
            reason: self.reason(key.reason),
            netns: netns(key),
            ifindex: key.ifindex,
            device: raw.device.as_deref().map(str::to_owned),
            len: raw.len,
            l3: key.l3,
            ether: raw.mac.as_ref().map(ether),
            vlan: raw.vlan,
            // Elsewhere the bytes that look like it are somebody's data.
            vni: raw.vni.filter(|_| site.symbol == "vxlan_rcv"),
            site,
            flow: raw.flow.clone(),
            socket: raw.socket,
            stack: own_stack(raw).iter().map(|&address| self.call_site(address).into()).collect(),
        }
    }

    /// Counts with names, the most packets first. `devices` names interfaces by namespace and
    /// index.
    pub fn totals(
        &self,
        counts: &Counts,
        devices: &BTreeMap<(u32, u32), &str>,
        known: &dyn Fn(u64) -> bool,
    ) -> Vec<DropTotal> {
        // Keys may become equal once namespaces that do not exist are taken out of them.
        let mut settled: BTreeMap<Key, Count> = BTreeMap::new();
        for (&key, &count) in &counts.totals {
            settled.entry(settle(key, known)).or_default().add(count);
        }
        let placed = settled.into_iter().map(|(key, count)| DropTotal {
            reason: self.reason(key.reason),
            site: Some(self.call_site(key.location)),
            netns: netns(key),
            ifindex: key.ifindex,
            device: devices.get(&(key.netns, key.ifindex)).map(|&name| name.to_owned()),
            l3: key.l3,
            l4: key.l4,
            marks: key.marks,
            packets: count.packets,
            bytes: count.bytes,
            inferred: false,
        });
        let spilled = counts.spilled.iter().map(|(&reason, count)| DropTotal {
            reason: reason.map_or_else(|| OTHER.to_owned(), |reason| self.reason(reason)),
            site: None,
            netns: None,
            ifindex: 0,
            device: None,
            l3: 0,
            l4: None,
            marks: whydrop_model::Marks::default(),
            packets: count.packets,
            bytes: count.bytes,
            inferred: false,
        });
        let mut totals: Vec<_> = placed.chain(spilled).collect();
        totals.sort_by_key(|total| std::cmp::Reverse(total.packets));
        totals
    }

    /// All of it, as evidence of a tracer of which it is not said how it was attached.
    pub(crate) fn evidence(
        &self,
        counts: &Counts,
        drops: &[RawDrop],
        opened_ns: u64,
        known: &dyn Fn(u64) -> bool,
    ) -> TracerEvidence {
        let devices = drops
            .iter()
            .filter_map(|raw| Some(((raw.key.netns, raw.key.ifindex), raw.device.as_deref()?)))
            .collect();
        let mut exemplars: Vec<_> =
            drops.iter().map(|raw| self.exemplar(raw, opened_ns, known)).collect();
        exemplars.sort_by_key(|exemplar| exemplar.at_ns);
        let events = counts.events();
        TracerEvidence {
            attach: Attach::None,
            refused: Vec::new(),
            events,
            sampled: counts.sampled,
            // Every drop counted was kept, or found the ring full, or its key's rate used up.
            suppressed: events.saturating_sub(counts.sampled + counts.ring_full),
            ring_full: counts.ring_full,
            spilled: counts.spilled.values().map(|count| count.packets).sum(),
            lost: counts.lost,
            reasons: self.reason_names(),
            totals: self.totals(counts, &devices, known),
            exemplars,
        }
    }
}

/// The key without a namespace that does not exist, nor the interface index within it.
fn settle(mut key: Key, known: &dyn Fn(u64) -> bool) -> Key {
    if !known(key.netns.into()) {
        key.netns = 0;
        key.ifindex = 0;
    }
    key
}

fn netns(key: Key) -> Option<u64> {
    (key.netns != 0).then_some(key.netns.into())
}

fn ether(header: &[u8; 14]) -> Ether {
    let address = |at: usize| {
        let bytes: Vec<_> = header[at..at + 6].iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    };
    Ether { destination: address(0), source: address(6) }
}

/// The stack from the call that freed the packet on: what is before it are the tracer and the
/// tracepoint. Whole if that call is not in it.
pub(crate) fn own_stack(raw: &RawDrop) -> &[u64] {
    let start = raw.stack.iter().position(|&address| address == raw.key.location);
    &raw.stack[start.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use whydrop_model::Marks;

    use super::*;

    fn key(location: u64, netns: u32) -> Key {
        Key {
            location,
            reason: 3,
            netns,
            ifindex: 2,
            l3: 0x0800,
            l4: Some(17),
            marks: Marks::default(),
        }
    }

    fn raw(netns: u32, at: u64) -> RawDrop {
        RawDrop {
            key: key(0x20, netns),
            monotonic_ns: at,
            len: 60,
            device: Some("veth0".into()),
            mac: None,
            packet_len: 60,
            packet: Box::default(),
            vlan: None,
            vni: None,
            flow: None,
            socket: None,
            stack: Box::new([0x10, 0x11, 0x20, 0x30]),
        }
    }

    fn nameless_resolver() -> Resolver {
        let why = std::io::Error::from_raw_os_error(2);
        Resolver {
            reasons: Err(Error::NoBtf { path: "/none".into(), source: why }),
            symbols: Err(SymbolsUnavailable::Hidden),
        }
    }

    #[test]
    fn unknown_namespaces_are_taken_out_and_the_sum_stays() {
        let mut counts = Counts { sampled: 2, ring_full: 1, lost: 4, ..Counts::default() };
        for netns in [7, 8, 9] {
            counts.totals.insert(key(0x20, netns), Count { packets: 10, bytes: 600 });
        }
        counts.spilled.insert(Some(3), Count { packets: 5, bytes: 300 });
        counts.spilled.insert(None, Count { packets: 1, bytes: 60 });
        let drops = [raw(7, 150), raw(9, 130)];
        let evidence = nameless_resolver().evidence(&counts, &drops, 100, &|inode| inode == 7);
        let shown: Vec<_> = evidence
            .totals
            .iter()
            .map(|total| (total.netns, total.ifindex, total.device.as_deref(), total.packets))
            .collect();
        assert_eq!(
            shown,
            [
                (None, 0, None, 20),
                (Some(7), 2, Some("veth0"), 10),
                (None, 0, None, 5),
                (None, 0, None, 1)
            ]
        );
        assert_eq!(evidence.totals[3].reason, "OTHER");
        assert_eq!(evidence.totals[3].site, None);
        assert_eq!(evidence.events, 36);
        assert_eq!((evidence.suppressed, evidence.spilled, evidence.lost), (33, 6, 4));
        let times: Vec<_> =
            evidence.exemplars.iter().map(|drop| (drop.at_ns, drop.netns)).collect();
        assert_eq!(times, [(30, None), (50, Some(7))]);
    }

    #[test]
    fn the_stack_begins_where_the_packet_was_freed() {
        let exemplar = nameless_resolver().exemplar(&raw(7, 100), 100, &|_| true);
        let stack: Vec<_> = exemplar.stack.iter().map(|frame| frame.site.to_string()).collect();
        assert_eq!(stack, ["0x20", "0x30"]);
        let mut other = raw(7, 100);
        other.key.location = 0x99;
        assert_eq!(own_stack(&other).len(), 4);
    }

    #[test]
    fn what_could_not_be_read_is_said() {
        let said = nameless_resolver().not_checked();
        assert_eq!(said.len(), 2);
        assert!(said[1].why.contains("CAP_SYSLOG"), "{}", said[1].why);
    }
}
