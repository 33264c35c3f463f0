//! Programs that come from Debian packages: looked for first, installed by name only if missing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command;

/// A program that a task needs.
pub(crate) struct Tool {
    /// The program to look for.
    pub(crate) program: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// What it is needed for, to complete "... for".
    pub(crate) purpose: &'static str,
}

/// Makes sure that the tools are there: installs the packages of those that are missing, after
/// saying so. Returns the tools that are missing all the same, having said why.
pub(crate) fn ensure(tools: &[Tool]) -> Result<Vec<&Tool>> {
    let missing = missing(tools, &search_path());
    if missing.is_empty() {
        return Ok(missing);
    }
    for tool in &missing {
        println!(
            "{} is missing: Debian package {}, for {}",
            tool.program, tool.package, tool.purpose
        );
    }
    if !is_root() {
        println!("not root, so nothing is installed");
        return Ok(missing);
    }
    if which("apt-get", &search_path()).is_none() {
        println!("this is no Debian (no apt-get), so nothing is installed");
        return Ok(missing);
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    println!("installing: {}", packages.join(" "));
    command::run(apt().args(["--quiet", "update"]))?;
    command::run(
        apt().args(["--quiet", "--yes", "--no-install-recommends", "install"]).args(&packages),
    )?;
    Ok(self::missing(tools, &search_path()))
}

/// Whether this process runs as root: `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    apt
}

fn missing<'a>(tools: &'a [Tool], path: &str) -> Vec<&'a Tool> {
    tools.iter().filter(|tool| which(tool.program, path).is_none()).collect()
}

/// The search path, with the folders that an ordinary user's does not have.
fn search_path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin"
}

fn which(program: &str, path: &str) -> Option<String> {
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| format!("{folder}/{program}"))
        .find(|file| Path::new(file).is_file())
}

#[cfg(test)]
mod tests {
    use super::{Tool, missing, which};

    #[test]
    fn only_what_is_not_there_is_missing() {
        let tools = [
            Tool { program: "sh", package: "dash", purpose: "a test" },
            Tool { program: "no-such-program-here", package: "nothing", purpose: "a test" },
        ];
        let missing: Vec<_> =
            missing(&tools, "/usr/bin:/bin").iter().map(|tool| tool.package).collect();
        assert_eq!(missing, ["nothing"]);
        assert!(which("sh", "").is_none());
    }
}
