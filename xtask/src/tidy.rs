//! `cargo xtask tidy`: the invariants of `ARCHITECTURE.md` that a program can check.
//!
//! Each check is a function from the files of the repository to the problems it sees, listed in
//! [`CHECKS`]. All of them run, and all problems are reported at once. A check never repairs.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::docs;

pub(crate) use self::tree::{File, Tree};

mod arrows;
mod knowledge;
mod leftovers;
mod links;
mod lists;
mod packaging;
mod purity;
mod rust_text;
mod scenarios;
mod size;
mod tree;
mod unsafety;

/// Something that must not be so.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    /// File, and line if there is one.
    place: String,
    /// What is wrong, and what to do about it.
    what: String,
}

impl Problem {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }

    /// A problem on the line at `offset` of a text.
    fn at(path: &str, text: &str, offset: usize, what: impl Into<String>) -> Self {
        let line = text[..offset].matches('\n').count() + 1;
        Self::new(format!("{path}:{line}"), what)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// One check: its name and itself.
type Check = (&'static str, fn(&Tree) -> Vec<Problem>);

const CHECKS: &[Check] = &[
    ("crate arrows", arrows::check),
    ("pure crates", purity::check),
    ("lists are complete", lists::check),
    ("knowledge", knowledge::check),
    ("scenarios", scenarios::check),
    ("generated documents", documents),
    ("unsafe only in the probe", unsafety::check),
    ("file sizes", size::check),
    ("what crates.io shows", packaging::check),
    ("links of documents", links::check),
    ("leftovers", leftovers::check),
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("tidy", arguments)?;
    let tree = Tree::read(root)?;
    let mut all = 0;
    for (name, check) in CHECKS {
        let mut problems = check(&tree);
        problems.sort();
        if !problems.is_empty() {
            println!("{name}:");
        }
        for problem in &problems {
            println!("  {problem}");
        }
        all += problems.len();
    }
    if all > 0 {
        bail!("tidy found {all} to put right");
    }
    println!("tidy: {} checks over {} files, nothing to put right", CHECKS.len(), tree.files.len());
    Ok(())
}

/// Documents made from the sources must be what the sources make now.
fn documents(tree: &Tree) -> Vec<Problem> {
    docs::stale(tree).map(|path| Problem::new(path, "old: run `cargo xtask docs`")).collect()
}

/// The problems of a check over a few files, for its tests.
#[cfg(test)]
fn problems(check: fn(&Tree) -> Vec<Problem>, files: &[(&str, &str)]) -> Vec<String> {
    let mut problems = check(&Tree::of(files));
    problems.sort();
    problems.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn lines_are_counted_from_one() {
        let text = "a\nb\nc";
        assert_eq!(Problem::at("f", text, 0, "x").to_string(), "f:1: x");
        assert_eq!(Problem::at("f", text, 4, "x").to_string(), "f:3: x");
    }
}
