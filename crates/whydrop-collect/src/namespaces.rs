//! Which network namespaces the host has, and whether one still exists.
//!
//! Found are the own one, those with a name (`/run/netns`), those with another file (Docker's, and
//! any mount of one), and those in which a process lives. Not found are those held only by a thread
//! that left its process's namespace, by an open file or by a socket: the kernel lists them nowhere.
//! Reads links and file numbers only; entering is the business of `entrance`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use whydrop_model::NotChecked;

use crate::error::{Error, Notes, Why};
use crate::{Roots, process};

/// A network namespace that can be reached from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRef {
    /// Inode of the namespace file.
    pub inode: u64,
    /// Name as in `ip netns`.
    pub name: Option<String>,
    /// A file that holds it, for `nsenter --net=FILE`: its name's, Docker's or another mount.
    pub file: Option<PathBuf>,
    /// The lowest pid of a process that lives in it.
    pub pid: Option<u32>,
    /// True for the caller's own.
    pub own: bool,
}

/// The network namespaces of the host: the own one first, then by inode.
///
/// # Errors
///
/// [`Error::OwnNamespace`] if `/proc` does not tell the caller's own.
pub fn namespaces(roots: &Roots) -> Result<(Vec<NamespaceRef>, Vec<NotChecked>), Error> {
    let own = Own::find(roots)?;
    let census = Census::take(roots, &own);
    let mut found = BTreeMap::from([(own.inode, None)]);
    for handle in own.files(roots) {
        found.entry(handle.inode).or_insert(None).get_or_insert(handle);
    }
    for &inode in census.lowest.keys() {
        found.entry(inode).or_insert(None);
    }
    let mut list: Vec<NamespaceRef> = found
        .into_iter()
        .map(|(inode, handle)| NamespaceRef {
            inode,
            name: handle.as_ref().and_then(|handle| handle.name.clone()),
            file: handle.map(|handle| handle.path),
            pid: census.lowest.get(&inode).copied(),
            own: inode == own.inode,
        })
        .collect();
    list.sort_by_key(|namespace| (!namespace.own, namespace.inode));
    let mut notes = Notes::default();
    census.note(&mut notes);
    Ok((list, notes.finish()))
}

/// A folder that changed longer ago holds what it held: a new file becomes a namespace only when that
/// is mounted over it, which the folder's time does not show, as it does not show two changes at once.
const SETTLED: Duration = Duration::from_secs(2);
/// Usually it is by then.
const MOUNTED: Duration = Duration::from_millis(250);

/// The namespace of the calling thread.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) inode: u64,
    /// Its file; `None` where `/proc` is a recorded one.
    pub(crate) file: Option<File>,
    /// Device number of the file system that holds all namespace files.
    device: Option<u64>,
    /// See [`table_of`].
    table: Option<u64>,
}

impl Own {
    pub(crate) fn find(roots: &Roots) -> Result<Self, Error> {
        let path = roots.proc.join("thread-self/ns/net");
        let inode = inode_of_link(&path)
            .map_err(|source| Error::OwnNamespace { path: path.clone(), source })?;
        let file = File::open(&path).ok();
        let device = file.as_ref().and_then(|file| file.metadata().ok()).map(|data| data.st_dev());
        let table = table_of(&roots.proc.join("thread-self"));
        Ok(Self { inode, file, device, table })
    }

    /// Files that hold a network namespace: first those with a name, then Docker's, then mounts.
    pub(crate) fn files(&self, roots: &Roots) -> Vec<Handle> {
        let mut files = self.named_files(roots);
        files.extend(self.mounted_files(roots));
        files
    }

    /// The mounts among [`Own::files`].
    pub(crate) fn mounted_files(&self, roots: &Roots) -> Vec<Handle> {
        mounted(roots).into_iter().filter_map(|path| self.handle(roots, path)).collect()
    }

