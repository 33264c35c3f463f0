//! The table of causes and the pages of drop reasons: whole lines, ids that are well-formed and
//! unique, pages that are named after what they explain. What the words in them must be is tested by
//! the crate that reads them.

use super::{Problem, Tree};

pub(super) const CAUSES: &str = "crates/whydrop-diagnose/knowledge/causes.tsv";
const REASONS: &str = "crates/whydrop-diagnose/knowledge/reasons/";

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
    for file in tree.files.iter().filter(|file| file.path.starts_with(REASONS)) {
        problems.extend(page(&file.path, file.text().unwrap_or_default()));
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

/// A page's head begins with its name, and the name is that of the file.
fn page(path: &str, text: &str) -> Option<Problem> {
    let stem = path.strip_prefix(REASONS).and_then(|name| name.strip_suffix(".md"))?;
    let name = text.strip_prefix("+++\nname = \"").and_then(|rest| rest.split('"').next());
    match name {
        Some(name) if name.to_lowercase() == stem && is_reason(name) => None,
        Some(name) => {
            Some(Problem::new(path, format!("{name} is not the name of this file's reason")))
        }
        None => Some(Problem::new(path, "the page does not begin with +++ and its name")),
    }
}

/// Upper-case words and numbers joined by underscores, as enum members in the kernel; and the kernel's
/// function after an `@` where the page is about one call site.
fn is_reason(name: &str) -> bool {
    let (reason, symbol) = name.split_once('@').unwrap_or((name, "any"));
    !symbol.is_empty()
        && symbol.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && reason.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The ids of all causes.
pub(super) fn causes(tree: &Tree) -> Vec<&str> {
    let text = tree.find(CAUSES).and_then(|file| file.text()).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| line.split('\t').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::{CAUSES, check, is_kebab};
    use crate::tidy::problems;

    const GOOD_CAUSES: &str = "id\tlayer\tclass\tvariants\nlan-chatter\tnic\tbenign\t\n";
    const PAGE: &str = "crates/whydrop-diagnose/knowledge/reasons/a_1@some_call.md";

    #[test]
    fn a_good_table_and_page_pass() {
        let page = "+++\nname = \"A_1@some_call\"\n+++\n";
        assert_eq!(problems(check, &[(CAUSES, GOOD_CAUSES), (PAGE, page)]), [""; 0]);
        assert_eq!(problems(check, &[]).len(), 1, "the table is missing");
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
            let found = problems(check, &[(CAUSES, &causes)]);
            assert_eq!(found, [format!("{CAUSES}:3: {what}")]);
        }
    }

    #[test]
    fn each_bad_page_is_named() {
        for (page, what) in [
            ("+++\nname = \"A_2\"\n+++\n", "A_2 is not the name of this file's reason"),
            (
                "+++\nname = \"a_1@some_call\"\n",
                "a_1@some_call is not the name of this file's reason",
            ),
            ("# A_1\n", "the page does not begin with +++ and its name"),
        ] {
            let found = problems(check, &[(CAUSES, GOOD_CAUSES), (PAGE, page)]);
            assert_eq!(found, [format!("{PAGE}: {what}")]);
        }
    }

    #[test]
    fn kebab_case() {
        assert!(["a", "a-b2", "2-a"].into_iter().all(is_kebab));
        assert!(!["", "a-", "-a", "a--b", "a_b", "A"].into_iter().any(is_kebab));
    }
}
