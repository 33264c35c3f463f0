//! Which queue of a device dropped, and which drops are those of queues.
//!
//! Parents count what their children drop, so a queue's own part is what its children did not count.
//! From 7.0 on the reason of a dropped packet says `QDISC_DROP` only, and the tracepoint
//! `qdisc:qdisc_drop` why.

use whydrop_model::{Counters, DropTotal, Evidence, Namespace, Qdisc, TcHandle};

use crate::case::{Case, Claim};

/// Growth of one of a qdisc's counters.
pub(crate) fn grown(stats: &Counters, name: &str) -> u64 {
    stats.get(name).map_or(0, |pair| pair.delta())
}

/// Queues of a namespace that dropped, with how many they dropped themselves.
pub(crate) fn dropping(namespace: &Namespace) -> Vec<(&Qdisc, u64)> {
    let queues = || {
        let all = namespace.qdiscs.iter();
        all.filter(|qdisc| !qdisc.class && qdisc.parent != TcHandle::INGRESS)
    };
    let own = |qdisc: &Qdisc| {
        // A default mq has no handle, and neither have its children a major number of their parent.
        let has_children = qdisc.handle.major() != 0 || qdisc.kind == "mq";
        let below = queues().filter(|child| {
            has_children
                && child.ifindex == qdisc.ifindex
                && !matches!(child.parent, TcHandle::ROOT | TcHandle(0))
                && child.parent.major() == qdisc.handle.major()
        });
        let below: u64 = below.map(|child| grown(&child.stats, "drops")).sum();
        grown(&qdisc.stats, "drops").saturating_sub(below)
    };
    queues().map(|qdisc| (qdisc, own(qdisc))).filter(|(_, drops)| *drops > 0).collect()
}

/// True for a packet that a queue refused or threw out, for whatever reason of its own.
pub(crate) fn is_refusal(total: &DropTotal) -> bool {
    let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
    // tbf frees a GSO packet itself if it took none of its segments.
    matches!(total.reason.as_str(), "QDISC_DROP" | "QDISC_OVERLIMIT")
        || (total.reason == "NOT_SPECIFIED" && symbol == "tbf_enqueue")
}

/// Takes drops of a device that fit, at most so many.
pub(crate) fn claim<'e>(
    case: &mut Case<'e>,
    (namespace, ifindex): (&Namespace, u32),
    most: u64,
    fits: impl Fn(&DropTotal) -> bool,
) -> Vec<Claim<'e>> {
    let inode = namespace.inode;
    case.claim_up_to(most, |total| {
        total.netns == Some(inode) && total.ifindex == ifindex && fits(total)
    })
}

/// Refusals of a device that nobody took yet.
pub(crate) fn open(case: &Case<'_>, namespace: &Namespace, ifindex: u32) -> u64 {
    let here = |total: &DropTotal| {
        total.netns == Some(namespace.inode) && total.ifindex == ifindex && is_refusal(total)
    };
    case.open().filter(|claim| here(claim.total)).map(|claim| claim.packets).sum()
}

/// How often queues of a device dropped for one of these reasons (`enum qdisc_drop_reason`, 7.0).
pub(crate) fn told_by_event(
    evidence: &Evidence,
    (namespace, ifindex): (&Namespace, u32),
    codes: &[&str],
) -> u64 {
    let ours = evidence.events.totals.iter().filter(|total| {
        total.event == "qdisc:qdisc_drop"
            && total.netns == Some(namespace.inode)
            && total.ifindex == ifindex
            && codes.contains(&total.code.as_str())
    });
    ours.map(|total| total.packets).sum()
}

/// The device that a queue is on.
pub(crate) fn device<'e>(namespace: &'e Namespace, qdisc: &Qdisc) -> &'e str {
    let link = namespace.links.iter().find(|link| link.ifindex == qdisc.ifindex);
    link.map_or("?", |link| link.name.as_str())
}

