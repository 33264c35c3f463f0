//! `cargo xtask dist [--check]`: a static binary and a Debian package of it.
//!
//! With `--check` the package is also installed into a fresh Debian tree, run there and removed
//! again, and nothing of it may stay.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, cargo};
use crate::debian::{self, Tool};

/// Linked without a C library of the host, so that one binary runs on any distribution.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// The release of Debian into whose fresh tree the package is installed.
const SUITE: &str = "bookworm";

/// What the package leaves behind when it is purged: nothing.
const PLACES: [&str; 3] = ["usr/bin/whydrop", "usr/share/doc/whydrop", "lib/systemd/system"];

const TOOLS: &[Tool] = &[
    Tool { program: "dpkg-deb", package: "dpkg", purpose: "building the package" },
    Tool { program: "gzip", package: "gzip", purpose: "manual pages and the changelog" },
];

const CHECK_TOOLS: &[Tool] =
    &[Tool { program: "debootstrap", package: "debootstrap", purpose: "a fresh Debian tree" }];

/// Files of this repository that the package carries as they are.
const CARRIED: [(&str, &str); 5] = [
    ("dist/systemd/whydrop-record.service", "lib/systemd/system/whydrop-record.service"),
    ("dist/systemd/whydrop-record.timer", "lib/systemd/system/whydrop-record.timer"),
    ("README.md", "usr/share/doc/whydrop/README.md"),
    ("docs/report.md", "usr/share/doc/whydrop/report.md"),
    ("LICENSE-MIT", "usr/share/doc/whydrop/LICENSE-MIT"),
];

/// Where shells look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/whydrop"),
    ("fish", "usr/share/fish/vendor_completions.d/whydrop.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_whydrop"),
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [one] if one == "--check" => true,
        _ => bail!("dist takes nothing or --check"),
    };
    need(TOOLS)?;
    ensure!(can_build(root), "this toolchain has no target {TARGET}");
    let binary = build(root)?;
    let package = package(root, &binary)?;
    println!("{}", package.display());
    if check { try_out(root, &package) } else { Ok(()) }
}

fn need(tools: &[Tool]) -> Result<()> {
    match debian::ensure(tools)?.first() {
        Some(tool) => bail!("{} is needed for {}", tool.program, tool.purpose),
        None => Ok(()),
    }
}

/// Whether this toolchain has what a static program needs; rustup is asked to fetch it.
pub(crate) fn can_build(root: &Path) -> bool {
    // A toolchain without rustup has its targets installed some other way.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root).args(["--print", "target-libdir", "--target", TARGET]);
    command::output(&mut rustc).is_ok_and(|folder| Path::new(folder.trim()).exists())
}

/// Builds the static program, and tells where it is.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    command::run(cargo().current_dir(root).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "whydrop",
        "--target",
        TARGET,
    ]))?;
    let metadata = command::output(cargo().current_dir(root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"].as_str().context("cargo tells no target folder")?;
    Ok(Path::new(folder).join(TARGET).join("release/whydrop"))
}

fn package(root: &Path, binary: &Path) -> Result<PathBuf> {
    let version = version(root)?;
    let folder = binary.parent().context("a binary in a folder")?.join("deb");
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    put(&tree, "usr/bin/whydrop", &fs::read(binary)?, 0o755)?;
    for (from, to) in CARRIED {
        put(&tree, to, &fs::read(root.join(from)).with_context(|| from.to_owned())?, 0o644)?;
    }
    for (shell, to) in COMPLETIONS {
        let script = command::output(Command::new(binary).args(["completions", shell]))?;
        put(&tree, to, script.as_bytes(), 0o644)?;
    }
    let pages = tree.join("usr/share/man/man1");
    command::run(Command::new(binary).arg("man").arg(&pages))?;
    let mut gzip = vec!["-9n".to_owned()];
    for page in fs::read_dir(&pages)? {
        gzip.push(page?.path().to_string_lossy().into_owned());
    }
    command::run(Command::new("gzip").args(&gzip))?;
    put(&tree, "usr/share/doc/whydrop/copyright", copyright().as_bytes(), 0o644)?;
    put(&tree, "usr/share/doc/whydrop/changelog.gz", &zipped(&root.join("CHANGELOG.md"))?, 0o644)?;
    put(&tree, "DEBIAN/control", control(&version, &tree)?.as_bytes(), 0o644)?;
    let package = folder.join(format!("whydrop_{version}_amd64.deb"));
    command::run(
        Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package),
    )?;
    Ok(package)
}

