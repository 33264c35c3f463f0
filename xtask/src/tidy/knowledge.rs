//! The pages of causes and drop reasons: ids that are well-formed, pages that are named after what they
//! explain. What the words in them must be is tested by the crate that reads them.

use toml::Table;

use super::{Problem, Tree};

/// Where the pages of causes are: they are the list of all causes.
pub(super) const CAUSES: &str = "crates/whydrop-diagnose/knowledge/causes";
const REASONS: &str = "crates/whydrop-diagnose/knowledge/reasons";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    if causes(tree).is_empty() {
        problems.push(Problem::new(CAUSES, "missing"));
    }
    for file in tree.in_folder(CAUSES, "md") {
        let wrong = cause(file.stem(), file.text().unwrap_or_default());
        problems.extend(wrong.into_iter().map(|what| Problem::new(&file.path, what)));
    }
    for file in tree.in_folder(REASONS, "md") {
        problems.extend(page(&file.path, file.text().unwrap_or_default()));
    }
    problems
}

/// What is wrong with the names on the page of a cause.
fn cause(stem: &str, text: &str) -> Vec<String> {
    let head = text.strip_prefix("+++\n").and_then(|rest| rest.split_once("\n+++\n"));
    let Some(head) = head.and_then(|(head, _)| toml::from_str::<Table>(head).ok()) else {
        return vec!["the page does not begin with a head in TOML between lines of +++".into()];
    };
    let id = head.get("id").and_then(|id| id.as_str()).unwrap_or_default();
    let variants = head.get("variants").and_then(|list| list.as_array()).into_iter().flatten();
    let names = variants.map(|variant| variant.as_str().unwrap_or_default()).chain([id]);
    let malformed = names.filter(|name| !is_kebab(name));
    let mut wrong: Vec<_> = malformed.map(|name| format!("{name} is not kebab-case")).collect();
    if id != stem {
        wrong.push(format!("{id} is not the id of this file's cause"));
    }
    wrong
}

/// Lower-case words and numbers joined by single hyphens.
pub(super) fn is_kebab(id: &str) -> bool {
    id.split('-').all(|word| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// A page's head begins with its name, and the name is that of the file.
fn page(path: &str, text: &str) -> Option<Problem> {
    let name = path.strip_prefix(REASONS).and_then(|name| name.strip_prefix('/'));
    let stem = name.and_then(|name| name.strip_suffix(".md"))?;
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
    tree.in_folder(CAUSES, "md").map(super::File::stem).collect()
}

#[cfg(test)]
mod tests {
    use super::{check, is_kebab};
    use crate::tidy::problems;

    const CAUSE: &str = "crates/whydrop-diagnose/knowledge/causes/lan-chatter.md";
    const GOOD: &str = "+++\nid = \"lan-chatter\"\nvariants = [\"arp\", \"v2-x\"]\n+++\n";
    const PAGE: &str = "crates/whydrop-diagnose/knowledge/reasons/a_1@some_call.md";

    #[test]
    fn good_pages_pass() {
        let page = "+++\nname = \"A_1@some_call\"\n+++\n";
        assert_eq!(problems(check, &[(CAUSE, GOOD), (PAGE, page)]), [""; 0]);
        assert_eq!(problems(check, &[]).len(), 1, "there are no causes");
    }

    #[test]
    fn each_bad_cause_is_named() {
        for (page, what) in [
            (
                GOOD.replace("id = \"lan", "id = \"wan"),
                "wan-chatter is not the id of this file's cause",
            ),
            (GOOD.replace("v2-x", "v2_x"), "v2_x is not kebab-case"),
            (
                GOOD.replace("\n+++\n", ""),
                "the page does not begin with a head in TOML between lines of +++",
            ),
        ] {
            assert_eq!(problems(check, &[(CAUSE, &page)]), [format!("{CAUSE}: {what}")]);
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
            let found = problems(check, &[(CAUSE, GOOD), (PAGE, page)]);
            assert_eq!(found, [format!("{PAGE}: {what}")]);
        }
    }

    #[test]
    fn kebab_case() {
        assert!(["a", "a-b2", "2-a"].into_iter().all(is_kebab));
        assert!(!["", "a-", "-a", "a--b", "a_b", "A"].into_iter().any(is_kebab));
    }
}
