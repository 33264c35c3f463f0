//! Records on disk: one file for each change, written whole and synced before anything is touched.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;
use crate::record::{Record, SCHEMA};

/// Where the journal is kept.
pub const DEFAULT_JOURNAL: &str = "/var/lib/whydrop/changes";

/// The journal of a host.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

/// The right to change this host, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Journal {
    /// The journal in this folder, which need not exist yet.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// All changes, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if the folder or a record in it cannot be read.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::journal(&self.folder, &error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::journal(&self.folder, &error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.push(read(&path)?);
            }
        }
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    /// One change.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is none with this number, else as [`Journal::records`].
    pub fn record(&self, id: u64) -> Result<Record, Error> {
        let path = self.file(id);
        if !path.exists() {
            return Err(Error::Unknown { id });
        }
        read(&path)
    }

    /// Takes the lock; one process at a time changes a host.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| Error::journal(&self.folder, &error))?;
        let path = self.folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| Error::journal(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { path }),
            Err(error) => Err(Error::journal(&path, &error.into())),
        }
    }

    /// The number of the next change; only under the lock.
    pub(crate) fn next_id(&self) -> Result<u64, Error> {
        Ok(self.records()?.last().map_or(1, |record| record.id + 1))
    }

    /// Stores a record so that it survives a crash of this process or of the host.
    pub(crate) fn store(&self, record: &Record) -> Result<(), Error> {
        let path = self.file(record.id);
        let mut text = serde_json::to_string_pretty(record)
            .map_err(|error| Error::journal(&path, &error.into()))?;
        text.push('\n');
        replace(&path, &text).map_err(|error| Error::journal(&path, &error))
    }

    fn file(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

fn read(path: &Path) -> Result<Record, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::journal(path, &error))?;
    parse(path, &text)
}

/// Reads what a file holds. `path` is for the errors alone.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Record, Error> {
    let wrong = |why: String| Error::Journal { path: path.into(), why };
    let record: Record = serde_json::from_str(text).map_err(|error| {
        // It quotes what it does not know, lines and all.
        let error = error.to_string();
        let error: Vec<_> = error.split_whitespace().collect();
        wrong(format!("is damaged, or from another release: {}", error.join(" ")))
    })?;
    if record.schema != SCHEMA {
        return Err(wrong(format!("has schema {:?}; this whydrop reads {SCHEMA}", record.schema)));
    }
    Ok(record)
}

/// Puts a file in place whole: written beside it, synced, moved over it, and the folder synced.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = folder.join(name);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(folder)
    };
    write().inspect_err(|_| {
        // The error to report is the first one.
        let _ = fs::remove_file(&beside);
    })
}

/// Makes what was moved into a folder, or removed from it, last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::State;

    fn record(id: u64) -> Record {
        Record {
            schema: SCHEMA.into(),
            id,
            boot_id: "b".into(),
            at: "2026-01-01T00:00:00Z".into(),
            cause: "c".into(),
            summary: "s".into(),
            writes: Vec::new(),
            files: Vec::new(),
            state: State::Applied,
            effect: None,
            trials: None,
        }
    }

    #[test]
    fn records_are_kept_in_order_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("a/b"));
        assert_eq!(journal.records().unwrap(), []);
        let lock = journal.lock().unwrap();
        assert!(matches!(journal.lock(), Err(Error::Busy { .. })));
        for id in [1, 2, 10] {
            journal.store(&record(id)).unwrap();
        }
        let ids: Vec<_> = journal.records().unwrap().iter().map(|one| one.id).collect();
        assert_eq!((ids, journal.next_id().unwrap()), (vec![1, 2, 10], 11));
        assert!(matches!(journal.record(3), Err(Error::Unknown { id: 3 })));
        let files = fs::read_dir(folder.path().join("a/b")).unwrap().count();
        assert_eq!(files, 4, "three records and the lock");
        drop(lock);
        journal.lock().unwrap();
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path());
        fs::write(folder.path().join("4.json"), "{").unwrap();
        let error = journal.records().unwrap_err().to_string();
        assert!(error.contains("4.json") && error.contains("damaged"), "{error}");
    }
}
