//! Which filter of traffic control it was, as far as its own counts and verdicts tell.

use whydrop_model::{Filter, FilterAction, FilterProgram, Namespace, TcHandle};

use crate::traced;

/// The filters of a device at this hook, the first to be asked first.
pub(crate) fn filters(
    namespace: Option<&Namespace>,
    ifindex: u32,
    egress: bool,
) -> impl Iterator<Item = &Filter> {
    let filters = namespace.map_or(&[][..], |namespace| &namespace.filters);
    let here = move |filter: &&Filter| {
        let ingress = [TcHandle::CLSACT_INGRESS, TcHandle::INGRESS].contains(&filter.parent)
            || filter.parent.major() == 0xffff && filter.parent != TcHandle::CLSACT_EGRESS;
        filter.ifindex == ifindex && ingress != egress
    };
    filters.iter().filter(here)
}

/// Growth of one of an action's own counts.
pub(crate) fn grown(action: &FilterAction, count: &str) -> u64 {
    action.stats.get(count).map_or(0, |pair| pair.delta())
}

/// True if the filter can drop: by its program's verdict or by an action.
pub(crate) fn may_drop(filter: &Filter) -> bool {
    let program = |program: &FilterProgram| program.direct_action;
    let action = |action: &FilterAction| {
        action.verdict.as_deref() == Some("shot") || action.kind == "police" || action.bpf.is_some()
    };
    filter.bpf.as_ref().is_some_and(program) || filter.actions.iter().any(action)
}

/// The filter as reports name it: `bpf filter drop.o:[tc] (id 77) at pref 49152`.
pub(crate) fn name(filter: &Filter) -> String {
    let of_action = filter.actions.iter().find_map(|action| action.bpf.as_ref());
    let program = filter.bpf.as_ref().or(of_action).map_or(String::new(), |program| {
        let id = program.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        format!(" {}{id}", if program.name.is_empty() { "program" } else { &program.name })
    });
    format!("{} filter{program} at pref {}", filter.kind, filter.priority)
}

/// Several of them in words; `None` if there are none.
pub(crate) fn names<'f>(filters: impl Iterator<Item = &'f Filter>) -> Option<String> {
    let mut names: Vec<_> = filters.map(name).collect();
    names.dedup();
    traced::first_of(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_told_apart_by_their_hook() {
        let filter = |parent, priority| Filter {
            ifindex: 2,
            parent,
            priority,
            kind: "bpf".into(),
            bpf: Some(FilterProgram { name: "x.o:[tc]".into(), id: Some(7), direct_action: true }),
            ..Filter::default()
        };
        let filters = vec![
            filter(TcHandle::CLSACT_INGRESS, 1),
            filter(TcHandle(0xffff_0000), 2),
            filter(TcHandle::CLSACT_EGRESS, 3),
            filter(TcHandle(0x1_0000), 4),
        ];
        let namespace = Namespace { filters, ..Namespace::default() };
        let at = |egress| {
            self::filters(Some(&namespace), 2, egress).map(|it| it.priority).collect::<Vec<_>>()
        };
        assert_eq!((at(false), at(true)), (vec![1, 2], vec![3, 4]));
        assert!(self::filters(Some(&namespace), 3, false).next().is_none());
        assert!(namespace.filters.iter().all(may_drop));
        let text = names(namespace.filters.iter().take(1));
        assert_eq!(text.as_deref(), Some("bpf filter x.o:[tc] (id 7) at pref 1"));
        assert!(names(namespace.filters.iter()).unwrap().ends_with("and others"));
    }
}
