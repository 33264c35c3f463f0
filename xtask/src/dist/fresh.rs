//! Installs the package into a fresh Debian tree, uses it there as an operator would, and purges it.
//!
//! All of it happens in a mount and process namespace of its own, on a tmpfs: the kernel removes tree,
//! mounts and processes when the check ends, however it ends.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

use super::package;
use crate::command;

/// The release of Debian.
const SUITE: &str = "bookworm";

/// What is in the tree beyond the least that Debian is: what `whydrop lab` needs, and what reads
/// manual pages, completions and units.
const INCLUDED: &str = "bash-completion,iproute2,man-db,procps,systemd";

/// Where packages are unpacked; nothing that dpkg brings may stay here once the package is purged.
const WATCHED: &[&str] = &["etc", "lib/systemd", "usr", "var/lib/whydrop"];

/// A scenario that needs no more than `INCLUDED`.
const SCENARIO: &str = "udp-receive-buffer-burst";

/// Most exposure, of 100, that `systemd-analyze security` may find: what is left with the
/// capabilities it needs.
const EXPOSURE: u32 = 40;

/// Starts the check in namespaces of its own.
pub(super) fn try_out(package: &Path) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    command::run(
        Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(own)
            .arg("dist-inside")
            .arg(package),
    )
}

/// `cargo xtask dist-inside PACKAGE`: the check itself.
pub(crate) fn inside(root: &Path, arguments: &[String]) -> Result<()> {
    let [package] = arguments else { bail!("`dist --check` starts this itself") };
    let package = Path::new(package);
    let folder = package.parent().context("a package in a folder")?;
    let fresh = Fresh::make(folder)?;
    let before = fresh.files()?;

    println!("\n-- install");
    fs::copy(package, fresh.path("tmp/whydrop.deb")).context("copying the package")?;
    fresh.run(&["dpkg", "--install", "/tmp/whydrop.deb"])?;
    fs::remove_file(fresh.path("tmp/whydrop.deb"))?;
    let said = fresh.output(&["whydrop", "--version"])?;
    let version = package::version(root)?;
    ensure!(said.trim() == format!("whydrop {version}"), "it says {said:?}");

    println!("\n-- use");
    diagnose(&fresh)?;
    let page = fresh.output(&["whydrop", "explain", "NO_SOCKET"])?;
    ensure!(page.contains("NO_SOCKET"), "explain says {page:?}");
    fresh.run(&["whydrop", "lab", "run", SCENARIO, "--remedy"])?;
    documentation(&fresh)?;
    println!("\n-- timed recording");
    timed_recording(&fresh)?;

    println!("\n-- purge");
    // As after some days of use.
    fresh.output(&["systemctl", "enable", "whydrop-record.timer"])?;
    fresh.run(&["dpkg", "--purge", "whydrop"])?;
    let after = fresh.files()?;
    let left: Vec<_> = after.difference(&before).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    println!("installed, used and purged in a fresh {SUITE}; nothing stayed");
    Ok(())
}

/// A tree of Debian.
struct Fresh(PathBuf);

impl Fresh {
    fn make(folder: &Path) -> Result<Self> {
        let (tree, cache) = (folder.join("fresh"), folder.join("debian-packages"));
        for one in [&tree, &cache] {
            fs::create_dir_all(one).with_context(|| one.display().to_string())?;
        }
        let mount = ["-t", "tmpfs", "-o", "mode=0755,size=2g", "tmpfs"];
        command::run(Command::new("mount").args(mount).arg(&tree))?;
        let mut cached = OsStr::new("--cache-dir=").to_owned();
        cached.push(&cache);
        let log = folder.join("debootstrap.log");
        let told = fs::File::create(&log).with_context(|| log.display().to_string())?;
        println!("$ debootstrap {SUITE} (its output is in {})", log.display());
        let status = Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={INCLUDED}")])
            .args([&cached, OsStr::new(SUITE), tree.as_os_str()])
            .stdout(told.try_clone()?)
            .stderr(told)
            .status()
            .context("debootstrap")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(5).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            bail!("debootstrap failed ({status}); its last words:\n{}", last.join("\n"));
        }
        // The kernel's own, with what is mounted below: the process namespace is ours.
        for kernel in ["proc", "sys", "dev"] {
            let from = Path::new("/").join(kernel);
            command::run(Command::new("mount").arg("--rbind").args([from, tree.join(kernel)]))?;
        }
        command::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(tree.join("run")))?;
        Ok(Self(tree))
    }

    fn path(&self, place: &str) -> PathBuf {
        self.0.join(place)
    }

    /// A command within the tree.
    fn within(&self, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).args(words);
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/"),
            ("LC_ALL", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ]);
        command
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        command::run(&mut self.within(words))
    }

    fn output(&self, words: &[&str]) -> Result<String> {
        command::output(&mut self.within(words))
    }

    /// Files of the watched folders.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let folders: Vec<_> =
            WATCHED.iter().map(|place| self.path(place)).filter(|path| path.exists()).collect();
        let found = command::output(Command::new("find").args(folders))?;
        Ok(found.lines().map(PathBuf::from).collect())
    }
}

