//! `cargo xtask dist [--check]`: a static binary and a Debian package of it.
//!
//! With `--check` the package is also looked over by lintian, and installed into a fresh Debian tree,
//! run there and purged ([`fresh`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::Usage;
use crate::command::{self, cargo};
use crate::debian::{self, Tool};

mod fresh;
mod package;
mod third_party;

pub(crate) use fresh::inside;

/// Linked without a C library of the host, so that one binary runs on any distribution.
const TARGET: &str = "x86_64-unknown-linux-musl";

const TOOLS: &[Tool] = &[
    Tool { program: "dpkg-deb", package: "dpkg", purpose: "building the package" },
    Tool { program: "gzip", package: "gzip", purpose: "manual pages and changelogs" },
    Tool { program: "md5sum", package: "coreutils", purpose: "checksums in the package" },
];

const CHECK_TOOLS: &[Tool] = &[
    Tool { program: "debootstrap", package: "debootstrap", purpose: "a fresh Debian tree" },
    Tool { program: "lintian", package: "lintian", purpose: "Debian's own rules for packages" },
    Tool { program: "unshare", package: "util-linux", purpose: "mounts that end with the check" },
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [one] if one == "--check" => true,
        _ => return Err(Usage("`dist` takes nothing or --check".into()).into()),
    };
    // What would fail at the end fails before the long build.
    ensure!(!check || debian::is_root(), "--check needs root: it makes a Debian tree and runs it");
    need(TOOLS)?;
    if check {
        need(CHECK_TOOLS)?;
    }
    ensure!(can_build(root), "this toolchain has no target {TARGET}");
    let binary = step("static binary", || build(root))?;
    let package = step("package", || package::make(root, &binary))?;
    if check {
        step("lintian", || lint(&package))?;
        step("fresh Debian tree", || fresh::try_out(&package))?;
    }
    println!("\n{}\n{}", binary.display(), package.display());
    Ok(())
}

/// A step of `cargo xtask ci`. Where the package cannot be made or tried, nothing can be said.
pub(crate) fn check(root: &Path) -> Result<()> {
    let unable = if !debian::is_root() {
        Some("it needs root".to_owned())
    } else if can_build(root) {
        need(TOOLS).and_then(|()| need(CHECK_TOOLS)).err().map(|error| format!("{error:#}"))
    } else {
        Some(format!("this toolchain has no target {TARGET}"))
    };
    match unable {
        Some(why) => {
            println!("NOT RUN, so nothing is known of the package: {why}");
            Ok(())
        }
        None => run(root, &["--check".into()]),
    }
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {name}");
    let start = Instant::now();
    let done = work().with_context(|| name.to_owned())?;
    println!("== {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

fn need(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = debian::ensure(tools)?.iter().map(|tool| tool.program).collect();
    ensure!(missing.is_empty(), "cannot go on without {}", missing.join(", "));
    Ok(())
}

/// Whether this toolchain has what a static program needs; rustup is asked to fetch it.
pub(crate) fn can_build(root: &Path) -> bool {
    // A toolchain without rustup has its targets installed some other way.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root).args(["--print", "target-libdir", "--target", TARGET]);
    command::output(&mut rustc).is_ok_and(|folder| Path::new(folder.trim()).exists())
}

/// How the program is built as it is delivered, but for its target.
pub(crate) const RELEASE: [&str; 5] = ["build", "--release", "--locked", "--package", "whydrop"];

/// Builds the static program, and tells where it is.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    command::run(cargo().current_dir(root).args(RELEASE).args(["--target", TARGET]))?;
    let metadata = command::output(cargo().current_dir(root).args([
        "metadata",
        "--format-version=1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"].as_str().context("cargo tells no target folder")?;
    let binary = Path::new(folder).join(TARGET).join("release/whydrop");
    let kind = command::output(Command::new("readelf").args(["--program-headers"]).arg(&binary));
    // Without binutils nobody can tell here; the fresh tree would.
    if let Ok(headers) = kind {
        ensure!(!headers.contains("INTERP"), "{} is not static", binary.display());
    }
    Ok(binary)
}

/// Errors and warnings fail; why one is overridden stands beside it in `dist/debian`.
fn lint(package: &Path) -> Result<()> {
    command::run(
        Command::new("lintian")
            .args(["--allow-root", "--no-cfg", "--fail-on=error,warning", "--tag-display-limit=0"])
            .arg(package),
    )
}