/// A queue as `tc` names it, with what it hangs on and the rate of that class. One without a handle
/// that a queueing discipline made for itself is told as that one's, which is what can be changed.
pub(crate) fn name(namespace: &Namespace, qdisc: &Qdisc) -> String {
    let Qdisc { kind, handle, parent, .. } = qdisc;
    let mut here = namespace.qdiscs.iter().filter(|one| one.ifindex == qdisc.ifindex);
    let has_handle = *handle != TcHandle::default();
    let class = here.clone().find(|one| one.class && one.handle == *parent);
    if !has_handle && class.is_none() {
        let holds = |one: &&Qdisc| !one.class && one.handle == TcHandle(parent.major() << 16);
        let holder = here.find(|one| one.handle != *handle && holds(one));
        if let Some(holder) = holder {
            return format!("{} (its {kind} queue)", name(namespace, holder));
        }
    }
    let handle = if has_handle { handle.to_string() } else { "0:".into() };
    let class = class.map_or_else(String::new, |class| format!(", class of {}", class.kind));
    format!("qdisc {kind} {handle} (parent {parent}{class}) of {}", device(namespace, qdisc))
}

/// True if anything on the queue's device holds traffic to a configured rate.
pub(crate) fn is_shaped(namespace: &Namespace, qdisc: &Qdisc) -> bool {
    namespace.qdiscs.iter().any(|one| {
        one.ifindex == qdisc.ifindex
            && ["rate_bytes", "flow_max_rate_bytes"]
                .iter()
                .any(|rate| one.options.contains_key(*rate))
    })
}

#[cfg(test)]
mod tests {
    use whydrop_model::Pair;

    use super::*;
    use crate::sample;

    fn queue(handle: u32, parent: u32, drops: u64) -> Qdisc {
        Qdisc {
            ifindex: 2,
            handle: TcHandle(handle),
            parent: TcHandle(parent),
            stats: [("drops".to_owned(), Pair { before: 0, after: drops })].into(),
            ..Qdisc::default()
        }
    }

    #[test]
    fn parents_count_what_children_drop() {
        let mut evidence = sample::evidence();
        let namespace = &mut evidence.namespaces[0];
        let root = TcHandle::ROOT.0;
        namespace.qdiscs =
            vec![queue(0x1_0000, root, 12), queue(0x10_0000, 0x1_0010, 5), queue(0, 0x1_0020, 7)];
        let drops: Vec<_> =
            dropping(namespace).iter().map(|(one, drops)| (one.handle.0, *drops)).collect();
        assert_eq!(drops, [(0x10_0000, 5), (0, 7)]);
        namespace.qdiscs[0] = queue(0x1_0000, root, 15);
        assert_eq!(dropping(namespace)[0].1, 3, "what it dropped itself");
    }

    #[test]
    fn a_queue_made_by_a_shaper_is_told_as_the_shapers() {
        let qdisc = |kind: &str, handle, parent| Qdisc {
            ifindex: 2,
            kind: kind.into(),
            handle: TcHandle(handle),
            parent: TcHandle(parent),
            ..Qdisc::default()
        };
        let qdiscs = vec![
            qdisc("tbf", 0x1_0000, 0xffff_ffff),
            qdisc("bfifo", 0, 0x1_0001),
            qdisc("pfifo", 0x2_0000, 0x1_0001),
            qdisc("pfifo_fast", 0, 0xffff_ffff),
        ];
        let namespace = Namespace { qdiscs, ..Namespace::default() };
        let names: Vec<_> = namespace.qdiscs.iter().map(|it| name(&namespace, it)).collect();
        let expected = [
            "qdisc tbf 1: (parent root) of ?",
            "qdisc tbf 1: (parent root) of ? (its bfifo queue)",
            "qdisc pfifo 2: (parent 1:1) of ?",
            "qdisc pfifo_fast 0: (parent root) of ?",
        ];
        assert_eq!(names, expected);
    }
}
