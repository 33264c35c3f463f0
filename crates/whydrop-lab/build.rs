//! Lists the scenario files for inclusion, so that adding a scenario is adding a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=scenarios");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    for (folder, file) in [("scenarios", "scenarios.rs"), ("scenarios/planned", "planned.rs")] {
        fs::write(PathBuf::from(&out).join(file), list(folder)?)?;
    }
    Ok(())
}

/// An array of name and text of every scenario in a folder; empty if there is no such folder.
fn list(folder: &str) -> io::Result<String> {
    let mut names = Vec::new();
    let entries = if Path::new(folder).exists() { Some(fs::read_dir(folder)?) } else { None };
    for entry in entries.into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();

    let mut list = String::from("[\n");
    for name in names {
        let file = format!("/{folder}/{name}.toml");
        writeln!(
            list,
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {file:?}))),"
        )
        .map_err(io::Error::other)?;
    }
    list.push_str("]\n");
    Ok(list)
}
