//! What fuzzers call, and the tests that replay what they kept. Not in any other build.

use std::collections::BTreeSet;

use crate::btf::Btf;
use crate::reasons::Reasons;
use crate::symbols::Symbols;
use crate::wire::event::{EventKey, RawEvent};
use crate::wire::{self, BUCKET_BYTES, Key, RawDrop};
use crate::{flow, packet};

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// Type information of a kernel, and of a module on top of itself.
///
/// # Panics
///
/// If what the loader gets of it is not type information any more.
pub fn btf(data: &[u8]) {
    let Ok(kernel) = Btf::parse(data.to_vec()) else { return };
    let module = Btf::parse_module(data.to_vec(), &kernel).ok();
    let reasons = Reasons::of(&kernel, module.into_iter());
    let numbers: BTreeSet<u32> = reasons.iter().map(|reason| reason.value).collect();
    assert_eq!(numbers.len(), reasons.len());
    for number in numbers {
        assert!(!reasons.name(number).starts_with("UNKNOWN_"));
    }
    let typedefs = ["kfree_skb", "consume_skb", "kfree_skb_reason"];
    for (name, arguments) in typedefs.iter().zip(kernel.tracepoints(typedefs)) {
        let count = arguments.and_then(|arguments| u8::try_from(arguments.len()).ok());
        assert_eq!(kernel.tracepoint_arguments(name), count);
    }
    let names = |btf: &Btf| btf.enums().map(|one| one.members().count()).collect::<Vec<_>>();
    let all = names(&kernel);
    if let Ok(less) = kernel.only(&["sk_buff"]) {
        assert!(less.len() <= data.len());
        assert_eq!(names(&Btf::parse(less).expect("type information")), all);
    }
}

/// A record of the rings or a bucket of the table; the first byte says which.
///
/// # Panics
///
/// If more comes out of a record than is in it.
pub fn records(data: &[u8]) {
    let Some((kind, record)) = data.split_first() else { return };
    match kind % 4 {
        stacks @ (0 | 1) => {
            if let Some(drop) = RawDrop::read(record, stacks == 1) {
                assert!(drop.packet.len() + drop.stack.len() * 8 < record.len());
            }
        }
        2 => {
            if let Some(event) = RawEvent::read(record) {
                assert!(event.device.is_none_or(|name| !name.is_empty()));
            }
        }
        _ => {
            if let Some(bucket) = record.first_chunk::<BUCKET_BYTES>() {
                let free = |key: Key| key.location == 0;
                assert!(!wire::slots(bucket, Key::in_use).any(|(key, _)| free(key)));
                assert!(!wire::slots(bucket, EventKey::in_use).any(|(key, _)| key.event == 0));
            }
        }
    }
}

/// An EtherType, and a packet from its network header on.
///
/// # Panics
///
/// If a port is told of a protocol that has none.
pub fn packet(data: &[u8]) {
    let Some(([high, low], bytes)) = data.split_first_chunk() else { return };
    let ethertype = u16::from_be_bytes([*high, *low]);
    if let Some(flow) = flow(ethertype, bytes) {
        let ports = [&flow.source, &flow.destination].map(|end| end.port.is_some());
        assert_eq!(ports[0], ports[1]);
        assert!(!ports[0] || [6, 17, 33, 132, 136].contains(&flow.protocol));
    }
    assert!(packet::vni(ethertype, bytes).is_none_or(|vni| vni < 1 << 24));
}

/// The kernel's table of symbols.
///
/// # Panics
///
/// If an address is told to lie in a function that is far away.
pub fn symbols(data: &[u8]) {
    let Ok(symbols) = Symbols::parse(data) else { return };
    assert_eq!(symbols.names().count(), symbols.len());
    for address in [0, 1, u64::MAX] {
        symbols.call_site(address);
    }
    for line in String::from_utf8_lossy(data).lines() {
        let address = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Ok(address) = u64::from_str_radix(address, 16) {
            let site = symbols.call_site(address.saturating_add(1));
            assert!(site.symbol.is_empty() || site.offset <= 1 << 18);
        }
    }
}

#[test]
fn what_fuzzers_kept_passes() {
    replay::corpus("btf", btf);
    replay::corpus("records", records);
    replay::corpus("packet", packet);
    replay::corpus("symbols", symbols);
}
