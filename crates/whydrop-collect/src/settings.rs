//! Opens sysctls of very many network namespaces at a price that does not grow with their number.
//!
//! The kernel keeps an entry of `/proc/sys/net/ipv4` for each namespace that was ever asked for it, and
//! likewise of `core`, `ipv6` and `netfilter`: all of one name below one parent, so all in one chain of
//! its cache of names, which is walked under locks (`proc_sys_compare()` in `fs/proc/proc_sysctl.c`).
//! What is in the folder has a parent of its own. So a path from the root walks past all namespaces of
//! the host for every setting; here a folder is opened once for a namespace, and that in a `/proc`
//! which has seen few others. Opens only; what a setting means is the business of the collectors.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::Roots;

/// Namespaces that are read through one instance: to make and to drop one costs as much as reading
/// the settings of one or two.
const NAMESPACES: u32 = 32;

/// Where settings come from: on a host with few namespaces `/proc`, on others one instance of it after
/// the other that is this program's alone and mounted nowhere. Any shows the settings of the namespace
/// that the reader is in.
#[derive(Debug, Default)]
pub(crate) struct Source {
    instance: Option<Arc<OwnedFd>>,
    /// Namespaces that were read.
    seen: u32,
    refused: bool,
}

impl Source {
    /// For reading the settings of one more namespace. Where no instance is to be had (before 5.8 all
    /// are one; in some containers it is forbidden), the `/proc` of `roots` is used.
    pub(crate) fn settings(&mut self, roots: &Roots) -> Settings {
        if roots.proc == Roots::default().proc && !self.refused {
            if self.seen > 0 && self.seen.is_multiple_of(NAMESPACES) {
                self.instance = instance().ok().map(Arc::new);
                self.refused = self.instance.is_none();
            }
            self.seen += 1;
        }
        Settings { instance: self.instance.clone(), folders: Vec::new() }
    }
}

fn instance() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The folders of settings that were opened for one namespace.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    instance: Option<Arc<OwnedFd>>,
    folders: Vec<(PathBuf, OwnedFd)>,
}

impl Settings {
    /// Opens the file at `path` below `proc`, by way of the folder below `sys/net` that it is in.
    pub(crate) fn open(&mut self, proc: &Path, path: &Path) -> io::Result<File> {
        let net = Path::new("sys/net");
        let below = path.strip_prefix(proc.join(net)).unwrap_or(Path::new(""));
        let mut parts = below.components();
        let (Some(folder), file) = (parts.next(), parts.as_path()) else {
            return File::open(path);
        };
        let folder = Path::new(folder.as_os_str());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        if let Some((_, held)) = self.folders.iter().find(|(known, _)| known == folder) {
            return Ok(openat(held, file, flags, Mode::empty())?.into());
        }
        let to_folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = match &self.instance {
            Some(instance) => openat(instance, net.join(folder), to_folder, Mode::empty()),
            None => open(proc.join(net).join(folder), to_folder, Mode::empty()),
        }?;
        let opened = openat(&held, file, flags, Mode::empty());
        self.folders.push((folder.to_owned(), held));
        Ok(opened?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    /// Of the own namespace, so that no privilege is needed: without one, no instance is to be had.
    #[test]
    fn settings_are_those_of_proc_however_many_instances_it_takes() {
        let (roots, mut source) = (Roots::default(), Source::default());
        for _ in 0..=NAMESPACES * 2 {
            let mut settings = source.settings(&roots);
            for name in ["net.ipv4.conf.all.rp_filter", "net.ipv4.tcp_rmem", "net.core.somaxconn"] {
                let path = roots.sysctl(name);
                let mut text = String::new();
                settings.open(&roots.proc, &path).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, fs::read_to_string(&path).unwrap(), "{name}");
            }
            for name in ["net.ipv4.no_such", "net.no.such", "kernel.no_such"] {
                let opened = settings.open(&roots.proc, &roots.sysctl(name));
                assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
            }
        }
    }
}
