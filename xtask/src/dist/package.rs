//! The Debian package: which file goes where.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{TARGET, third_party};
use crate::command;

const MAINTAINER: &str = "The whydrop authors <maintainers@whydrop.invalid>";

/// Of the package, not of the program.
const REVISION: u32 = 1;

/// Files of this repository that the package carries as they are.
const CARRIED: &[(&str, &str)] = &[
    ("dist/systemd/whydrop-record.service", "lib/systemd/system/whydrop-record.service"),
    ("dist/systemd/whydrop-record.timer", "lib/systemd/system/whydrop-record.timer"),
    ("dist/debian/lintian-overrides", "usr/share/lintian/overrides/whydrop"),
    ("dist/debian/copyright", "usr/share/doc/whydrop/copyright"),
    ("README.md", "usr/share/doc/whydrop/README.md"),
    ("SECURITY.md", "usr/share/doc/whydrop/SECURITY.md"),
];

/// What runs when the package comes and goes.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Where shells look for completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/whydrop"),
    ("fish", "usr/share/fish/vendor_completions.d/whydrop.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_whydrop"),
];

/// Makes it beside the binary.
pub(super) fn make(root: &Path, binary: &Path) -> Result<PathBuf> {
    let version = format!("{}-{REVISION}", version(root)?);
    let made = commit_time(root)?;
    let folder = binary.parent().context("a binary in a folder")?.join("deb");
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| tree.display().to_string())?;
    }
    put(&tree, "usr/bin/whydrop", &read(binary)?, 0o755)?;
    for (from, to) in CARRIED {
        put(&tree, to, &read(&root.join(from))?, 0o644)?;
    }
    for entry in fs::read_dir(root.join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            put(&tree, &format!("usr/share/doc/whydrop/docs/{name}"), &read(&path)?, 0o644)?;
        }
    }
    for (shell, to) in COMPLETIONS {
        let script = command::output(Command::new(binary).args(["completions", shell]))?;
        put(&tree, to, script.as_bytes(), 0o644)?;
    }
    let pages = tree.join("usr/share/man/man1");
    command::run(Command::new(binary).arg("man").arg(&pages))?;
    for entry in fs::read_dir(&pages)? {
        compress(&entry?.path())?;
    }
    let doc = "usr/share/doc/whydrop";
    put(&tree, &format!("{doc}/changelog"), &read(&root.join("CHANGELOG.md"))?, 0o644)?;
    let debian = format!(
        "whydrop ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {MAINTAINER}  {}\n",
        made.text
    );
    put(&tree, &format!("{doc}/changelog.Debian"), debian.as_bytes(), 0o644)?;
    let others = third_party::document(root, TARGET)?;
    put(&tree, &format!("{doc}/third-party"), others.as_bytes(), 0o644)?;
    for name in ["changelog", "changelog.Debian", "third-party"] {
        compress(&tree.join(doc).join(name))?;
    }
    control(root, &tree, &version)?;
    let package = folder.join(format!("whydrop_{version}_amd64.deb"));
    command::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&tree, &package])
            // The same commit makes the same package.
            .env("SOURCE_DATE_EPOCH", made.seconds),
    )?;
    Ok(package)
}

/// What dpkg reads.
fn control(root: &Path, tree: &Path, version: &str) -> Result<()> {
    let mut files = Vec::new();
    list(tree, &mut files)?;
    files.sort();
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(file)?.len();
    }
    let relative = files.iter().filter_map(|file| file.strip_prefix(tree).ok());
    let sums = command::output(Command::new("md5sum").args(relative).current_dir(tree))?;
    put(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        let text = read(&root.join("dist/debian").join(script))?;
        put(tree, &format!("DEBIAN/{script}"), &text, 0o755)?;
    }
    let kibibytes = bytes.div_ceil(1024);
    let text = format!(
        "Package: whydrop\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kibibytes}\n\
         Recommends: iproute2\n\
         Suggests: bpftool, nftables, procps\n\
         Section: net\n\
         Priority: optional\n\
         Description: why does this host drop packets, and what makes it stop\n \
         Traces every packet that the Linux kernel throws away, reads every counter\n \
         that sees what the tracer cannot, and names the cause with its proof, and the\n \
         one change that cures it. It makes that change on request, shows by the same\n \
         counters that it helped, and takes it back if it did not.\n"
    );
    put(tree, "DEBIAN/control", text.as_bytes(), 0o644)
}

/// The version of the workspace.
pub(super) fn version(root: &Path) -> Result<String> {
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str();
    Ok(version.context("the workspace has no version")?.to_owned())
}

/// When the last commit was made.
struct Time {
    /// As changelogs of Debian have it.
    text: String,
    /// Since 1970.
    seconds: String,
}

fn commit_time(root: &Path) -> Result<Time> {
    let log = command::output(Command::new("git").current_dir(root).args([
        "log",
        "-1",
        "--format=%cD%n%ct",
    ]))
    .context("the package has the date of its commit")?;
    let (text, seconds) = log.trim().split_once('\n').context("git tells no date")?;
    Ok(Time { text: text.to_owned(), seconds: seconds.to_owned() })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn put(tree: &Path, place: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(place);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(tree))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| path.display().to_string())
}

/// Replaces a file by its compressed form, which has no date.
fn compress(path: &Path) -> Result<()> {
    let status = Command::new("gzip").args(["-9nf"]).arg(path).status().context("gzip")?;
    ensure!(status.success(), "gzip cannot compress {}", path.display());
    Ok(())
}

/// All files below a folder.
fn list(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), into)?;
        } else {
            into.push(entry.path());
        }
    }
    Ok(())
}
