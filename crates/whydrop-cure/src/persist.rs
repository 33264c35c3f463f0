//! What keeps a change beyond a reboot, in the distribution's own way: a file in `/etc/sysctl.d` for
//! each sysctl, a udev rule for each setting of a network card.
//!
//! The order is that of systemd-sysctl(8): files of all folders by name, and the last one that sets a
//! value wins. A later file that says something else would win over ours, so it is named and nothing
//! is written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use whydrop_model::Target;

mod udev;

use crate::error::Error;
use crate::journal::{replace, sync_folder};
use crate::record::{RecordedFile, RecordedWrite};

/// Folders in the order in which they hide files of the same name further down.
const FOLDERS: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// Read by sysctl(8) after all others, and by systemd-sysctl where a link in a folder leads to it.
const LAST: &str = "etc/sysctl.conf";

/// What would keep the settings of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Persistent {
    /// Files to be written; empty if all is kept already.
    pub files: Vec<RecordedFile>,
    /// Lines of other files that set the same to another value.
    pub conflicts: Vec<Conflict>,
    /// Why a setting of a card is not kept.
    pub notes: Vec<String>,
}

/// A line that sets the same to another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its file.
    pub path: PathBuf,
    /// Number of the line.
    pub line: usize,
    /// The line.
    pub text: String,
    /// True if it is read later than ours and so counts instead of it.
    pub wins: bool,
}

/// Works out what keeps the settings of a change. `why` ends in the files as a comment.
///
/// # Errors
///
/// [`Error::File`] if a file that matters cannot be read.
pub fn persistent(
    root: &Path,
    writes: &[RecordedWrite],
    why: &[String],
) -> Result<Persistent, Error> {
    let others = others(root)?;
    let mut persistent = Persistent::default();
    for write in writes {
        let Target::Sysctl { name } = &write.target else {
            udev::keep(root, write, why, &mut persistent)?;
            continue;
        };
        let value = write.became.as_ref().unwrap_or(&write.new);
        let file_name = format!("90-whydrop-{}.conf", name.replace('/', "."));
        let path = root.join(FOLDERS[0]).join(&file_name);
        for (other, (place, text)) in others.iter().filter(|(other, _)| **other != file_name) {
            let lines = text.lines().enumerate();
            let set = lines.filter_map(|(at, line)| Some((at, line, assignment(line)?)));
            for (at, line, (key, theirs)) in set {
                if matches(&key, name) && !same(&theirs, value) {
                    persistent.conflicts.push(Conflict {
                        path: place.clone(),
                        line: at + 1,
                        text: line.trim().to_owned(),
                        wins: *other > file_name,
                    });
                }
            }
        }
        let before = read(&path)?;
        let kept = |text: &String| {
            let mut set = text.lines().filter_map(assignment);
            set.any(|(key, theirs)| matches(&key, name) && same(&theirs, value))
        };
        if !before.as_ref().is_some_and(kept) {
            let after = contents(&format!("{name} = {value}"), why);
            persistent.files.push(RecordedFile { path, before, after });
        }
    }
    Ok(persistent)
}

fn contents(line: &str, why: &[String]) -> String {
    let head = ["Written by whydrop; `whydrop undo` removes it."];
    let comments = head.into_iter().chain(why.iter().flat_map(|lines| lines.lines()));
    let comments: Vec<_> = comments.map(|line| format!("# {line}\n")).collect();
    format!("{}{line}\n", comments.concat())
}

/// Files by name, with their place and text; those that another hides left out.
fn others(root: &Path) -> Result<BTreeMap<String, (PathBuf, String)>, Error> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::file(&folder, &error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_conf = Path::new(&name).extension().is_some_and(|it| it == "conf");
            if is_conf && !files.contains_key(&name) {
                let text = read(&entry.path())?.unwrap_or_default();
                files.insert(name, (entry.path(), text));
            }
        }
    }
    let linked = files.contains_key("99-sysctl.conf");
    if let Some(text) = read(&root.join(LAST))?.filter(|_| !linked) {
        // Behind all that begin with a digit.
        files.insert("~sysctl.conf".into(), (root.join(LAST), text));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, &error)),
    }
}

/// Key and value of a line; `None` for comments and what is none. A minus before the key only says
/// that errors do not matter.
fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let key = key.trim().trim_start_matches('-').trim();
    (!key.is_empty()).then(|| (key.to_owned(), value.trim().to_owned()))
}

/// Parts of a key. Whichever of dot and slash comes first separates, the other belongs to a part.
fn parts(key: &str) -> Vec<&str> {
    let separator = key.chars().find(|letter| matches!(letter, '.' | '/')).unwrap_or('.');
    key.split(separator).filter(|part| !part.is_empty()).collect()
}

