//! What can keep a scenario from being played. A wrong diagnosis is not an error: it is an
//! [`Outcome`](crate::Outcome) that did not pass.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a scenario could not be played to its end.
#[derive(Debug, Error)]
pub enum LabError {
    /// Namespaces and crafted packets need root.
    #[error("the lab builds network namespaces: run it as root")]
    NotRoot,
    /// A program that the lab runs is not installed.
    #[error("`{program}` is not installed (Debian package: {package})")]
    MissingProgram {
        /// What was to be run.
        program: String,
        /// The Debian package that holds it.
        package: String,
    },
    /// No scenario has this name.
    #[error("no scenario is called `{0}`; `whydrop lab list` names them all")]
    UnknownScenario(String),
    /// The scenario has nothing to remedy: it is healthy, or what it loses is noise.
    #[error("scenario `{0}` has no remedy to try: nothing is wrong in it")]
    NoRemedy(String),
    /// The scenario does not say what the program does about it.
    #[error("scenario `{0}` says neither how the program cures it nor why it does not")]
    NoFix(String),
    /// The scenario needs what this machine does not have.
    #[error("this machine has no {what}: {why}")]
    Lacking {
        /// What is needed.
        what: String,
        /// What trying it gave.
        why: String,
    },
    /// A scenario file is wrong.
    #[error("scenario `{name}`: {message}")]
    Scenario {
        /// Name of the scenario.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A command failed.
    #[error("`{command}` failed: {message}")]
    Command {
        /// The command line.
        command: String,
        /// The last thing it said.
        message: String,
    },
    /// A file, process or socket operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// One of the lab's own processes failed.
    #[error("lab process `{name}`: {message}")]
    Actor {
        /// Its name.
        name: String,
        /// What it said.
        message: String,
    },
    /// A counter that a scenario refers to is not known to this kernel.
    #[error("this kernel has no counter `{0}`")]
    NoCounter(String),
    /// The program under test did not get as far as watching.
    #[error("{0}")]
    Diagnosis(String),
    /// The program under test could not be started.
    #[error("cannot run {}: {source}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Something that had to happen did not.
    #[error("gave up after {} s: {what}", limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// SIGINT, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    /// True if nothing is wrong but that the scenario cannot be played on this machine.
    pub fn means_skipped(&self) -> bool {
        matches!(self, Self::MissingProgram { .. } | Self::Lacking { .. })
    }

    /// True if no other scenario can be played either.
    pub(crate) fn ends_all(&self) -> bool {
        matches!(self, Self::NotRoot | Self::Program { .. } | Self::Interrupted)
    }

    /// An I/O error with the operation that met it; use with `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }
}
