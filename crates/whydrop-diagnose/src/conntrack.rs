//! What connection tracking refused, by why: its two causes of loss share a place and a counter.
//!
//! `nf_conntrack_in` counts `drop` for a packet that gets no entry, `__nf_conntrack_confirm` counts
//! `insert_failed` for a new flow whose tuple is taken; `nf_ct_resolve_clash` counts that one as `drop`
//! as well, a chain that is too long is only `insert_failed` (`net/netfilter/nf_conntrack_core.c`,
//! 6.18). Both free the packet in `nf_hook_slow`.

use whydrop_model::{EvidenceItem, EvidenceKind, Namespace};

use crate::case::{Case, Claim};
use crate::signature::drops;

/// Packets refused in the window, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// For want of room or memory for an entry.
    pub(crate) no_entry: u64,
    /// Because the tuple is taken, or its hash chain is too long.
    pub(crate) taken: u64,
    /// Part of `taken`: the chain was too long.
    pub(crate) long_chain: u64,
}

impl Refused {
    /// Reads the counters of a namespace.
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let grown = |name: &str| namespace.delta(name).unwrap_or(0);
        let taken = grown("nf_conntrack.insert_failed");
        // Since 5.15; kernels before that have no such limit.
        let long_chain = grown("nf_conntrack.chainlength").min(taken);
        let no_entry = grown("nf_conntrack.drop").saturating_sub(taken - long_chain);
        Self { no_entry, taken, long_chain }
    }
}

/// Takes drops of this namespace that conntrack, or legacy code beside it, made.
pub(crate) fn claim<'e>(case: &mut Case<'e>, namespace: &Namespace, most: u64) -> Vec<Claim<'e>> {
    let signature = drops("NETFILTER_DROP", "nf_hook_slow");
    let inode = namespace.inode;
    case.claim_up_to(most, |total| total.netns == Some(inode) && signature.matches(total))
}

/// How full the table is: entries and limit; `None` if either is not known.
pub(crate) fn fill(namespace: &Namespace) -> Option<(u64, u64)> {
    let gauge =
        namespace.gauges.get("nf_conntrack.entries").map(|pair| pair.before.max(pair.after));
    let sysctl = |name| namespace.sysctl(name).and_then(|value| u64::try_from(value).ok());
    let entries = gauge.max(sysctl("net.netfilter.nf_conntrack_count"))?;
    Some((entries, sysctl("net.netfilter.nf_conntrack_max").filter(|most| *most > 0)?))
}

/// That, as evidence.
pub(crate) fn fill_item(namespace: &Namespace) -> Option<EvidenceItem> {
    let (entries, most) = fill(namespace)?;
    let name = "conntrack entries of nf_conntrack_max";
    Some(EvidenceItem::new(EvidenceKind::State, name, format!("{entries} of {most}")))
}

#[cfg(test)]
mod tests {
    use super::Refused;
    use crate::sample;

    #[test]
    fn a_clash_is_no_full_table() {
        let mut evidence = sample::evidence();
        for (name, delta) in [("drop", 100), ("insert_failed", 30), ("chainlength", 10)] {
            sample::count(&mut evidence, &format!("nf_conntrack.{name}"), delta);
        }
        let refused = Refused::of(&evidence.namespaces[0]);
        assert_eq!(refused, Refused { no_entry: 80, taken: 30, long_chain: 10 });
    }
}
