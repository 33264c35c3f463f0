//! What can go wrong, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a change was not made, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting could not be read.
    #[error("cannot read {what}: {why}")]
    Read {
        /// The setting.
        what: String,
        /// Why, in words.
        why: String,
    },
    /// A setting could not be written.
    #[error("cannot set {what} to {value}: {why}")]
    Write {
        /// The setting.
        what: String,
        /// The value.
        value: String,
        /// Why, in words.
        why: String,
    },
    /// A setting no longer has the value that the evidence shows.
    #[error("{what} was {before} in the evidence and is {now} now: diagnose again")]
    Stale {
        /// The setting.
        what: String,
        /// Its value in the evidence.
        before: String,
        /// Its value now.
        now: String,
    },
    /// The journal cannot be read or written.
    #[error("the journal {path}: {why}")]
    Journal {
        /// Its folder or file.
        path: PathBuf,
        /// Why, in words.
        why: String,
    },
    /// Another process is changing this host.
    #[error("another whydrop is changing this host (it holds {path}); wait for it or end it")]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// A change is not in the journal.
    #[error("there is no change {id} (`whydrop changes` lists them)")]
    Unknown {
        /// Its number.
        id: u64,
    },
    /// A file that keeps a setting cannot be written.
    #[error("cannot write {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        why: String,
    },
    /// Something failed before anything was touched.
    #[error("{cause}; nothing was changed")]
    Untouched {
        /// What failed.
        cause: Box<Error>,
    },
    /// Part of a change was made, then something failed; what was done has been taken back.
    #[error("{cause}; everything is as it was before")]
    TakenBack {
        /// What failed.
        cause: Box<Error>,
    },
    /// Part of a change was made and could not be taken back.
    #[error("{cause}; taking back failed as well: {undo} (try `whydrop undo {id}`)")]
    HalfDone {
        /// What failed.
        cause: Box<Error>,
        /// What failed then.
        undo: Box<Error>,
        /// The change.
        id: u64,
    },
    /// What the reading side says.
    #[error(transparent)]
    Place(#[from] whydrop_collect::Error),
}

impl Error {
    pub(crate) fn journal(path: &Path, error: &io::Error) -> Self {
        Self::Journal { path: path.into(), why: words(error) }
    }

    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.into(), why: words(error) }
    }
}

/// An error without Rust's "(os error N)", with what would help.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "not permitted; root is needed".into(),
        io::ErrorKind::ReadOnlyFilesystem => {
            "mounted read-only, as in a container: run whydrop on the host".into()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}