    /// As [`Own::files`] without the mounts.
    pub(crate) fn named_files(&self, roots: &Roots) -> Vec<Handle> {
        let mut files = Vec::new();
        for folder in [&roots.netns, &roots.docker_netns] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            files.extend(paths.into_iter().filter_map(|path| self.handle(roots, path)));
        }
        files
    }

    /// The handle at `path`, if that is a file of any namespace. Its kind shows when it is opened.
    fn handle(&self, roots: &Roots, path: PathBuf) -> Option<Handle> {
        let inode = self.inode_of_file(&path)?;
        // A name need not be UTF-8; what cannot be asked for by it is observed all the same.
        let file_name = path.file_name()?.to_string_lossy().into_owned();
        let name = (path.parent() == Some(&roots.netns)).then(|| file_name.clone());
        Some(Handle { inode, name, file_name, path })
    }

    /// The inode of a namespace file; `None` if it is none.
    pub(crate) fn inode_of_file(&self, path: &Path) -> Option<u64> {
        let data = fs::metadata(path).ok()?;
        (Some(data.st_dev()) == self.device).then_some(data.st_ino())
    }
}

/// The files with a name, listed again only when their folders may have changed: at every look that
/// would cost more than all else of it.
#[derive(Debug, Default)]
pub(crate) struct NamedFiles {
    listed: bool,
    changed: [Option<SystemTime>; 2],
}

impl NamedFiles {
    /// [`Own::named_files`], as of now; `None` if they are those of the latest list.
    pub(crate) fn news(&mut self, own: &Own, roots: &Roots) -> Option<Vec<Handle>> {
        let changed = changes(roots);
        let same = self.listed && changed == self.changed;
        (!same || !all_before(&changed, SETTLED)).then(|| {
            (self.listed, self.changed) = (true, changed);
            own.named_files(roots)
        })
    }

    /// True if a namespace was named or lost its name since the latest list, or hardly before it.
    pub(crate) fn moved(&self, roots: &Roots) -> bool {
        let changed = changes(roots);
        changed != self.changed || !all_before(&changed, MOUNTED)
    }
}

/// When the folders changed.
fn changes(roots: &Roots) -> [Option<SystemTime>; 2] {
    [&roots.netns, &roots.docker_netns]
        .map(|folder| fs::metadata(folder).and_then(|data| data.modified()).ok())
}

fn all_before(changed: &[Option<SystemTime>], ago: Duration) -> bool {
    changed.iter().flatten().all(|at| at.elapsed().is_ok_and(|since| since > ago))
}

/// A file that holds a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) inode: u64,
    /// Name as in `ip netns`.
    pub(crate) name: Option<String>,
    /// Last part of the path: what the operator may call it.
    pub(crate) file_name: String,
    pub(crate) path: PathBuf,
}

/// Opens a namespace file and makes sure that it is the namespace `inode`: a pid or a name may belong
/// to another one by now. That it is a network namespace shows when it is entered.
pub(crate) fn open(path: &Path, inode: u64) -> Result<File, Why> {
    let ended = || Why::new("it ended while it was opened");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ended()),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.st_ino() == inode { Ok(file) } else { Err(ended()) }
}

/// The inode in a link such as `net:[4026531840]`.
pub(crate) fn inode_of_link(link: &Path) -> io::Result<u64> {
    let text = fs::read_link(link)?;
    parse_link(&text.to_string_lossy())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a network namespace"))
}

pub(crate) fn parse_link(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Mount points of network namespaces, by `/proc/thread-self/mountinfo`.
fn mounted(roots: &Roots) -> Vec<PathBuf> {
    let text = fs::read(roots.proc.join("thread-self/mountinfo")).unwrap_or_default();
    let mut paths: Vec<PathBuf> = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(parse_mount)
        .filter(|path| !path.starts_with(&roots.netns) && !path.starts_with(&roots.docker_netns))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The mount point of a line such as
/// `81 33 0:4 net:[4026532281] /run/user/0/netns/x rw shared:30 - nsfs nsfs rw`.
pub(crate) fn parse_mount(line: &str) -> Option<PathBuf> {
    let (mount, source) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(3);
    let (root, point) = (words.next()?, words.next()?);
    (source.starts_with("nsfs ") && parse_link(root).is_some())
        .then(|| PathBuf::from(unescape(point)))
}

/// Undoes the escapes of `mountinfo`: a backslash and three octal digits for white space and the
/// backslash itself.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(byte) = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(char::from(byte));
            plain.push_str(&part[3..]);
        } else {
            plain.push('\\');
            plain.push_str(part);
        }
    }
    plain
}

