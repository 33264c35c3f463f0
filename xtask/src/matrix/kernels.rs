//! Debian's own kernels, fetched with a private configuration of apt and kept under `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;

/// A line of kernels, of which the newest package is taken.
pub(super) struct Line {
    /// As on the command line.
    pub(super) name: &'static str,
    archive: &'static str,
    suite: &'static str,
    /// How the names of its packages begin; from 7.0 on, modules are in a package of their own.
    packages: &'static [&'static str],
}

/// All lines of the matrix, oldest first.
pub(super) const LINES: &[Line] = &[
    Line {
        name: "5.10",
        archive: "debian-security",
        suite: "bullseye-security",
        packages: &["linux-image-5.10.0-"],
    },
    Line {
        name: "6.1",
        archive: "debian-security",
        suite: "bookworm-security",
        packages: &["linux-image-6.1.0-"],
    },
    Line {
        name: "6.12",
        archive: "debian-security",
        suite: "bookworm-security",
        packages: &["linux-image-6.12."],
    },
    Line {
        name: "7.2",
        archive: "debian",
        suite: "trixie-backports",
        packages: &["linux-binary-7.2.", "linux-modules-7.2."],
    },
];

/// How the names of the packages end: the small kernel for virtual machines, signed.
const FLAVOUR: &str = "-cloud-amd64";

/// No single step of apt takes longer; a server that does not answer must not hold up everything.
const STEP_LIMIT: &str = "300";

/// The folder with the unpacked kernel; fetched unless it is there. The outermost context of an error
/// says what happened without a path of this machine.
pub(super) fn fetch(line: &Line, folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("kernel");
    if unpacked.exists() {
        return Ok(unpacked);
    }
    let apt = Apt::new(line, folder).context("no place for the package")?;
    let suite = line.suite;
    command::run(apt.command("apt-get").arg("update"))
        .with_context(|| format!("Debian's archive does not give the list of {suite}"))?;
    let partial = folder.join("unpacking");
    for prefix in line.packages {
        let names = command::output(apt.command("apt-cache").args(["pkgnames", prefix]))
            .with_context(|| format!("the list of {suite} cannot be read"))?;
        let package = newest(&names)
            .with_context(|| format!("{suite} has no package {prefix}*{FLAVOUR} any more"))?;
        command::run(apt.command("apt-get").current_dir(folder).args(["download", package]))
            .with_context(|| format!("Debian's archive does not give {package}"))?;
    }
    unpack(folder, &partial).context("the package cannot be unpacked")?;
    fs::rename(&partial, &unpacked).context("the package cannot be unpacked")?;
    Ok(unpacked)
}

/// Unpacks what was downloaded, and leaves nothing else of it.
fn unpack(folder: &Path, partial: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg").arg("-x").arg(&file).arg(partial))?;
            fs::remove_file(&file)?;
        }
    }
    for left in ["lists", "cache"] {
        fs::remove_dir_all(folder.join(left))?;
    }
    Ok(())
}

/// The file that is booted: in `boot`, or since 7.0 beside the modules.
pub(super) fn image(kernel: &Path) -> Result<PathBuf> {
    let found = command::output(
        Command::new("find").arg(kernel).args(["-name", "vmlinuz*", "-type", "f"]),
    )?;
    found.lines().next().map(PathBuf::from).context("the package has no vmlinuz")
}

/// Apt with sources, lists and downloads of its own; the host's stay as they are.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(line: &Line, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        let sources = folder.join("sources.list");
        let Line { archive, suite, .. } = line;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source =
            format!("deb [signed-by={keys}] http://deb.debian.org/{archive} {suite} main\n");
        fs::write(&sources, source)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={}", path("cache")),
            // A list that cannot be fetched is an error, not a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            "quiet=2".to_owned(),
        ];
        Ok(Self { options: options.into() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args([STEP_LIMIT, program]);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
}

/// The package with the highest numbers in its name.
fn newest(names: &str) -> Option<&str> {
    names.lines().filter(|name| name.ends_with(FLAVOUR)).max_by_key(|name| numbers(name))
}

/// The numbers in a name, to compare releases by.
pub(super) fn numbers(name: &str) -> Vec<u32> {
    let parts = name.split(|letter: char| !letter.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_is_told_by_numbers_not_letters() {
        let names = "linux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.12.117+deb12-cloud-amd64\n\
                     linux-image-6.12.118+deb12-amd64\nlinux-image-6.12.119+deb12-cloud-amd64-dbg\n";
        assert_eq!(newest(names), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest("linux-image-amd64\n"), None);
    }
}
