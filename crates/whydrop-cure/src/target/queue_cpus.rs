//! Which CPUs serve a queue of a device: `rps_cpus` and `xps_cpus` in sysfs (`net/core/net-sysfs.c`).
//!
//! sysfs shows the devices of the namespace in which it was mounted, so a fresh one is mounted for each
//! access, attached nowhere: nobody else sees it, and it goes with its descriptor.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::words;

pub(super) fn read(device: &str, queue: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut file = open(device, queue, OFlags::RDONLY)?;
    file.read_to_string(&mut text).map_err(|error| match Errno::from_io_error(&error) {
        // A transmit queue of a device that has but one (`xps_cpus_show()`).
        Some(Errno::NOENT) => "the device has one transmit queue, which all CPUs use".into(),
        _ => words(&error),
    })?;
    Ok(plain(text.trim()))
}

pub(super) fn write(device: &str, queue: &str, value: &str) -> Result<(), String> {
    let mut file = open(device, queue, OFlags::WRONLY)?;
    file.write_all(format!("{value}\n").as_bytes()).map_err(|error| words(&error))
}

fn open(device: &str, queue: &str, flags: OFlags) -> Result<File, String> {
    let name = if queue.starts_with("rx-") { "rps_cpus" } else { "xps_cpus" };
    // Names of devices hold no slash, and those of queues are checked here.
    let of_queue = queue.strip_prefix("rx-").or_else(|| queue.strip_prefix("tx-"));
    if of_queue.is_none_or(|number| number.parse::<u32>().is_err()) {
        return Err(format!("{queue} is no queue"));
    }
    let path = format!("class/net/{device}/queues/{queue}/{name}");
    let root = sysfs().map_err(|error| words(&error.into()))?;
    match openat(&root, path, flags | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NOENT) => Err("there is no such device or queue".into()),
        Err(error) => Err(words(&error.into())),
    }
}

/// The sysfs of the calling thread's namespace (new mount API, 5.2).
fn sysfs() -> Result<OwnedFd, Errno> {
    let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// A mask without the zeros and groups in front that the kernel pads it with.
fn plain(mask: &str) -> String {
    let digits = mask.trim_start_matches(['0', ',']);
    if digits.is_empty() { "0".into() } else { digits.into() }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn masks_are_told_without_padding() {
        for (told, mask) in [
            ("00000000,00000000", "0"),
            ("3", "3"),
            ("00", "0"),
            ("00000000,0000000f", "f"),
            ("00000001,00000000", "1,00000000"),
        ] {
            assert_eq!(plain(told), mask);
        }
    }
}
