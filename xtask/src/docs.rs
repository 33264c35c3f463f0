//! `cargo xtask docs`: the documents that are made from the sources, so that they cannot be wrong.
//!
//! Each is a function from the files of the repository to its text. `cargo xtask tidy` compares.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use whydrop_diagnose::{Thresholds, causes, knowledge};

use crate::proofs::{self, FIXTURES, Proof, SCENARIOS};
use crate::scenario_keys;
use crate::tidy::Tree;

/// A document: its path and what makes it.
type Document = (&'static str, fn(&Tree) -> String);

const DOCUMENTS: &[Document] = &[
    ("docs/causes.md", causes_and_proofs),
    ("docs/lab.md", scenario_keys::document),
    ("docs/thresholds.md", thresholds),
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("docs", arguments)?;
    let tree = Tree::read(root)?;
    for (path, make) in DOCUMENTS {
        fs::write(root.join(path), make(&tree)).with_context(|| (*path).to_owned())?;
        println!("{path}");
    }
    Ok(())
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
