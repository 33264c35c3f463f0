//! The tables of causes and drop reasons: whole lines, and ids that are well-formed and unique. What
//! the words in them must be is tested by the crate that reads them.

use super::{Problem, Tree};

pub(super) const CAUSES: &str = "crates/whydrop-diagnose/knowledge/causes.tsv";
const REASONS: &str = "crates/whydrop-diagnose/knowledge/reasons.tsv";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(rows) = rows(tree, CAUSES, "id\tlayer\tclass\tvariants", &mut problems) {
        for (line, row) in &rows {
            let variants = row[3].split(',').filter(|variant| !variant.is_empty());
            for id in std::iter::once(row[0]).chain(variants).filter(|id| !is_kebab(id)) {
                problems.push(Problem::new(line, format!("{id} is not kebab-case")));
            }
        }
        unique(&rows, &mut problems);
    }
    if let Some(rows) = rows(tree, REASONS, "name\tlayer\tclass\tmeaning", &mut problems) {
        for (line, row) in rows.iter().filter(|(_, row)| !is_reason(row[0])) {
            problems.push(Problem::new(line, format!("{} is not a reason's name", row[0])));
        }
        unique(&rows, &mut problems);
        // In one order, so that two people who add the same reason meet.
        for pair in rows.windows(2).filter(|pair| pair[0].1[0] > pair[1].1[0]) {
            let what = format!("{} belongs before {}", pair[1].1[0], pair[0].1[0]);
            problems.push(Problem::new(&pair[1].0, what));
        }
    }
    problems
}

/// A line's place and its four fields.
type Row<'a> = (String, [&'a str; 4]);

/// The rows below the header, those that have four fields; `None` if there is no table at all.
fn rows<'a>(
    tree: &'a Tree,
    path: &str,
    header: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Row<'a>>> {
    let Some(text) = tree.find(path).and_then(|file| file.text()) else {
        problems.push(Problem::new(path, "missing"));
        return None;
    };
    let mut lines = text.lines();
    if lines.next() != Some(header) {
        problems.push(Problem::new(path, format!("the first line must be {header:?}")));
    }
    let mut rows = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let fields: Vec<&str> = line.split('\t').collect();
        let place = format!("{path}:{number}");
        if let [id, layer, class, rest] = fields[..] {
            rows.push((place, [id, layer, class, rest]));
        } else {
            let what = format!("{} fields, there must be 4", fields.len());
            problems.push(Problem::new(place, what));
        }
    }
    Some(rows)
}

fn unique(rows: &[Row<'_>], problems: &mut Vec<Problem>) {
    let mut ids: Vec<(&str, &str)> =
        rows.iter().map(|(line, row)| (row[0], line.as_str())).collect();
    ids.sort_unstable();
    for pair in ids.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        problems.push(Problem::new(pair[1].1, format!("{} is there twice", pair[1].0)));
    }
}

/// Lower-case words and numbers joined by single hyphens.
pub(super) fn is_kebab(id: &str) -> bool {
    id.split('-').all(|word| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// Upper-case words and numbers joined by underscores, as enum members in the kernel.
fn is_reason(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The ids of all causes.
pub(super) fn causes(tree: &Tree) -> Vec<&str> {
    let text = tree.find(CAUSES).and_then(|file| file.text()).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| line.split('\t').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::{CAUSES, REASONS, check, is_kebab};
    use crate::tidy::problems;

    const GOOD_CAUSES: &str = "id\tlayer\tclass\tvariants\nlan-chatter\tnic\tbenign\t\n";
    const GOOD_REASONS: &str =
        "name\tlayer\tclass\tmeaning\nA_1\tip\tdepends\tWords.\nB\tip\tpeer\tMore.\n";

    #[test]
    fn good_tables_pass() {
        assert_eq!(problems(check, &[(CAUSES, GOOD_CAUSES), (REASONS, GOOD_REASONS)]), [""; 0]);
        assert_eq!(problems(check, &[]).len(), 2, "both are missing");
    }

    #[test]
    fn each_bad_cause_is_named() {
        for (row, what) in [
            ("Lan\tnic\tfault\t", "Lan is not kebab-case"),
            ("lan\tnic\tfault\ta,b_c", "b_c is not kebab-case"),
            ("lan\tnic\tfault", "3 fields, there must be 4"),
            ("lan-chatter\tnic\tfault\t", "lan-chatter is there twice"),
        ] {
            let causes = format!("{GOOD_CAUSES}{row}\n");
            let found = problems(check, &[(CAUSES, &causes), (REASONS, GOOD_REASONS)]);
            assert_eq!(found, [format!("{CAUSES}:3: {what}")]);
        }
    }

    #[test]
    fn each_bad_reason_is_named() {
        for (row, what) in [
            ("C_d\tip\tpeer\tx", "C_d is not a reason's name"),
            ("B\tip\tpeer\tx", "B is there twice"),
            ("AA\tip\tpeer\tx", "AA belongs before B"),
        ] {
            let reasons = format!("{GOOD_REASONS}{row}\n");
            let found = problems(check, &[(CAUSES, GOOD_CAUSES), (REASONS, &reasons)]);
            assert_eq!(found, [format!("{REASONS}:4: {what}")]);
        }
    }

    #[test]
    fn kebab_case() {
        assert!(["a", "a-b2", "2-a"].into_iter().all(is_kebab));
        assert!(!["", "a-", "-a", "a--b", "a_b", "A"].into_iter().any(is_kebab));
    }
}
