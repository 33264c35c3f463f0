//! The causes of packet loss that a report may name: ids, layers, classes and variants.
//!
//! Data, not code: the list is `knowledge/causes.tsv`. The class follows from the cause; no rule
//! chooses it.

use std::sync::LazyLock;

use whydrop_model::Class;

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
    /// Names of its variants; may be empty.
    pub variants: Vec<&'static str>,
}

impl Cause {
    /// The id in words.
    #[must_use]
    pub fn title(&self) -> String {
        self.id.replace('-', " ")
    }
}

static CAUSES: LazyLock<Vec<Cause>> =
    LazyLock::new(|| parse(include_str!("../knowledge/causes.tsv")));

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

/// Lines that are not well formed are skipped here and caught by the tests below: the file is part
/// of the program.
fn parse(table: &'static str) -> Vec<Cause> {
    let row = |line: &'static str| {
        let mut fields = line.split('\t');
        let (id, layer) = (fields.next()?, fields.next()?);
        let class = match fields.next()? {
            "fault" => Class::Fault,
            "policy" => Class::Policy,
            "peer" => Class::Peer,
            "info" => Class::Info,
            "benign" => Class::Benign,
            _ => return None,
        };
        let variants = fields.next()?.split(',').filter(|name| !name.is_empty()).collect();
        Some(Cause { id, layer, class, variants })
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_cause_with_a_known_layer_and_a_unique_id() {
        let lines = include_str!("../knowledge/causes.tsv").lines().count() - 1;
        assert_eq!(all().len(), lines);
        for cause in all() {
            assert!(LAYERS.contains(&cause.layer), "{}: layer {}", cause.id, cause.layer);
        }
        let mut ids: Vec<_> = all().iter().map(|cause| cause.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), lines);
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