/// What it sees, and what it says where it can see nothing.
fn diagnose(fresh: &Fresh) -> Result<()> {
    let Output { stdout, stderr, status } =
        fresh.within(&["whydrop", "--duration", "1", "--format", "json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&stdout)
        .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&stderr)))?;
    ensure!(report["schema"] == "whydrop.report/1", "no report");
    ensure!(report["tracer"]["attach"] != "none", "no tracer: {}", report["not_checked"]);
    println!("diagnosed for a second, tracer {}", report["tracer"]["attach"]);
    let alone = "umount --lazy /sys && umount --lazy /proc && exec whydrop --duration 0.1";
    let blind = fresh.within(&["unshare", "--mount", "sh", "-c", alone]).output()?;
    let told = String::from_utf8_lossy(&blind.stderr);
    ensure!(
        blind.status.code() == Some(2) && told.lines().count() == 1,
        "without /proc it ends with {} and says {told:?}",
        blind.status
    );
    println!("without /proc: {}", told.trim());
    Ok(())
}

/// Manual pages and completions are found where they are looked for.
fn documentation(fresh: &Fresh) -> Result<()> {
    for page in ["whydrop", "whydrop-record", "whydrop-lab-run"] {
        let text = fresh.output(&["man", "--no-hyphenation", page])?;
        ensure!(text.contains("SYNOPSIS"), "man {page} says {text:?}");
    }
    let load = ". /usr/share/bash-completion/bash_completion; _completion_loader whydrop; \
                COMP_WORDS=(whydrop di) COMP_CWORD=1; _whydrop whydrop di whydrop; echo \"${COMPREPLY[@]}\"";
    let offered = fresh.output(&["bash", "-c", load])?;
    ensure!(offered.trim() == "diagnose", "bash completes `whydrop di` with {offered:?}");
    println!("manual pages and completions are found");
    Ok(())
}

/// systemd accepts the unit, and what it runs works with the capabilities that it leaves.
fn timed_recording(fresh: &Fresh) -> Result<()> {
    let units = ["whydrop-record.service", "whydrop-record.timer"];
    for unit in units {
        let verdict = fresh.within(&["systemd-analyze", "verify", "--man=no", unit]).output()?;
        let told = String::from_utf8_lossy(&verdict.stderr);
        ensure!(verdict.status.success() && !told.contains("whydrop"), "{unit}: {told}");
    }
    let threshold = format!("--threshold={EXPOSURE}");
    let offline = ["systemd-analyze", "security", "--offline=true", "--no-pager", &threshold];
    let security = fresh.output(&[&offline[..], &units[..1]].concat())?;
    println!("{}", security.lines().last().unwrap_or_default());

    let unit = fs::read_to_string(fresh.path("lib/systemd/system/whydrop-record.service"))?;
    let setting = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.with_context(|| format!("the unit has no {name}"))
    };
    let kept: Vec<_> = setting("CapabilityBoundingSet")?
        .split_whitespace()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let bounding = format!("--bounding-set=-all{}", kept.concat());
    // A line for systemd: its `$$` and `%%` are one each; a minute is too long here.
    let line = setting("ExecStart")?.replace("$$", "$").replace("%%", "%");
    let line = line.replace("--duration 60", "--duration 1");
    fs::create_dir_all(fresh.path("var/lib/whydrop/records"))?;
    let state = "STATE_DIRECTORY=/var/lib/whydrop/records";
    fresh.run(&["setpriv", &bounding, "--no-new-privs", "env", state, "sh", "-c", &line])?;
    let records: Vec<_> = fs::read_dir(fresh.path("var/lib/whydrop/records"))?.collect();
    let [Ok(record)] = &records[..] else { bail!("the recording left {records:?}") };
    let file = Path::new("/var/lib/whydrop/records").join(record.file_name());
    let report =
        fresh.within(&["whydrop", "diagnose", "--format", "json", &file.to_string_lossy()]);
    let report: serde_json::Value = serde_json::from_slice(&{ report }.output()?.stdout)?;
    let missing = report["not_checked"].as_array().map(Vec::as_slice).unwrap_or_default();
    let denied: Vec<_> = missing.iter().filter(|one| one.to_string().contains("CAP_")).collect();
    ensure!(denied.is_empty(), "the unit's capabilities are too few: {denied:?}");
    println!("recorded with the unit's capabilities alone: {}", file.display());
    Ok(())
}
