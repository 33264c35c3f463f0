//! Where distributions put debug information of kernels, and whether it is that of the running one.
//!
//! What tells builds apart is their build id: the running kernel and each of its modules show theirs in
//! `/sys`, and a file has it in a note.

use std::fs::{self, File as OsFile};
use std::path::{Path, PathBuf};

use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::NoteIterator;
use object::{File, NativeEndian, Object, ReadCache};

/// Why there are no lines and merged functions of some code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No file is where one would be.
    #[error("no debug information of {what} is installed")]
    NotInstalled {
        /// The kernel, or a module.
        what: String,
    },
    /// There is one, of another build.
    #[error("{} is of another build than {what}, which is running", path.display())]
    OtherBuild {
        /// The file.
        path: PathBuf,
        /// The kernel, or a module.
        what: String,
    },
    /// There is one that cannot be used.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Unusable {
    pub(super) fn unreadable(path: &Path, why: &dyn ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), why: why.to_string() }
    }
}

/// Where a section of a module was loaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadedSection {
    pub(super) name: String,
    pub(super) address: u64,
}

/// A file system and the release of the kernel that runs on it.
#[derive(Debug, Clone)]
pub struct Places {
    root: PathBuf,
    pub(super) release: String,
}

impl Places {
    /// A file system below `root`, with its `/sys`, on which a kernel of this release (`uname -r`) runs.
    pub fn new(root: impl Into<PathBuf>, release: impl Into<String>) -> Self {
        Self { root: root.into(), release: release.into() }
    }

    /// This host.
    pub fn of_this_host() -> Self {
        Self::new("/", rustix::system::uname().release().to_string_lossy())
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The file with the debug information of the running kernel.
    pub fn kernel(&self) -> Result<PathBuf, Unusable> {
        let release = &self.release;
        let paths = [
            format!("usr/lib/debug/boot/vmlinux-{release}"),
            format!("usr/lib/debug/boot/vmlinux-{release}.debug"),
            format!("usr/lib/debug/lib/modules/{release}/vmlinux"),
            format!("usr/lib/debug/usr/lib/modules/{release}/vmlinux"),
            format!("usr/lib/debug/usr/lib/modules/{release}/vmlinux.debug"),
            format!("lib/modules/{release}/build/vmlinux"),
            format!("lib/modules/{release}/vmlinux"),
            format!("boot/vmlinux-{release}"),
        ];
        self.first("the kernel", &self.at("sys/kernel/notes"), &paths)
    }

    /// The file with the debug information of a loaded module.
    pub(super) fn module(&self, module: &str) -> Result<PathBuf, Unusable> {
        let release = &self.release;
        let file = self.module_file(module).unwrap_or_else(|| format!("extra/{module}.ko"));
        let paths = [
            format!("usr/lib/debug/lib/modules/{release}/{file}.debug"),
            format!("usr/lib/debug/lib/modules/{release}/{file}"),
            format!("usr/lib/debug/usr/lib/modules/{release}/{file}.debug"),
            format!("usr/lib/debug/usr/lib/modules/{release}/{file}"),
            format!("lib/modules/{release}/{file}"),
        ];
        let notes = self.at(&format!("sys/module/{module}/notes/.note.gnu.build-id"));
        self.first(&format!("module {module}"), &notes, &paths)
    }

    /// Where the sections of a module are, as only root may read.
    pub(super) fn sections(&self, module: &str) -> Result<Vec<LoadedSection>, Unusable> {
        let folder = self.at(&format!("sys/module/{module}/sections"));
        let failed = |why: std::io::Error| Unusable::unreadable(&folder, &why);
        let mut sections = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let text = fs::read_to_string(entry.path()).map_err(failed)?;
            let address = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16);
            let name = entry.file_name().to_string_lossy().into_owned();
            // Hidden addresses read as zero.
            if let Some(address) = address.ok().filter(|&address| address != 0) {
                sections.push(LoadedSection { name, address });
            }
        }
        Ok(sections)
    }

    /// Where a module is below the folder of this release, without what its compression adds.
    fn module_file(&self, module: &str) -> Option<String> {
        let list = self.at(&format!("lib/modules/{}/modules.dep", self.release));
        let list = fs::read_to_string(list).ok()?;
        let files = list.lines().filter_map(|line| line.split(':').next());
        let is_it = |path: &&str| {
            // A file may be called with dashes what the kernel calls with underscores.
            let name = path.rsplit('/').next().unwrap_or(path);
            name.replace('-', "_") == module
        };
        let path = files.filter_map(|file| Some(file.rsplit_once(".ko")?.0)).find(is_it)?;
        Some(format!("{path}.ko"))
    }

    /// The first file that is of the running build and has DWARF; without one, why the first that may
    /// have some is not used.
    fn first(&self, what: &str, notes: &Path, paths: &[String]) -> Result<PathBuf, Unusable> {
        let running = fs::read(notes).map_err(|why| why.to_string()).and_then(|notes| {
            build_id(&notes).ok_or_else(|| "the running build has no build id".to_owned())
        });
        let by_id = running.as_ref().ok().filter(|id| id.len() > 1).map(|id| {
            let hex: Vec<_> = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let hex = hex.concat();
            format!("usr/lib/debug/.build-id/{}/{}.debug", &hex[..2], &hex[2..])
        });
        let mut first_refusal = None;
        for path in by_id.iter().chain(paths).map(|path| self.at(path)) {
            if !path.is_file() {
                continue;
            }
            let checked = match &running {
                Ok(running) => check(&path, running, what),
                Err(why) => Err(Unusable::unreadable(notes, why)),
            };
            match checked {
                Ok(true) => return Ok(path),
                // What runs has none, as a rule: packages keep it apart.
                Ok(false) => {}
                Err(why) => first_refusal = first_refusal.or(Some(why)),
            }
        }
        Err(first_refusal.unwrap_or_else(|| Unusable::NotInstalled { what: what.to_owned() }))
    }
}

/// Whether a file of this build has DWARF. Reads no more than its headers.
fn check(path: &Path, running: &[u8], what: &str) -> Result<bool, Unusable> {
    let unreadable = |why: &dyn ToString| Unusable::unreadable(path, why);
    let file = OsFile::open(path).map_err(|why| unreadable(&why))?;
    let cache = ReadCache::new(file);
    let file = File::parse(&cache).map_err(|why| unreadable(&why))?;
    if file.section_by_name(".debug_info").is_none() {
        return Ok(false);
    }
    match file.build_id().map_err(|why| unreadable(&why))? {
        Some(id) if id == running => Ok(true),
        _ => Err(Unusable::OtherBuild { path: path.to_owned(), what: what.to_owned() }),
    }
}

/// The build id among these notes, which are in the byte order of this machine.
fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    /// That of the notes of Linux, on 64 bits too.
    const ALIGN: u64 = 4;
    type Notes<'n> = NoteIterator<'n, FileHeader64<NativeEndian>>;
    let mut notes = Notes::new(NativeEndian, ALIGN, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == ELF_NOTE_GNU && note.n_type(NativeEndian) == NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}
