//! `unsafe` belongs to the probe, where kernel memory is met, and to
//! three files that make a call which nobody offers safely.

use super::{Problem, Tree, rust_text};

/// Beginnings of the paths where it may be.
const ALLOWED: &[&str] = &[
    "crates/whydrop-probe/",
    "crates/whydrop-collect/src/ethtool_ioctl.rs",
    "crates/whydrop-collect/src/xtables_sockopt.rs",
    "crates/whydrop-lab/src/actor/tun_ioctl.rs",
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.rust() {
        if ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        let code = rust_text::code(text);
        for at in rust_text::words(&code, "unsafe") {
            problems.push(Problem::at(path, text, at, "unsafe code where none belongs"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::problems;

    #[test]
    fn unsafe_is_seen_where_it_may_not_be_and_only_in_code() {
        let files = [
            ("crates/whydrop-probe/src/a.rs", "unsafe { x() }"),
            ("crates/whydrop-collect/src/ethtool_ioctl.rs", "unsafe { x() }"),
            ("crates/whydrop-collect/src/b.rs", "// unsafe\nfn b() { unsafe { x() } }"),
            ("crates/whydrop/src/c.rs", "#![deny(unsafe_code)]\nlet c = \"unsafe\";"),
        ];
        assert_eq!(
            problems(check, &files),
            ["crates/whydrop-collect/src/b.rs:2: unsafe code where none belongs"]
        );
    }
}
