//! What a machine lacks is said, and is not taken for a failure or a success.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests panic, and say why they skip")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

const STANDIN: &str = env!("CARGO_BIN_EXE_whydrop-lab-standin");

/// A folder of programs, removed when dropped.
struct Programs(PathBuf);

impl Programs {
    /// Has the real `ip`, and a `tc` that knows no queue discipline.
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("whydrop-lab-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = env::var_os("PATH").unwrap();
        let ip = env::split_paths(&path).map(|folder| folder.join("ip")).find(|ip| ip.exists());
        symlink(ip.unwrap(), folder.join("ip")).unwrap();
        let tc = folder.join("tc");
        let said = "Error: Specified qdisc kind is unknown.";
        fs::write(&tc, format!("#!/bin/sh\necho '{said}' >&2\nexit 2\n")).unwrap();
        fs::set_permissions(&tc, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What provoking a scenario says with no other programs than these; `None` if not root.
fn provoke(programs: &Path, name: &str) -> Option<serde_json::Value> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let output =
        Command::new(STANDIN).args(["provoke", name]).env("PATH", programs).output().unwrap();
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_program_that_is_not_installed() {
    let programs = Programs::new("without-nft");
    let Some(provoked) = provoke(&programs.0, "netfilter-input-rule") else { return };
    let why = "`nft` is not installed (Debian package: nftables)";
    assert_eq!(provoked["skipped"], why);
    assert_eq!(provoked["moved"], serde_json::json!({}));
}

#[test]
fn a_kernel_without_a_queue_discipline() {
    let programs = Programs::new("without-tbf");
    let Some(provoked) = provoke(&programs.0, "qdisc-limit-tbf") else { return };
    let why = "this machine has no tbf queue discipline: Error: Specified qdisc kind is unknown.";
    assert_eq!(provoked["skipped"], why);
}
