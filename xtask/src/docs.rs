//! `cargo xtask docs [--check]`: the documents that are made, so that they cannot be wrong.
//!
//! Most are a function from the files of the repository to its text; `cargo xtask tidy` compares these
//! as well. Two come from the program itself, built first: what it says of its options, and what it
//! answers to the commands of the guide.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use whydrop_diagnose::{Thresholds, causes, knowledge};

use crate::Usage;
use crate::command::{self, cargo};
use crate::debian;
use crate::guide;
use crate::proofs::{self, FIXTURES, Proof, SCENARIOS};
use crate::reference;
use crate::scenario_keys;
use crate::tidy::Tree;

/// A document: its path and what makes it.
type Document = (&'static str, fn(&Tree) -> String);

const DOCUMENTS: &[Document] = &[
    ("docs/causes.md", causes_and_proofs),
    ("docs/lab.md", scenario_keys::document),
    ("docs/thresholds.md", thresholds),
];

const GUIDE: &str = "docs/guide.md";

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [one] if one == "--check" => true,
        _ => return Err(Usage("`docs` takes nothing or --check".into()).into()),
    };
    let tree = Tree::read(root)?;
    for (path, make) in DOCUMENTS {
        settle(root, path, &make(&tree), check)?;
    }
    command::run(cargo().current_dir(root).args(["build", "--quiet", "--package=whydrop"]))?;
    let folder = tree.metadata["target_directory"].as_str().context("cargo tells no folder")?;
    let program = Path::new(folder).join("debug/whydrop");
    settle(root, "docs/reference.md", &reference::document(&program)?, check)?;
    if debian::is_root() {
        let guide = fs::read_to_string(root.join(GUIDE)).context(GUIDE)?;
        settle(root, GUIDE, &guide::document(&program, &guide)?, check)
    } else {
        println!("{GUIDE}: not checked: its commands need root");
        Ok(())
    }
}

/// Writes a document if it differs, or says that it does.
fn settle(root: &Path, path: &str, text: &str, check: bool) -> Result<()> {
    let place = root.join(path);
    let written = fs::read_to_string(&place).unwrap_or_default();
    if written == text {
        println!("{path}: as it should be");
        return Ok(());
    }
    ensure!(!check, "{path} is old: run `cargo xtask docs`\n{}", difference(&written, text));
    println!("{path}: written");
    fs::write(&place, text).with_context(|| path.to_owned())
}

/// The first line in which two texts differ.
fn difference(written: &str, made: &str) -> String {
    let mut both = written.lines().zip(made.lines()).enumerate();
    match both.find(|(_, (is, should))| is != should) {
        Some((line, (is, should))) => format!("line {}: `{is}` should be `{should}`", line + 1),
        None => "one ends where the other goes on".into(),
    }
}

/// Documents that are not what the sources make now.
pub(crate) fn stale(tree: &Tree) -> impl Iterator<Item = &'static str> {
    DOCUMENTS.iter().filter_map(move |(path, make)| {
        let written = tree.find(path).and_then(|file| file.text());
        (written != Some(&make(tree))).then_some(*path)
    })
}

/// The first line of every such document.
pub(crate) const MADE: &str = "<!-- Made by `cargo xtask docs`; change the sources instead. -->";

fn causes_and_proofs(tree: &Tree) -> String {
    let (proofs, _) = proofs::all(tree);
    let mut text = format!(
        "{MADE}\n\n# Causes, and what proves each\n\nEvery cause of packet loss that a report can name. \
         `whydrop explain CAUSE` says more of each.\n\nA proof is a scenario of the lab \
         ([scenarios](../{SCENARIOS})), which provokes the loss on a real kernel and wants the right \
         answer, or a fixture ([fixtures](../{FIXTURES})): evidence of what no virtual machine can \
         provoke. Fixtures are set in *italics*.\n"
    );
    for layer in causes::LAYERS {
        let _ = write!(
            text,
            "\n## {layer}\n\n| cause | class | meaning | proven by |\n|---|---|---|---|\n"
        );
        for cause in causes::all().iter().filter(|cause| cause.layer == *layer) {
            let page = knowledge::find(cause.id);
            let class = page.map_or("", |page| page.class);
            let meaning = page.map_or("", |page| page.meaning);
            let proven = proven_by(cause.id, &proofs);
            let _ = writeln!(text, "| `{}` | {class} | {meaning} | {proven} |", cause.id);
        }
    }
    text
}

/// Scenarios and fixtures that expect a cause.
fn proven_by(cause: &str, proofs: &[Proof]) -> String {
    let of_it = proofs.iter().filter(|proof| proof.causes.iter().any(|one| one == cause));
    let (fixtures, scenarios): (Vec<_>, Vec<_>) = of_it.partition(|proof| proof.fixture);
    let names: Vec<String> = scenarios
        .iter()
        .map(|proof| proof.name.clone())
        .chain(fixtures.iter().map(|proof| format!("*{}*", proof.name)))
        .collect();
    if names.is_empty() { "nothing yet".into() } else { names.join(", ") }
}

fn thresholds(_: &Tree) -> String {
    let mut text = format!(
        "{MADE}\n\n# Thresholds\n\nMost of what whydrop says follows from what the kernel counts and does. \
         Where it draws no line\nitself, a threshold does; these are all of them. Others are set in a \
         configuration file,\n`whydrop --config FILE`:\n\n    [thresholds]\n    steal = 0.1\n\nA name that \
         does not exist is refused, and so is a value that makes no sense.\n\n\
         | threshold | default | from .. to | what for |\n|---|---|---|---|\n"
    );
    for one in Thresholds::list() {
        let (least, most) = (one.range.start(), one.range.end());
        let _ = writeln!(
            text,
            "| `{}` | {} | {least} .. {most} | {} |",
            one.name, one.default, one.meaning
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{DOCUMENTS, proven_by, stale};
    use crate::proofs::Proof;
    use crate::tidy::Tree;

    #[test]
    fn an_old_document_is_seen() {
        let made: Vec<_> =
            DOCUMENTS.iter().map(|(path, make)| (*path, make(&Tree::of(&[])))).collect();
        let files: Vec<_> = made.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(stale(&Tree::of(&files)).count(), 0);
        let mut old = files.clone();
        old[1].1 = "as it was";
        assert_eq!(stale(&Tree::of(&old)).collect::<Vec<_>>(), [DOCUMENTS[1].0]);
        assert_eq!(stale(&Tree::of(&[])).count(), DOCUMENTS.len());
    }

    #[test]
    fn a_cause_is_beside_what_proves_it() {
        let proof = |name: &str, fixture| Proof {
            path: String::new(),
            name: name.into(),
            fixture,
            no_scenario: None,
            causes: vec!["x".into()],
            answered: false,
            quiet: Vec::new(),
        };
        let proofs = [proof("x/ena", true), proof("x-ipv6", false)];
        assert_eq!(proven_by("x", &proofs), "x-ipv6, *x/ena*");
        assert_eq!(proven_by("y", &proofs), "nothing yet");
    }
}
