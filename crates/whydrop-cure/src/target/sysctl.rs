//! Sysctls: files below `/proc/sys`, which show the namespace of whoever opens them.

use std::fs::{self, File};
use std::io::Write as _;

use whydrop_collect::Roots;

use crate::error::words;

pub(super) fn read(roots: &Roots, name: &str) -> Result<String, String> {
    let text = fs::read_to_string(roots.sysctl(name)).map_err(|error| words(&error))?;
    Ok(text.trim_end().to_owned())
}

/// In one call: the kernel parses each write on its own.
pub(super) fn write(roots: &Roots, name: &str, value: &str) -> Result<(), String> {
    // Never created: what is not there is not a sysctl of this kernel.
    let file = File::options().write(true).open(roots.sysctl(name));
    let done = file.and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
    done.map_err(|error| words(&error))
}

/// True if there is no such setting, for certain: the device it belongs to is gone.
pub(super) fn is_gone(roots: &Roots, name: &str) -> bool {
    matches!(fs::exists(roots.sysctl(name)), Ok(false))
}
