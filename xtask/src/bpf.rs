//! `cargo xtask bpf`: the checked-in BPF objects, rebuilt from their sources.
//!
//! The objects are checked in so that building whydrop needs no C compiler. One compiler version
//! makes them, Debian 12's clang-14, and its output does not depend on where the repository lies:
//! it runs in the folder of the sources, with relative names only. See `docs/decisions/0002`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::debian::{self, Tool};

/// Where sources and objects are: the tracer, and what the lab attaches to devices.
const FOLDERS: [&str; 2] = ["crates/whydrop-probe/bpf", "crates/whydrop-lab/bpf"];

const TOOLS: &[Tool] = &[
    Tool { program: "clang-14", package: "clang-14", purpose: "compiling the BPF objects" },
    Tool { program: "llvm-strip-14", package: "llvm-14", purpose: "stripping the BPF objects" },
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    match arguments {
        [] => rebuild(root),
        [option] if option == "--check" => check(root),
        [other, ..] => Err(crate::Usage(format!("`bpf` takes only --check, got `{other}`")).into()),
    }
}

/// Elsewhere first: this task is built with the objects that it replaces, so that without them it could
/// not be run again.
fn rebuild(root: &Path) -> Result<()> {
    need_compiler()?;
    let scratch = scratch(root)?;
    for folder in FOLDERS {
        let folder = root.join(folder);
        for source in sources(&folder)? {
            let (built, object) =
                (scratch.join(object_of(&source)), folder.join(object_of(&source)));
            compile(&folder, &source, &built)?;
            fs::copy(&built, &object).with_context(|| format!("writing {}", object.display()))?;
        }
    }
    Ok(())
}

fn scratch(root: &Path) -> Result<PathBuf> {
    let scratch = root.join("target/xtask-bpf");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    Ok(scratch)
}

/// Builds every object anew, elsewhere, and compares it with the one checked in.
fn check(root: &Path) -> Result<()> {
    need_compiler()?;
    let scratch = scratch(root)?;
    let (mut problems, mut objects) = (Vec::new(), 0);
    for folder in FOLDERS {
        let folder = root.join(folder);
        let sources = sources(&folder)?;
        for source in &sources {
            compile(&folder, source, &scratch.join(object_of(source)))?;
        }
        problems.extend(differences(&folder, &scratch, &sources)?);
        objects += sources.len();
    }
    if !problems.is_empty() {
        bail!("{}\nrun `cargo xtask bpf` and commit the result", problems.join("\n"));
    }
    println!("bpf: {} checked in as built from source", count(objects, "object"));
    Ok(())
}

fn need_compiler() -> Result<()> {
    let missing = debian::ensure(TOOLS)?;
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    bail!("BPF objects cannot be built without {}", packages.join(" and "))
}

fn compile(folder: &Path, source: &str, object: &Path) -> Result<()> {
    command::run(
        Command::new("clang-14")
            .current_dir(folder)
            .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror"])
            // Without this the path of the repository ends up in the BTF line information.
            .arg("-fdebug-compilation-dir=.")
            .args(["-c", source, "-o"])
            .arg(object),
    )?;
    // Drops DWARF, keeps .BTF and .BTF.ext.
    command::run(Command::new("llvm-strip-14").current_dir(folder).arg("-g").arg(object))
}

/// What differs between the objects in a folder and those rebuilt: one line for each.
fn differences(folder: &Path, rebuilt: &Path, sources: &[String]) -> Result<Vec<String>> {
    let name = folder.display();
    let mut problems = Vec::new();
    for source in sources {
        let object = object_of(source);
        let new = fs::read(rebuilt.join(&object)).with_context(|| format!("rebuilt {object}"))?;
        match fs::read(folder.join(&object)) {
            Ok(old) if old == new => {}
            Ok(_) => problems.push(format!("{name}/{object} is not what {source} compiles to")),
            Err(error) => problems.push(format!("{name}/{object}: {error}")),
        }
    }
    for object in ending_in(folder, ".bpf.o")? {
        if !sources.iter().any(|source| object_of(source) == object) {
            problems.push(format!("{name}/{object} has no source"));
        }
    }
    Ok(problems)
}

/// Names of the BPF sources in a folder; never empty.
fn sources(folder: &Path) -> Result<Vec<String>> {
    let sources = ending_in(folder, ".bpf.c")?;
    if sources.is_empty() {
        bail!("no *.bpf.c in {}", folder.display());
    }
    Ok(sources)
}

fn ending_in(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = PathBuf::from(entry?.file_name()).to_string_lossy().into_owned();
        if name.ends_with(ending) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn object_of(source: &str) -> String {
    format!("{}.bpf.o", source.trim_end_matches(".bpf.c"))
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{differences, object_of, sources};
    use crate::scratch::Scratch;

    #[test]
    fn an_object_is_named_after_its_source() {
        assert_eq!(object_of("drop.bpf.c"), "drop.bpf.o");
    }

    #[test]
    fn every_kind_of_difference_names_the_object() {
        let here = Scratch::new("bpf-here").unwrap();
        let there = Scratch::new("bpf-there").unwrap();
        for (name, text) in [("same.bpf.c", ""), ("changed.bpf.c", ""), ("new.bpf.c", "")] {
            fs::write(here.path().join(name), text).unwrap();
        }
        for (name, old, new) in [
            ("same", Some("1"), Some("1")),
            ("changed", Some("1"), Some("2")),
            ("new", None, Some("3")),
        ] {
            for (folder, text) in [(&here, old), (&there, new)] {
                if let Some(text) = text {
                    fs::write(folder.path().join(format!("{name}.bpf.o")), text).unwrap();
                }
            }
        }
        fs::write(here.path().join("gone.bpf.o"), "4").unwrap();
        let sources = sources(here.path()).unwrap();
        let problems = differences(here.path(), there.path(), &sources).unwrap();
        assert_eq!(problems.len(), 3, "{problems:#?}");
        for name in ["changed.bpf.o is not", "new.bpf.o: ", "gone.bpf.o has no source"] {
            assert!(problems.iter().any(|line| line.contains(name)), "{name}: {problems:#?}");
        }
    }

    #[test]
    fn a_folder_without_sources_is_an_error() {
        let empty = Scratch::new("bpf-empty").unwrap();
        assert!(sources(empty.path()).is_err());
    }
}