/// Which namespaces have processes.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The lowest pid in each namespace, by the namespace's inode.
    pub(crate) lowest: BTreeMap<u64, u32>,
    /// How many processes there are.
    pub(crate) processes: usize,
    /// Namespaces of processes that do not let this user see which they are, by their table.
    hidden: BTreeSet<u64>,
}

impl Census {
    pub(crate) fn take(roots: &Roots, own: &Own) -> Self {
        let mut census = Self::default();
        let mut closed = Vec::new();
        let pids = process::pids(roots);
        census.processes = pids.len();
        for pid in pids {
            match inode_of_link(&process::namespace_link(roots, pid)) {
                Ok(inode) => {
                    census.lowest.entry(inode).or_insert(pid);
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => closed.push(pid),
                // It ended meanwhile.
                Err(_) => {}
            }
        }
        if !closed.is_empty() {
            census.recognise(roots, own, &closed);
        }
        census
    }

    /// Counts the namespaces in which only processes live that hide their link. Each namespace has its own files in
    /// `/proc/PID/net`, whose inodes nobody hides.
    fn recognise(&mut self, roots: &Roots, own: &Own, closed: &[u32]) {
        let table = |pid: u32| table_of(&roots.proc.join(pid.to_string()));
        let mut known: BTreeSet<u64> = self.lowest.values().filter_map(|&pid| table(pid)).collect();
        known.extend(own.table);
        for &pid in closed {
            let Some(table) = table(pid) else { continue };
            if !known.contains(&table) {
                self.hidden.insert(table);
            }
        }
    }

    pub(crate) fn note(&self, notes: &mut Notes) {
        let hidden = self.hidden.len();
        if hidden > 0 {
            let why = format!("there are {hidden} of other users' processes; needs root");
            notes.add("network namespaces without a name", "", &Why(why));
        }
    }
}

/// The inode of a table in a process's `net` folder: one for each network namespace.
fn table_of(process: &Path) -> Option<u64> {
    fs::metadata(process.join("net/snmp")).ok().map(|data| data.st_ino())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn links_of_network_namespaces_only() {
        assert_eq!(parse_link("net:[4026531840]"), Some(4_026_531_840));
        for other in ["mnt:[4026531840]", "net:[]", "net:[1", "/run/x", ""] {
            assert_eq!(parse_link(other), None, "{other}");
        }
    }

    #[test]
    fn mounts_of_network_namespaces_only() {
        let line =
            "81 33 0:4 net:[4026532281] /run/user/0/my\\040netns\\134x rw shared:30 - nsfs nsfs rw";
        assert_eq!(parse_mount(line), Some("/run/user/0/my netns\\x".into()));
        for other in [
            "81 33 0:4 mnt:[4026532281] /run/x rw - nsfs nsfs rw",
            "24 30 0:22 / /proc rw - proc proc rw",
            "24 30 0:22 net:[1] /tmp/a rw - ext4 /dev/sda rw",
            "noise",
            "",
        ] {
            assert_eq!(parse_mount(other), None, "{other}");
        }
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("a\\9b\\0401"), "a\\9b 1");
    }

