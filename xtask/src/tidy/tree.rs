//! The repository as the checks see it: its files, and what cargo says about its packages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{self, cargo};

/// Folders that hold nothing of ours.
const NOT_OURS: &[&str] = &[".git", "target"];

/// The repository.
pub(crate) struct Tree {
    /// All files, by path.
    pub(crate) files: Vec<File>,
    /// What `cargo metadata --no-deps` says.
    pub(crate) metadata: Value,
}

/// One file.
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Contents.
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// The contents, unless they are not text.
    pub(crate) fn text(&self) -> Option<&str> {
        str::from_utf8(&self.bytes).ok()
    }

    /// File name without its ending.
    pub(crate) fn stem(&self) -> &str {
        self.name().0
    }

    /// What follows the last dot of the file name.
    pub(crate) fn ending(&self) -> &str {
        self.name().1
    }

    fn name(&self) -> (&str, &str) {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').unwrap_or((name, ""))
    }
}

impl Tree {
    /// Reads the repository at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let metadata = command::output(cargo().current_dir(root).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        let metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
        Ok(Self { files: files(root)?, metadata })
    }

    /// The file at this path.
    pub(crate) fn find(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The files directly in a folder that have this ending.
    pub(crate) fn in_folder(&self, folder: &str, ending: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| {
            file.path
                .strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|name| !name.contains('/') && file.ending() == ending)
        })
    }

    /// All Rust sources with their text.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(|file| file.ending() == "rs")
            .filter_map(|file| Some((file.path.as_str(), file.text()?)))
    }

    /// A repository of a few files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| File { path: (*path).into(), bytes: (*text).into() })
            .collect();
        Self { files, metadata: Value::Null }
    }
}

/// All files under `root` in the order of their paths.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let listing = root.join(&folder);
        for entry in fs::read_dir(&listing).with_context(|| listing.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).with_context(|| path.clone())?;
                files.push(File { path, bytes });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Tree, files};
    use crate::scratch::Scratch;

    #[test]
    fn reads_what_is_ours_and_nothing_else() {
        let scratch = Scratch::new("tree").unwrap();
        for path in [".git/config", "target/debug/x", "src/deep/er/a.rs", "b.md"] {
            let path = scratch.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        let files = files(scratch.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["b.md", "src/deep/er/a.rs"]);
        assert_eq!(files[1].text(), Some("text"));
        assert_eq!((files[1].stem(), files[1].ending()), ("a", "rs"));
    }

    #[test]
    fn a_folder_does_not_hold_what_its_subfolders_hold() {
        let tree = Tree::of(&[("a/b.rs", ""), ("a/c/d.rs", ""), ("a/e.md", ""), ("ab/f.rs", "")]);
        let found: Vec<_> = tree.in_folder("a", "rs").map(|file| file.path.as_str()).collect();
        assert_eq!(found, ["a/b.rs"]);
    }
}
