//! Turns the pages in `knowledge/` into tables, so that adding a page is adding a file and reading
//! them costs the program nothing.
//!
//! A page that is not well formed is left out and named in `MALFORMED`; a test wants that list empty.

#![expect(clippy::disallowed_methods, reason = "the build reads the pages; the diagnosis does not")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use toml::{Table, Value};

/// Keys that a head may have.
const KEYS: &[&str] =
    &["name", "id", "layer", "class", "since", "until", "aliases", "variants", "meaning", "see"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=knowledge");
    let mut pages =
        String::from("/// Every page, by kind and file name.\npub static PAGES: &[Page] = &[\n");
    let mut malformed = String::from(
        "/// Files that are not pages, and why.\n#[cfg(test)]\nstatic MALFORMED: &[(&str, &str)] = &[\n",
    );
    for (folder, kind) in [("reasons", "Reason"), ("causes", "Cause")] {
        for path in files(&Path::new("knowledge").join(folder))? {
            let text = fs::read_to_string(&path)?;
            let written = match page(kind, &path, &text) {
                Ok(page) => writeln!(pages, "    {page},"),
                Err(why) => writeln!(malformed, "    ({:?}, {why:?}),", path.display().to_string()),
            };
            written.map_err(io::Error::other)?;
        }
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(PathBuf::from(out).join("pages.rs"), format!("{pages}];\n\n{malformed}];\n"))
}

/// The Markdown files of a folder by name; none if there is no such folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The page as a Rust expression, or what is wrong with it.
fn page(kind: &str, path: &Path, text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("+++\n").ok_or("does not begin with a line of +++")?;
    let (head, body) =
        rest.split_once("\n+++\n").ok_or("the head does not end with a line of +++")?;
    let head: Table = toml::from_str(head).map_err(|error| error.message().to_owned())?;
    if let Some(key) = head.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("the head has an unknown key {key}"));
    }
    let name = text_of(&head, if kind == "Cause" { "id" } else { "name" })?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if stem != name.to_lowercase() {
        return Err(format!("the file name is not {}.md", name.to_lowercase()));
    }
    Ok(format!(
        "Page {{ kind: Kind::{kind}, name: {name:?}, layer: {:?}, class: {:?}, since: {:?}, \
         until: {:?}, aliases: &{:?}, variants: &{:?}, meaning: {:?}, see: &{:?}, body: {:?} }}",
        text_of(&head, "layer")?,
        text_of(&head, "class")?,
        optional(&head, "since")?,
        optional(&head, "until")?,
        list(&head, "aliases")?,
        list(&head, "variants")?,
        text_of(&head, "meaning")?,
        list(&head, "see")?,
        body.trim(),
    ))
}

fn text_of<'a>(head: &'a Table, key: &str) -> Result<&'a str, String> {
    optional(head, key)?.ok_or_else(|| format!("the head has no {key}"))
}

fn optional<'a>(head: &'a Table, key: &str) -> Result<Option<&'a str>, String> {
    match head.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key} is not a text")),
    }
}

fn list<'a>(head: &'a Table, key: &str) -> Result<Vec<&'a str>, String> {
    let wrong = || format!("{key} is not a list of texts");
    match head.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}