    #[test]
    fn the_own_namespace_comes_first_and_is_not_doubled() {
        let (list, _) = namespaces(&Roots::default()).unwrap();
        let own = inode_of_link(Path::new("/proc/self/ns/net")).unwrap();
        assert!(list[0].own);
        assert_eq!(list[0].inode, own);
        assert!(list[0].pid.is_some_and(|pid| pid <= std::process::id()));
        let mut inodes: Vec<u64> = list.iter().map(|namespace| namespace.inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), list.len());
    }

    #[test]
    fn named_files_are_listed_again_when_their_folder_changed() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { netns: folder.path().into(), ..fixture::roots("linux-6.18") };
        let device = fs::metadata(folder.path()).unwrap().st_dev();
        let own = Own { inode: 1, file: None, device: Some(device), table: None };
        let mut named = NamedFiles::default();
        let mut names_at = |at: SystemTime| {
            File::open(folder.path()).unwrap().set_modified(at).unwrap();
            let news = named.news(&own, &roots)?;
            Some(news.iter().map(|file| file.file_name.clone()).collect::<Vec<_>>().join(" "))
        };
        let long_ago = SystemTime::now() - SETTLED * 9;
        assert_eq!(names_at(long_ago).as_deref(), Some(""));
        fs::write(folder.path().join("blue"), "").unwrap();
        assert_eq!(names_at(long_ago), None, "listed although nothing seems to have changed");
        assert_eq!(names_at(long_ago - SETTLED).as_deref(), Some("blue"));
        assert_eq!(names_at(SystemTime::now()).as_deref(), Some("blue"));
        fs::write(folder.path().join("red"), "").unwrap();
        assert_eq!(names_at(SystemTime::now()).as_deref(), Some("blue red"));
    }

    #[test]
    fn a_folder_that_changed_moves_the_names() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { netns: folder.path().into(), ..fixture::roots("linux-6.18") };
        let own = Own { inode: 1, file: None, device: None, table: None };
        let mut named = NamedFiles::default();
        let mut moved = |at: SystemTime| {
            File::open(folder.path()).unwrap().set_modified(at).unwrap();
            let before = named.moved(&roots);
            named.news(&own, &roots);
            (before, named.moved(&roots))
        };
        let long_ago = SystemTime::now() - SETTLED * 9;
        assert_eq!(moved(long_ago), (true, false), "listed for the first time");
        assert_eq!(moved(long_ago), (false, false));
        assert_eq!(moved(long_ago - SETTLED), (true, false));
        let right_now = SystemTime::now() + SETTLED;
        assert_eq!(moved(right_now), (true, true), "what is named now is mounted a little later");
    }

    #[test]
    fn a_process_that_hides_its_namespace_is_recognised_by_its_tables() {
        let roots = Roots::default();
        let own = Own::find(&roots).unwrap();
        let me = std::process::id();
        let mut census = Census { lowest: BTreeMap::from([(7, me)]), ..Census::default() };
        census.recognise(&roots, &Own { table: None, ..own }, &[me]);
        assert!(census.hidden.is_empty(), "another process shows it");

        let own = Own::find(&roots).unwrap();
        let mut census = Census::default();
        census.recognise(&roots, &own, &[me, u32::MAX]);
        assert!(census.hidden.is_empty(), "it is the own one; an ended process hides nothing");

        let mut census = Census::default();
        census.recognise(&roots, &Own { table: None, ..own }, &[me]);
        let mut notes = Notes::default();
        census.note(&mut notes);
        let [line] = &notes.finish()[..] else { panic!("one line") };
        assert!(line.why.starts_with("there are 1 of"), "{}", line.why);
    }

    #[test]
    fn without_proc_the_own_namespace_is_unknown() {
        let roots = Roots { proc: "/nonexistent".into(), ..Roots::default() };
        assert!(matches!(namespaces(&roots), Err(Error::OwnNamespace { .. })));
    }

    proptest! {
        #[test]
        fn any_mount_line_is_survived(line in "[ a-z0-9\\[\\]:\\\\/-]{0,120}", text in "\\PC{0,60}") {
            parse_mount(&line);
            unescape(&text);
            parse_mount(&text);
        }
    }
}
