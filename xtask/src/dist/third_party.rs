//! What others wrote and the static program holds: their names, licences and the texts of these, which
//! most licences want to go with every copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::{self, cargo};

/// How files with licences begin.
const FILES: &[&str] = &["licen", "copying", "notice", "copyright"];

/// The document for the program built for this target.
pub(super) fn document(root: &Path, target: &str) -> Result<String> {
    let tree = command::output(cargo().current_dir(root).args([
        "tree",
        "--locked",
        "--package=whydrop",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--target",
        target,
    ]))?;
    let linked: BTreeSet<_> = tree.lines().filter_map(name_and_version).collect();
    let metadata = command::output(cargo().current_dir(root).args([
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        target,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
        let named = (text("name"), text("version"));
        // Ours have no source: their licences are beside this document.
        if package["source"].is_string() && linked.contains(&named) {
            packages.insert(named, (text("license"), PathBuf::from(text("manifest_path"))));
        }
    }
    ensure!(!packages.is_empty(), "cargo tells of no dependencies");
    let mut document = String::from("The program whydrop holds, linked statically:\n\n");
    for ((name, version), (licence, _)) in &packages {
        let _ = writeln!(document, "  {name} {version}: {licence}");
    }
    for ((name, version), (_, manifest)) in &packages {
        let folder = manifest.parent().context("a manifest in a folder")?;
        for file in licences(folder)? {
            let text = fs::read(&file).with_context(|| file.display().to_string())?;
            let of = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = String::from_utf8_lossy(&text);
            let _ = write!(document, "\n==== {name} {version}: {of}\n\n{}\n", text.trim_end());
        }
    }
    Ok(document)
}

/// From a line such as `aya v0.14.0 (*)`.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

fn licences(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && FILES.iter().any(|beginning| name.starts_with(beginning)) {
            found.insert(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::name_and_version;

    #[test]
    fn lines_of_the_tree_name_packages() {
        let named = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(name_and_version("aya v0.14.0"), named("aya", "0.14.0"));
        assert_eq!(name_and_version("serde v1.0.229 (*)"), named("serde", "1.0.229"));
        assert_eq!(name_and_version(""), None);
    }
}
