//! Files stay small enough to be read in one go, and what fuzzers keep small enough to be cloned.

use super::{Problem, Tree, rust_text};

/// Lines that a Rust file may have, not counting its tests.
const RUST: usize = 700;

/// Lines that a C file may have.
const C: usize = 300;

/// Bytes that all files in `fuzz/corpus` may have together.
const CORPORA: usize = 300 * 1024;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let corpora = tree.files.iter().filter(|file| file.path.starts_with("fuzz/corpus/"));
    let bytes: usize = corpora.map(|file| file.bytes.len()).sum();
    if bytes > CORPORA {
        let what = format!("{bytes} bytes, at most {CORPORA} are allowed: leave the longest out");
        problems.push(Problem::new("fuzz/corpus", what));
    }
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
    use super::{C, CORPORA, RUST, check};
    use crate::tidy::problems;

    #[test]
    fn files_at_the_cap_pass_and_tests_do_not_count() {
        let rust = "x\n".repeat(RUST) + "#[cfg(test)]\nmod tests {\n" + &"x\n".repeat(500);
        let files =
            [("a.rs", rust.as_str()), ("b.h", &"x\n".repeat(C)), ("c.md", &"x\n".repeat(5000))];
        assert_eq!(problems(check, &files), [""; 0]);
    }

    #[test]
    fn corpora_are_bounded_together() {
        let half = "x".repeat(CORPORA / 2);
        let files = [("fuzz/corpus/a/1", half.as_str()), ("fuzz/corpus/b/1", half.as_str())];
        assert_eq!(problems(check, &files), [""; 0]);
        let more = [files[0], files[1], ("fuzz/corpus/b/2", "x")];
        assert!(problems(check, &more)[0].contains("leave the longest out"));
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
