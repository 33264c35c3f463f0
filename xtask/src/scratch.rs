//! A folder that lives as long as what is done in it.

use std::path::{Path, PathBuf};

/// A folder of its own under the system's temporary one, removed with all it holds when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder; `name` must be unique within this process.
    pub(crate) fn new(name: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder is not worth failing for.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