/// True if a key of a file means this sysctl; a part may hold a `*`.
fn matches(key: &str, name: &str) -> bool {
    let (pattern, wanted) = (parts(key), parts(name));
    let dots = |part: &str| part.replace('/', ".");
    pattern.len() == wanted.len()
        && pattern.iter().zip(&wanted).all(|(pattern, part)| fits(&dots(pattern), &dots(part)))
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|tail| fits(rest, tail)))
        }),
    }
}

/// Values are the same whatever blanks separate their parts.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// Puts a file in place.
pub(crate) fn write(file: &RecordedFile) -> Result<(), Error> {
    let failed = |error: io::Error| Error::file(&file.path, &error);
    if let Some(folder) = file.path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    replace(&file.path, &file.after).map_err(failed)
}

/// What a file holds that is neither ours nor what was there before; `None` if it is one of these.
pub(crate) fn changed_by_others(file: &RecordedFile) -> Result<Option<String>, Error> {
    let now = read(&file.path)?;
    let known = now.as_ref() == Some(&file.after) || now == file.before;
    Ok(if known { None } else { Some(now.unwrap_or_else(|| "removed".into())) })
}

/// Puts back what was there before. True if anything had to be done; without `force`, a file that
/// somebody else has changed is left alone.
pub(crate) fn restore(file: &RecordedFile, force: bool) -> Result<bool, Error> {
    let now = read(&file.path)?;
    if now == file.before || (now.as_ref() != Some(&file.after) && !force) {
        return Ok(false);
    }
    let failed = |error: io::Error| Error::file(&file.path, &error);
    if let Some(text) = &file.before {
        replace(&file.path, text).map_err(failed)?;
    } else {
        fs::remove_file(&file.path).map_err(failed)?;
        sync_folder(file.path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use whydrop_model::NetnsRef;

    use super::*;

    fn somaxconn(value: &str) -> Vec<RecordedWrite> {
        vec![RecordedWrite {
            netns: NetnsRef { inode: None, name: None },
            target: Target::Sysctl { name: "net.core.somaxconn".into() },
            old: "8".into(),
            new: value.into(),
            became: None,
        }]
    }

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn written_once_and_restored_exactly() {
        let root = root(&[]);
        let why = ["accept-queue-full: 63 refused".to_owned()];
        let found = persistent(root.path(), &somaxconn("64"), &why).unwrap();
        let [file] = &found.files[..] else { panic!("{found:?}") };
        write(file).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(text.contains("# accept-queue-full: 63 refused\nnet.core.somaxconn = 64\n"));
        let again = persistent(root.path(), &somaxconn("64"), &["other words".into()]).unwrap();
        assert_eq!(again, Persistent::default(), "nothing the second time");
        assert_eq!(changed_by_others(file).unwrap(), None);
        assert!(restore(file, false).unwrap());
        assert!(!file.path.exists() && !restore(file, false).unwrap());
    }

    #[test]
    fn a_file_that_others_changed_is_left_alone() {
        let root = root(&[]);
        let file = persistent(root.path(), &somaxconn("64"), &[]).unwrap().files.remove(0);
        write(&file).unwrap();
        fs::write(&file.path, "net.core.somaxconn = 99\n").unwrap();
        assert!(changed_by_others(&file).unwrap().is_some());
        assert!(!restore(&file, false).unwrap() && file.path.exists());
        assert!(restore(&file, true).unwrap() && !file.path.exists());
    }

    #[test]
    fn other_files_are_named_and_the_later_one_wins() {
        let root = root(&[
            ("usr/lib/sysctl.d/50-distribution.conf", "net.core.somaxconn=128\n"),
            ("etc/sysctl.d/50-distribution.conf", "# hides the one of the distribution\n"),
            ("etc/sysctl.d/10-site.conf", "\n-net/core/somaxconn = 256\n"),
            ("run/sysctl.d/95-late.conf", "net.core.*conn = 512\nnet.core.other = 1\n"),
            ("etc/sysctl.conf", "net.core.somaxconn =  64\n"),
            ("etc/sysctl.d/99-notes.txt", "net.core.somaxconn = 1\n"),
        ]);
        let found = persistent(root.path(), &somaxconn("64"), &[]).unwrap();
        let told: Vec<_> = found
            .conflicts
            .iter()
            .map(|one| (one.path.file_name().unwrap().to_str().unwrap(), one.line, one.wins))
            .collect();
        assert_eq!(told, [("10-site.conf", 2, false), ("95-late.conf", 1, true)]);
    }

    #[test]
    fn keys_are_the_same_in_both_notations() {
        assert!(matches("net/ipv4/conf/eth0.10/rp_filter", "net.ipv4.conf.eth0/10.rp_filter"));
        assert!(matches("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0/10.rp_filter"));
        assert!(!matches("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.eth0.rp_filter"));
        assert!(same("4096\t131072 6291456", "4096 131072  6291456") && !same("1", "12"));
    }
}
