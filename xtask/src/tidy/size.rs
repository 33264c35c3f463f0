//! Files stay small enough to be read in one go.

use super::{Problem, Tree, rust_text};

/// Lines that a Rust file may have, not counting its tests.
const RUST: usize = 700;

/// Lines that a C file may have.
const C: usize = 300;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in &tree.files {
        let Some(text) = file.text() else { continue };
        let (lines, cap) = match file.ending() {
            "rs" => (rust_text::without_tests(text).lines().count(), RUST),
            "c" | "h" => (text.lines().count(), C),
            _ => continue,
        };
        if lines > cap {
            let what =
                format!("{lines} lines, at most {cap} are allowed: split it by what it does");
            problems.push(Problem::new(&file.path, what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{C, RUST, check};
    use crate::tidy::problems;

    #[test]
    fn files_at_the_cap_pass_and_tests_do_not_count() {
        let rust = "x\n".repeat(RUST) + "#[cfg(test)]\nmod tests {\n" + &"x\n".repeat(500);
        let files =
            [("a.rs", rust.as_str()), ("b.h", &"x\n".repeat(C)), ("c.md", &"x\n".repeat(5000))];
        assert_eq!(problems(check, &files), [""; 0]);
    }

    #[test]
    fn longer_files_do_not() {
        let files = [("a.rs", "x\n".repeat(RUST + 1)), ("b.bpf.c", "x\n".repeat(C + 1))];
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let found = problems(check, &files);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("a.rs: 701 lines, at most 700"), "{found:#?}");
    }
}
