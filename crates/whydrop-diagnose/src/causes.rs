//! The causes of packet loss that a report may name: ids, layers, classes and variants.
//!
//! Data, not code: the heads of the pages in `knowledge/causes/`. The class follows from the cause; no
//! rule chooses it.

use std::sync::LazyLock;

use whydrop_model::Class;

use crate::knowledge::{Kind, PAGES, Page};

/// Layers from the wire upwards, then the sending side's queue and what belongs to no layer. The
/// order in which a report walks the stack.
pub const LAYERS: &[&str] = &[
    "nic",
    "softirq",
    "xdp",
    "tc",
    "bridge",
    "neighbour",
    "ip",
    "fragment",
    "netfilter",
    "tcp-listen",
    "tcp",
    "udp",
    "socket",
    "qdisc",
    "tunnel",
    "host",
];

/// One cause.
#[derive(Debug, PartialEq, Eq)]
pub struct Cause {
    /// Kebab-case id, as in reports.
    pub id: &'static str,
    /// One of [`LAYERS`].
    pub layer: &'static str,
    /// What kind of thing it is.
    pub class: Class,
    /// What it is, in one sentence.
    pub meaning: &'static str,
    /// Names of its variants; may be empty.
    pub variants: &'static [&'static str],
}

impl Cause {
    /// The id in words.
    #[must_use]
    pub fn title(&self) -> String {
        self.id.replace('-', " ")
    }
}

static CAUSES: LazyLock<Vec<Cause>> = LazyLock::new(|| {
    let mut causes: Vec<_> = PAGES.iter().filter_map(of_page).collect();
    // Stable: those of a layer stay in the order of their ids.
    causes.sort_by_key(|cause| LAYERS.iter().position(|layer| *layer == cause.layer));
    causes
});

/// All causes, in the order of the stack.
#[must_use]
pub fn all() -> &'static [Cause] {
    &CAUSES
}

/// The cause with this id; `None` if there is no such cause.
#[must_use]
pub fn find(id: &str) -> Option<&'static Cause> {
    CAUSES.iter().find(|cause| cause.id == id)
}

/// The cause that a page is about, if it is about one. A class that does not exist makes none, which a
/// test below does not let pass: the page is part of the program.
fn of_page(page: &'static Page) -> Option<Cause> {
    let class = match page.class {
        "fault" => Class::Fault,
        "policy" => Class::Policy,
        "peer" => Class::Peer,
        "info" => Class::Info,
        "benign" => Class::Benign,
        _ => return None,
    };
    let Page { name: id, layer, variants, .. } = page;
    let meaning = page.meaning;
    (page.kind == Kind::Cause).then_some(Cause { id, layer, class, meaning, variants })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_a_cause_is_one_in_the_order_of_the_stack() {
        let pages = PAGES.iter().filter(|page| page.kind == Kind::Cause);
        assert_eq!(all().len(), pages.count());
        let place = |cause: &Cause| LAYERS.iter().position(|layer| *layer == cause.layer);
        assert!(all().iter().all(|cause| place(cause).is_some()));
        assert!(all().is_sorted_by_key(place));
    }

    #[test]
    fn a_cause_is_found_by_its_id() {
        let cause = find("accept-queue-full").expect("listed");
        assert_eq!(cause.class, Class::Fault);
        assert_eq!(cause.title(), "accept queue full");
        assert!(cause.variants.contains(&"slow-accept"));
        assert!(find("no-such-cause").is_none());
    }
}
