//! A file of the kernel that is read again and again: opened once, read into the same room.
//!
//! To find a file in `/proc`, to open and to close it costs more than what most of these files tell.
//! Knows no format; which file, and when, is the business of those who read.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::error::Why;

/// Room at first; doubled where a file is longer.
const ROOM: usize = 4096;

/// A file, open from its first reading on. One of a network namespace tells of the namespace in which
/// the thread was then, and keeps that alive.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    file: Option<File>,
    room: Vec<u8>,
}

impl Kept {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, room: Vec::new() }
    }

    /// The file as it is now; `None` if this kernel does not have it.
    pub(crate) fn read(&mut self) -> Result<Option<Cow<'_, str>>, Why> {
        let length = match self.fill() {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                self.file = None;
                return Err(Why::reading(&self.path, &error));
            }
        };
        Ok(Some(String::from_utf8_lossy(&self.room[..length])))
    }

    /// Reads all of it; its length.
    fn fill(&mut self) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        let mut length = 0;
        loop {
            if length == self.room.len() {
                self.room.resize((length * 2).max(ROOM), 0);
            }
            match file.read_at(&mut self.room[length..], length as u64) {
                Ok(0) => return Ok(length),
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_reading_tells_what_the_file_holds_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let mut kept = Kept::new(path.clone());
        assert_eq!(kept.read().unwrap(), None, "not there yet");
        for text in ["one", &"long ".repeat(ROOM), "", "short"] {
            fs::write(&path, text).unwrap();
            assert_eq!(kept.read().unwrap().unwrap(), text);
        }
    }

    #[test]
    fn a_table_of_the_kernel_is_read_from_its_beginning_each_time() {
        let mut kept = Kept::new("/proc/version".into());
        let first = kept.read().unwrap().unwrap().into_owned();
        assert!(first.starts_with("Linux version "));
        assert_eq!(kept.read().unwrap().unwrap(), first);
    }

    #[test]
    fn what_cannot_be_read_is_a_reason() {
        let mut kept = Kept::new("/proc/self".into());
        assert!(kept.read().unwrap_err().0.starts_with("/proc/self: "));
    }
}
