//! What drop reasons mean, in one line each.
//!
//! Keyed by name: numbers differ from kernel to kernel. The lines are the heads of the pages in
//! `knowledge/reasons/`.

use crate::knowledge::{Kind, PAGES, Page};

/// What is known about one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Name as in the kernel's enum, without `SKB_DROP_REASON_`.
    pub name: &'static str,
    /// Layer that drops.
    pub layer: &'static str,
    /// `fault`, `policy`, `peer`, `benign`, `info`, or `depends` where only the call site decides.
    pub class: &'static str,
    /// One line.
    pub meaning: &'static str,
}

impl Reason {
    fn of(page: &Page) -> Self {
        Self { name: page.name, layer: page.layer, class: page.class, meaning: page.meaning }
    }
}

/// The pages of reasons without those of single call sites.
fn pages() -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(|page| page.kind == Kind::Reason && page.call_site().is_none())
}

/// All reasons known, of all kernels.
pub fn all() -> impl Iterator<Item = Reason> {
    pages().map(Reason::of)
}

/// What this reason means, also under the name it has on another kernel; `None` if it is newer than
/// this release.
#[must_use]
pub fn find(name: &str) -> Option<Reason> {
    pages().find(|page| page.name == name || page.aliases.contains(&name)).map(Reason::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_each_of_its_names() {
        assert_eq!(find("SOCKET_RCVBUFF").map(|reason| reason.layer), Some("socket"));
        assert_eq!(find("TCP_FILTER").map(|reason| reason.name), Some("SOCKET_FILTER"));
        assert!(find("A_REASON_OF_TOMORROW").is_none());
        assert!(find("NOT_SPECIFIED@tcp_v4_rcv").is_none(), "that is a call site");
        assert!(find("accept-queue-full").is_none(), "that is a cause");
    }

    #[test]
    fn a_reason_stands_once() {
        let mut names: Vec<_> = all().map(|reason| reason.name).collect();
        let total = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), total);
    }
}
