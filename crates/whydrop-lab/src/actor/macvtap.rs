//! Opens the character device of a macvtap, which is what the program of a virtual machine reads.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// Where this process alone gets a node of its own.
const PRIVATE: &str = "/run";

/// Opens it. The process sees `/sys` as its network namespace does from now on, and an empty `/run`.
///
/// The node that the kernel makes in `/dev` is called by the index of the device alone, which devices
/// of other namespaces have as well; its number is to be had from `/sys`.
pub(super) fn open(device: &str) -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    mount("lab", "/sys", "sysfs", MountFlags::RDONLY, None)?;
    mount("lab", PRIVATE, "tmpfs", MountFlags::empty(), None)?;
    let folder = Path::new("/sys/class/net").join(device);
    let index = fs::read_to_string(folder.join("ifindex"))?;
    let number = fs::read_to_string(folder.join(format!("tap{}/dev", index.trim())))?;
    let parts = number.trim().split_once(':');
    let parts = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) =
        parts.ok_or_else(|| io::Error::other(format!("`{number}` is no device")))?;
    let node = Path::new(PRIVATE).join(device);
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(major, minor))?;
    OpenOptions::new().read(true).write(true).open(&node)
}
