//! What is left lying about while working: open ends without an issue, module files of the old
//! kind, names of the author's own machine.

use super::{Problem, Tree};

/// Marks of an open end. Written in two parts so that this file has none.
const OPEN_ENDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Beginnings of absolute paths that exist on one machine only.
const PRIVATE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];

/// The only registry that packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in &tree.files {
        if file.path == "mod.rs" || file.path.ends_with("/mod.rs") {
            let what = "name the module file after its module: foo.rs beside foo/";
            problems.push(Problem::new(&file.path, what));
        }
        // Compiled objects too: a build must not leave the builder's folders in them.
        let text = String::from_utf8_lossy(&file.bytes);
        for path in PRIVATE_PATHS {
            for (at, _) in text.match_indices(path).filter(|(at, _)| begins_path(&text, *at)) {
                problems.push(Problem::at(&file.path, &text, at, format!("{path} of one machine")));
            }
        }
        if file.path == "Cargo.lock" {
            problems.extend(foreign_sources(&text));
        }
        if file.text().is_some() {
            open_ends(&file.path, &text, &mut problems);
        }
    }
    problems
}

/// Whether the path at `at` is absolute, and not the tail of another one.
fn begins_path(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_none_or(|before| !(before.is_alphanumeric() || "/._-}$*".contains(before)))
}

fn open_ends(path: &str, text: &str, problems: &mut Vec<Problem>) {
    for mark in OPEN_ENDS {
        for (at, _) in text.match_indices(mark) {
            let whole = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
            let rest = &text[at + mark.len()..];
            if !whole(text[..at].chars().next_back()) || !whole(rest.chars().next()) {
                continue;
            }
            let issue = rest.trim_start_matches('(').trim_start().strip_prefix('#');
            if !issue.is_some_and(|issue| issue.starts_with(|c: char| c.is_ascii_digit())) {
                let what = format!("{mark} without an issue: write {mark}(#number)");
                problems.push(Problem::at(path, text, at, what));
            }
        }
    }
}

/// Packages in the lock file that come from anywhere but crates.io.
fn foreign_sources(lock: &str) -> Vec<Problem> {
    let source =
        |line: &str| line.strip_prefix("source = ").map(|it| it.trim_matches('"').to_owned());
    (1..)
        .zip(lock.lines())
        .filter_map(|(number, line)| Some((number, source(line)?)))
        .filter(|(_, source)| source != REGISTRY)
        .map(|(number, source)| {
            Problem::new(format!("Cargo.lock:{number}"), format!("{source} is not crates.io"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{OPEN_ENDS, PRIVATE_PATHS, REGISTRY, check};
    use crate::tidy::problems;

    #[test]
    fn open_ends_need_an_issue() {
        let mark = OPEN_ENDS[0];
        let good = format!("// {mark}(#12): later\n// {mark} #3\nlet {mark}_LIST = 1;\n");
        assert_eq!(problems(check, &[("a.rs", &good)]), [""; 0]);
        for bad in [format!("\n// {mark}: later"), format!("\n{mark}"), format!("\n{mark}(me)")] {
            let found = problems(check, &[("a.rs", &bad)]);
            assert_eq!(found, [format!("a.rs:2: {mark} without an issue: write {mark}(#number)")]);
        }
    }

    #[test]
    fn module_files_are_named_after_their_module() {
        assert_eq!(problems(check, &[("src/a/mod.rs", ""), ("src/amod.rs", "")]).len(), 1);
    }

    #[test]
    fn paths_of_one_machine_are_seen() {
        let own = PRIVATE_PATHS[0];
        let good = format!("https://example.org{own}x /proc/PID{own}x ${{ROOT}}{own}");
        assert_eq!(problems(check, &[("a.md", &good)]), [""; 0]);
        assert_eq!(problems(check, &[("a.md", &format!("in `{own}me`"))]).len(), 1);
        assert_eq!(problems(check, &[("a.o", &format!("\0{own}me\0"))]).len(), 1);
    }

    #[test]
    fn packages_come_from_one_registry() {
        let lock = format!("source = \"{REGISTRY}\"\nsource = \"sparse+https://example.org/\"\n");
        assert_eq!(
            problems(check, &[("Cargo.lock", &lock)]),
            ["Cargo.lock:2: sparse+https://example.org/ is not crates.io"]
        );
    }
}
