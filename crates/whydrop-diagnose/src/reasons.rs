//! What drop reasons mean, in one line each.
//!
//! Keyed by name: numbers differ from kernel to kernel. The list is `knowledge/reasons.tsv`.

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

/// All reasons known, of all kernels.
pub fn all() -> impl Iterator<Item = Reason> {
    include_str!("../knowledge/reasons.tsv").lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        Some(Reason {
            name: fields.next()?,
            layer: fields.next()?,
            class: fields.next()?,
            meaning: fields.next()?,
        })
    })
}

/// What this reason means; `None` if it is newer than this release.
#[must_use]
pub fn find(name: &str) -> Option<Reason> {
    all().find(|reason| reason.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::LAYERS;

    #[test]
    fn every_line_is_a_reason_of_a_known_layer_and_class() {
        let lines = include_str!("../knowledge/reasons.tsv").lines().count() - 1;
        assert_eq!(all().count(), lines);
        let classes = ["fault", "policy", "peer", "benign", "info", "depends"];
        for reason in all() {
            assert!(LAYERS.contains(&reason.layer), "{}: layer {}", reason.name, reason.layer);
            assert!(classes.contains(&reason.class), "{}: class {}", reason.name, reason.class);
            assert!(!reason.meaning.is_empty() && reason.meaning.len() <= 100, "{}", reason.name);
        }
        let mut names: Vec<_> = all().map(|reason| reason.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lines, "a name stands twice");
    }

    #[test]
    fn a_reason_is_found_by_name() {
        assert_eq!(find("SOCKET_RCVBUFF").map(|reason| reason.layer), Some("socket"));
        assert!(find("A_REASON_OF_TOMORROW").is_none());
    }
}
