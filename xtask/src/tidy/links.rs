//! Links between documents lead somewhere.

use super::{Problem, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| file.ending() == "md") {
        let Some(text) = file.text() else { continue };
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            let Some(target) = rest.find([')', '\n']).map(|end| &rest[..end]) else { continue };
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !leads_somewhere(tree, &file.path, path) {
                problems.push(Problem::at(&file.path, text, at, format!("{target} is not there")));
            }
        }
    }
    problems
}

/// Whether the repository has this file or folder, seen from the document.
fn leads_somewhere(tree: &Tree, from: &str, path: &str) -> bool {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return false;
        }
    }
    let whole = parts.join("/");
    let below = |file: &str| file.strip_prefix(&whole).is_some_and(|rest| rest.starts_with('/'));
    tree.files.iter().any(|file| file.path == whole || below(&file.path))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::problems;

    #[test]
    fn files_and_folders_are_found_from_where_the_document_is() {
        let text =
            "[a](b.md#x), [b](../src/) and [c](https://example.org/)\n[d](#e) [f](../c.md)\n";
        let files = [("docs/a.md", text), ("docs/b.md", ""), ("src/lib.rs", "")];
        assert_eq!(problems(check, &files), ["docs/a.md:2: ../c.md is not there"]);
        assert_eq!(problems(check, &[("a.md", "[x](../../y)")]).len(), 1);
    }
}
