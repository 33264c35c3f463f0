//! Filters of traffic control with their actions, from dumps of `RTM_GETTFILTER`
//! (`net/sched/cls_api.c`).

use whydrop_model::{Filter, FilterAction, FilterProgram, Mirred, TcHandle};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::netlink::{Attributes, Failure, Protocol, Socket, text, u32_at};
use crate::traffic_control::{
    Message, TCA_CHAIN, TCA_DUMP_INVISIBLE, TCA_KIND, TCA_OPTIONS, kinds, request, statistics,
};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "filters", what: "traffic control filters", read: Read::Namespace(read) };

const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;

/// Filters of a namespace that are read.
const MOST_FILTERS: usize = 4096;

/// Qdiscs that only carry filters.
const CARRIERS: [&str; 2] = ["clsact", "ingress"];
/// Qdiscs that sort packets into classes by filters.
const SORTERS: [&str; 12] = [
    "htb", "hfsc", "prio", "drr", "qfq", "cbq", "ets", "dsmark", "multiq", "sfq", "fq_codel",
    "cake",
];

/// Attributes of the classifiers' options (`include/uapi/linux/pkt_cls.h`).
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// Attributes of an action.
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_INDEX: u16 = 3;
const TCA_ACT_STATS: u16 = 4;
/// The parameters of `gact`, `mirred`, `bpf`, `skbedit`, `vlan`, `pedit` and `tunnel_key`.
const TCA_ACT_PARMS: u16 = 2;
const TCA_ACT_BPF_NAME: u16 = 6;
const TCA_ACT_BPF_ID: u16 = 9;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut filters = Vec::new();
    for (ifindex, parent) in places(place)? {
        let room = MOST_FILTERS - filters.len();
        if room == 0 {
            let why = format!("only the first {MOST_FILTERS} are read");
            facts.stack.missing.push(("further traffic control filters", Why::new(why)));
            break;
        }
        // A socket of its own, because a dump that is given up leaves it unusable.
        let mut socket = place.netlink(Protocol::Route)?.at_most(room);
        let request = request(ifindex, parent);
        let parse = |payload: &[u8]| {
            // Of a block that devices share the kernel names no device, and no parent.
            parse(payload).map(|filter| Filter { ifindex, parent: TcHandle(parent), ..filter })
        };
        match socket.dump(RTM_GETTFILTER, &request, place.buffer, parse) {
            Ok(dump) => filters.extend(dump.items.into_iter().take(room)),
            // The device or the qdisc went away meanwhile.
            Err(Failure::Refused(rustix::io::Errno::NODEV | rustix::io::Errno::INVAL)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    facts.stack.filters = filters;
    Ok(())
}

/// Where filters can be: device and parent.
fn places(place: &mut Place<'_>) -> Result<Vec<(u32, u32)>, Why> {
    let mut socket: Socket = place.netlink(Protocol::Route)?;
    let mut all = request(0, 0);
    crate::netlink::push_attribute(&mut all, TCA_DUMP_INVISIBLE, &[]);
    let qdiscs = socket.dump(RTM_GETQDISC, &all, place.buffer, |payload| {
        let message = Message::parse(payload)?;
        let kind = message.attributes.clone().find(|(kind, _)| *kind == TCA_KIND)?.1;
        Some((message.ifindex, message.handle, text(kind)))
    })?;
    let mut places = Vec::new();
    for (ifindex, handle, kind) in qdiscs.items {
        if CARRIERS.contains(&kind.as_str()) {
            places.push((ifindex, TcHandle::CLSACT_INGRESS.0));
            if kind == "clsact" {
                places.push((ifindex, TcHandle::CLSACT_EGRESS.0));
            }
        } else if SORTERS.contains(&kind.as_str()) && handle != 0 {
            places.push((ifindex, handle));
        }
    }
    Ok(places)
}

/// A filter; `None` for the entry that only stands for a priority (its handle is zero and it has no
/// options) and for the hash tables of `u32`.
pub(crate) fn parse(payload: &[u8]) -> Option<Filter> {
    let message = Message::parse(payload)?;
    let mut filter = Filter {
        ifindex: message.ifindex,
        parent: TcHandle(message.parent),
        priority: message.info >> 16,
        protocol: u16::from_be(message.info as u16),
        handle: message.handle,
        ..Filter::default()
    };
    let mut options = None;
    for (attribute, value) in message.attributes {
        match attribute {
            TCA_KIND => filter.kind = text(value),
            TCA_OPTIONS => options = Some(value),
            TCA_CHAIN => filter.chain = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    let options = options?;
    if filter.kind.is_empty() || (filter.kind == "u32" && filter.handle.trailing_zeros() >= 12) {
        return None;
    }
    let (class, actions) = places_of(&filter.kind);
    for (attribute, value) in Attributes(options) {
        if Some(attribute) == class {
            filter.class = u32_at(value, 0).map(TcHandle);
        } else if Some(attribute) == actions {
            filter.actions = Attributes(value).filter_map(|(_, nest)| action(nest)).collect();
        }
    }
    if filter.kind == "bpf" {
        filter.bpf = Some(program(options, TCA_BPF_NAME, TCA_BPF_ID));
    }
    Some(filter)
}

/// Numbers of the attributes that hold the class and the actions; each classifier has its own.
fn places_of(kind: &str) -> (Option<u16>, Option<u16>) {
    match kind {
        "u32" => (Some(1), Some(7)),
        "bpf" => (Some(3), Some(1)),
        "flower" | "basic" => (Some(1), Some(3)),
        "matchall" => (Some(1), Some(2)),
        "fw" => (Some(1), Some(4)),
        "cgroup" => (None, Some(1)),
        "flow" => (Some(3), Some(9)),
        "route" => (Some(1), Some(6)),
        _ => (None, None),
    }
}

fn program(nest: &[u8], name: u16, id: u16) -> FilterProgram {
    let mut program = FilterProgram::default();
    for (attribute, value) in Attributes(nest) {
        if attribute == name {
            program.name = text(value);
        } else if attribute == id {
            program.id = u32_at(value, 0);
        } else if attribute == TCA_BPF_FLAGS && name == TCA_BPF_NAME {
            let flags = u32_at(value, 0).unwrap_or(0);
            program.direct_action = flags & TCA_BPF_FLAG_ACT_DIRECT != 0;
        }
    }
    program
}

fn action(nest: &[u8]) -> Option<FilterAction> {
    let mut action = FilterAction::default();
    let mut options = &[][..];
    for (attribute, value) in Attributes(nest) {
        match attribute {
            TCA_ACT_KIND => action.kind = text(value),
            TCA_ACT_OPTIONS => options = value,
            TCA_ACT_INDEX => action.index = u32_at(value, 0).unwrap_or(0),
            TCA_ACT_STATS => action.stats = statistics(value).counters,
            _ => {}
        }
    }
    if action.kind.is_empty() {
        return None;
    }
    let police = action.kind == "police";
    let wanted = if police { 1 } else { TCA_ACT_PARMS };
    let parms = Attributes(options).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let Some(parms) = parms else { return Some(action) };
    let code = |at| u32_at(parms, at).map(|code| kinds::verdict(code.cast_signed()));
    match action.kind.as_str() {
        "police" => {
            action.index = u32_at(parms, 0).unwrap_or(0);
            action.verdict = code(4);
            action.options = kinds::police(options);
        }
        // All of these begin with `tc_gen`: index, capabilities, verdict, two reference counts.
        "gact" | "mirred" | "bpf" | "skbedit" | "vlan" | "pedit" | "tunnel_key" | "sample" => {
            action.index = u32_at(parms, 0).unwrap_or(0);
            action.verdict = code(8);
        }
        _ => {}
    }
    if action.kind == "mirred" {
        action.mirred = u32_at(parms, 24).map(|ifindex| Mirred {
            ifindex,
            how: kinds::mirred(u32_at(parms, 20).unwrap_or(0) as u16).to_owned(),
        });
    }
    if action.kind == "bpf" {
        action.bpf = Some(program(options, TCA_ACT_BPF_NAME, TCA_ACT_BPF_ID));
    }
    Some(action)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::push_attribute;

    fn recorded() -> Vec<Filter> {
        fixture::netlink("linux-6.18-filters.bin").iter().filter_map(|it| parse(it)).collect()
    }

    #[test]
    fn a_recorded_dump() {
        let filters = recorded();
        assert_eq!(filters.len(), 4, "{filters:?}");
        let mirror = &filters[0];
        assert_eq!((mirror.ifindex, mirror.parent), (4, TcHandle::CLSACT_INGRESS));
        assert_eq!((mirror.priority, mirror.protocol), (7, 0x0800));
        assert_eq!((mirror.kind.as_str(), mirror.handle), ("u32", 0x8000_0800));
        let [action] = &mirror.actions[..] else { panic!("{mirror:?}") };
        assert_eq!((action.kind.as_str(), action.index), ("mirred", 1));
        assert_eq!(action.verdict.as_deref(), Some("shot"));
        let target = Mirred { ifindex: 7, how: "egress_mirror".into() };
        assert_eq!(action.mirred, Some(target));
        assert_eq!((action.stats["packets"].after, action.stats["bytes"].after), (4, 152));
        assert_eq!(action.stats["drops"].after, 0);

        let program = &filters[1];
        assert_eq!((program.parent, program.protocol), (TcHandle::CLSACT_EGRESS, 3));
        let bpf = program.bpf.as_ref().unwrap();
        assert_eq!((bpf.name.as_str(), bpf.direct_action), ("shot.o:[tc]", true));
        assert!(bpf.id.is_some() && program.actions.is_empty());

        let redirect = &filters[2].actions[0];
        assert_eq!(redirect.verdict.as_deref(), Some("stolen"));
        assert_eq!(redirect.mirred.as_ref().unwrap().how, "egress_redir");

        assert_eq!(filters[3].class, Some(TcHandle(0x1_0010)));
        assert_eq!(filters[3].parent, TcHandle(0x1_0000));
        assert!(filters[3].actions.is_empty());
    }

    fn nest(attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            push_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Kinds that this crate's test machines do not have, in the form of Linux 5.10.
    #[test]
    fn flower_with_a_policer_and_a_drop() {
        let police = nest(&[
            (TCA_ACT_KIND, b"police\0".to_vec()),
            (TCA_ACT_STATS, nest(&[(3, words(&[0, 0, 17, 0, 20]))])),
            (
                TCA_ACT_OPTIONS,
                nest(&[(1, words(&[4, 2, 0, 156_250, 0, 0, 0, 125_000, 0, 0, 0, 1, 1, 0]))]),
            ),
        ]);
        let gact = nest(&[
            (TCA_ACT_KIND, b"gact\0".to_vec()),
            (TCA_ACT_OPTIONS, nest(&[(2, words(&[9, 0, 2, 1, 1]))])),
        ]);
        let sleepy = nest(&[(TCA_ACT_KIND, b"sleep\0".to_vec()), (TCA_ACT_INDEX, words(&[3]))]);
        let mut message = request(2, TcHandle::CLSACT_INGRESS.0);
        message[16..20]
            .copy_from_slice(&(0x000a_0000 | u32::from(0x86dd_u16.to_be())).to_ne_bytes());
        push_attribute(&mut message, TCA_KIND, b"flower\0");
        push_attribute(&mut message, TCA_CHAIN, &words(&[3]));
        let actions = nest(&[(1, police), (2, gact), (3, sleepy), (4, Vec::new())]);
        push_attribute(&mut message, TCA_OPTIONS, &nest(&[(3, actions), (50, vec![1])]));
        let filter = parse(&message).unwrap();
        assert_eq!((filter.priority, filter.protocol, filter.chain), (10, 0x86dd, 3));
        let [police, gact, sleepy] = &filter.actions[..] else { panic!("{filter:?}") };
        assert_eq!((police.index, police.verdict.as_deref()), (4, Some("shot")));
        assert_eq!((police.options["rate_bytes"], police.options["burst_bytes"]), (125_000, 1250));
        assert_eq!((police.stats["drops"].after, police.stats["overlimits"].after), (17, 20));
        assert_eq!((gact.index, gact.verdict.as_deref()), (9, Some("shot")));
        assert_eq!((sleepy.index, sleepy.verdict.as_deref()), (3, None));
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut("linux-6.18-filters.bin", |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