/// The version of the workspace.
fn version(root: &Path) -> Result<String> {
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str();
    Ok(version.context("the workspace has no version")?.to_owned())
}

fn put(tree: &Path, place: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(place);
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    fs::write(&path, content)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn zipped(path: &Path) -> Result<Vec<u8>> {
    let output = Command::new("gzip").args(["-9nc"]).arg(path).output()?;
    ensure!(output.status.success(), "gzip cannot compress {}", path.display());
    Ok(output.stdout)
}

fn control(version: &str, tree: &Path) -> Result<String> {
    let kibibytes = size(tree)?.div_ceil(1024);
    Ok(format!(
        "Package: whydrop\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: The whydrop developers <whydrop@localhost>\n\
         Installed-Size: {kibibytes}\n\
         Recommends: iproute2\n\
         Section: net\n\
         Priority: optional\n\
         Description: why does this host drop packets, and what makes it stop\n \
         Traces every packet that the Linux kernel throws away, reads every counter that sees\n \
         what the tracer cannot, names the cause with its proof, and the one change that cures it.\n"
    ))
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() { size(&entry.path())? } else { data.len() };
    }
    Ok(sum)
}

fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
     Upstream-Name: whydrop\n\n\
     Files: *\n\
     Copyright: The whydrop developers\n\
     License: Apache-2.0 or Expat\n \
     The text of the Expat (MIT) licence is in LICENSE-MIT beside this file; that of the Apache\n \
     licence is in /usr/share/common-licenses/Apache-2.0.\n\n\
     Files: embedded BPF objects\n\
     Copyright: The whydrop developers\n\
     License: GPL-2.0-only or BSD-2-Clause\n"
        .to_owned()
}

/// Installs the package into a fresh tree, runs what it brought, and purges it.
fn try_out(root: &Path, package: &Path) -> Result<()> {
    ensure!(debian::is_root(), "--check needs root: it makes a Debian tree and runs it");
    need(CHECK_TOOLS)?;
    let tree = package.with_file_name("fresh");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    command::run(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(&tree))?;
    let within = |words: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(&tree).args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    fs::copy(package, tree.join("whydrop.deb"))?;
    command::run(&mut within(&["dpkg", "--install", "/whydrop.deb"]))?;
    let version = command::output(&mut within(&["whydrop", "--version"]))?;
    ensure!(version.trim() == format!("whydrop {}", self::version(root)?), "it says {version:?}");
    let page = command::output(&mut within(&["whydrop", "explain", "NO_SOCKET"]))?;
    ensure!(page.contains("NO_SOCKET"), "explain says {page:?}");
    // Without /proc and /sys it can see nothing, and must say so in one line.
    let blind = within(&["whydrop", "--duration", "0.1"]).stderr(Stdio::piped()).output()?;
    let told = String::from_utf8_lossy(&blind.stderr);
    ensure!(
        blind.status.code() == Some(2) && told.lines().count() == 1,
        "without /proc it ends with {} and says {told:?}",
        blind.status
    );
    // In a mount namespace of its own: what is mounted there goes with the process, whatever happens,
    // and never to the tree that is removed below.
    let mounted = "mount --rbind /proc \"$0/proc\" && mount --rbind /sys \"$0/sys\" \
                   && exec chroot \"$0\" whydrop --duration 0.5 --format json";
    let seen =
        Command::new("unshare").args(["--mount", "sh", "-c", mounted]).arg(&tree).output()?;
    let report: serde_json::Value = serde_json::from_slice(&seen.stdout)
        .with_context(|| String::from_utf8_lossy(&seen.stderr).into_owned())?;
    ensure!(report["schema"] == "whydrop.report/1", "no report");
    command::run(&mut within(&["dpkg", "--purge", "whydrop"]))?;
    for place in PLACES {
        let left = fs::read_dir(tree.join(place)).into_iter().flatten().flatten();
        let left: Vec<_> = left
            .map(|it| it.file_name())
            .filter(|it| it.to_string_lossy().contains("whydrop"))
            .collect();
        ensure!(
            left.is_empty() && !tree.join("usr/bin/whydrop").exists(),
            "{place} keeps {left:?}"
        );
    }
    fs::remove_dir_all(&tree)?;
    writeln!(std::io::stdout(), "installed, run and purged in a fresh {SUITE}")?;
    Ok(())
}
