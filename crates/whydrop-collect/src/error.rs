//! What can go wrong: [`Error`] ends an observation before it begins, [`Why`] costs one fact.
//!
//! Also gathers the [`Why`]s of many namespaces into few [`NotChecked`] lines ([`Notes`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use whydrop_model::NotChecked;

/// Why nothing can be observed at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace asked for by name does not exist.
    #[error("no network namespace is named \"{name}\" (`ip netns list` shows the names)")]
    UnknownNamespace {
        /// The name as given.
        name: String,
    },
    /// The namespace of the caller cannot be told: `/proc` is not mounted or hidden.
    #[error("cannot read the own network namespace at {path}")]
    OwnNamespace {
        /// The link that could not be read.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A namespace known by its inode is there no more.
    #[error("network namespace net:[{inode}] is gone")]
    NamespaceGone {
        /// The inode of its file.
        inode: u64,
    },
    /// A namespace could not be entered, or something in it not be read.
    #[error("{what}: {why}")]
    Closed {
        /// What was to be entered or read.
        what: String,
        /// Why not, in words for the operator.
        why: String,
    },
    /// No thread could be started, or it ended before its first reading.
    #[error("cannot start the thread that reads the counters")]
    Thread(#[source] io::Error),
}

/// Why one fact is missing, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) String);

impl Why {
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// A file could not be read.
    pub(crate) fn reading(path: &Path, error: &io::Error) -> Self {
        let why = match error.kind() {
            // Those of a network namespace are open to its root user, or to all.
            io::ErrorKind::PermissionDenied => {
                "not permitted; needs CAP_DAC_READ_SEARCH or root".into()
            }
            _ => words(error),
        };
        Self(format!("{}: {why}", path.display()))
    }
}

/// The error without Rust's "(os error N)".
fn words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => "not permitted; root may be needed".into(),
        Some(Errno::NOENT) => "this kernel does not have it".into(),
        Some(Errno::MFILE) => "too many open files; raise the limit (`ulimit -n`)".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self(words(&error))
    }
}

impl From<Errno> for Why {
    fn from(error: Errno) -> Self {
        Self(words(&error.into()))
    }
}

/// What could not be checked so far. The same reason in a hundred namespaces becomes one line.
#[derive(Debug, Default)]
pub(crate) struct Notes(BTreeMap<(String, String), Vec<String>>);

/// Namespaces named in one line before the rest is only counted.
const NAMED: usize = 5;

impl Notes {
    /// Notes that `what` could not be read in the namespace called `place`; an empty `place` stands
    /// for the own namespace or the host.
    pub(crate) fn add(&mut self, what: &str, place: &str, why: &Why) {
        let places = self.0.entry((what.to_owned(), why.0.clone())).or_default();
        if !places.iter().any(|known| known == place) {
            places.push(place.to_owned());
        }
    }

    /// One [`NotChecked`] for each thing and reason.
    pub(crate) fn finish(self) -> Vec<NotChecked> {
        self.0
            .into_iter()
            .map(|((what, why), mut places)| {
                places.retain(|place| !place.is_empty());
                NotChecked { what: what + &in_places(&places), why }
            })
            .collect()
    }
}

fn in_places(places: &[String]) -> String {
    let named = places.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match places.len() {
        0 => String::new(),
        1 => format!(" in network namespace {named}"),
        2..=NAMED => format!(" in network namespaces {named}"),
        many => format!(" in network namespaces {named} and {} more", many - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_become_one_line() {
        let mut notes = Notes::default();
        for place in ["a", "b", "a", "c", "d", "e", "f", "g"] {
            notes.add("devices", place, &Why::new("no"));
        }
        notes.add("softnet", "", &Why::new("gone"));
        let lines = notes.finish();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].what, "devices in network namespaces a, b, c, d, e and 2 more");
        assert_eq!(lines[1], NotChecked { what: "softnet".into(), why: "gone".into() });
    }

    #[test]
    fn an_unknown_name_is_told_with_the_way_out() {
        let error = Error::UnknownNamespace { name: "web".into() };
        assert!(
            error.to_string().contains("\"web\"") && error.to_string().contains("ip netns list")
        );
    }

    #[test]
    fn errors_are_told_without_numbers() {
        assert_eq!(Why::from(Errno::NOSPC).0, "No space left on device");
        assert_eq!(Why::from(Errno::PERM).0, "not permitted; root may be needed");
    }
}
