//! What can go wrong between asking for a tracer and having one. Each message says what failed,
//! why, and what to do about it, in one line.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why there is no tracer, or why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's type information cannot be opened.
    #[error(
        "cannot read the kernel's type information {path}: {source}; tracing needs a kernel built \
         with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
    /// There is a file, but it is not the BTF of a kernel.
    #[error(
        "{path} is not usable as the kernel's type information: {why}; use the running kernel's \
         own, /sys/kernel/btf/vmlinux"
    )]
    BadBtf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Missing privilege.
    #[error(
        "the kernel does not permit {what}; run as root or grant CAP_BPF and CAP_PERFMON (before \
         5.8: CAP_SYS_ADMIN; before 5.11 also raise RLIMIT_MEMLOCK)"
    )]
    NotPermitted {
        /// What was refused.
        what: String,
    },
    /// The kernel lacks something that the tracer is made of.
    #[error("{what} failed: {why}; tracing needs Linux 5.8 or later")]
    TooOld {
        /// What failed.
        what: String,
        /// What the kernel answered.
        why: String,
    },
    /// No attach type was accepted.
    #[error("no way to attach to skb:kfree_skb: {}", attempts.join("; "))]
    Refused {
        /// One line per attempt.
        attempts: Vec<String>,
    },
    /// Not enough memory for the tables in the kernel.
    #[error("the kernel has no memory for {what}; raise the memory limit of this control group")]
    NoMemory {
        /// What needed it.
        what: String,
    },
    /// The compiled program did not suit.
    #[error("the tracer's program cannot be adapted to this kernel: {why}")]
    Object {
        /// What the loader said.
        why: String,
    },
    /// The filter is longer than the room that the program has for it.
    #[error(
        "the filter takes {instructions} instructions and there is room for {most}; make it shorter"
    )]
    FilterTooLong {
        /// What it takes.
        instructions: usize,
        /// What there is.
        most: usize,
    },
    /// A map or file of the running tracer could not be read or written.
    #[error("cannot read {what}: {source}")]
    Read {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The error of creating the tracer's maps, by what the kernel answered.
    pub(crate) fn loading(error: &EbpfError) -> Self {
        let what = "creating the tracer's maps".to_owned();
        let EbpfError::MapError(MapError::CreateError { name, io_error, .. }) = error else {
            return if permission_denied(error) {
                Self::NotPermitted { what: "loading the tracer".to_owned() }
            } else {
                Self::Object { why: one_line(error) }
            };
        };
        match io_error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { what },
            io::ErrorKind::OutOfMemory => Self::NoMemory { what },
            _ => Self::TooOld {
                what: format!("creating the map `{name}`"),
                why: io_error.to_string(),
            },
        }
    }

    /// The error of reading or writing one of the tracer's maps.
    pub(crate) fn map(what: &str, error: MapError) -> Self {
        let source = match error {
            MapError::SyscallError(error) => error.io_error,
            MapError::IoError(error) => error,
            other => io::Error::other(other),
        };
        Self::Read { what: what.to_owned(), source }
    }
}

/// True if some error in the chain is EPERM or EACCES.
pub(crate) fn permission_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// The innermost cause, on one line.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a program was not loaded or attached, on one line: the kernel's error and the last words of
/// the verifier.
pub(crate) fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log.lines().map(str::trim).rfind(|line| {
                !line.is_empty()
                    && !line.starts_with("processed ")
                    && !line.starts_with("verification time")
                    && !line.starts_with("stack depth")
            });
            match last {
                Some(line) => format!("{io_error}: {line}"),
                None => io_error.to_string(),
            }
        }
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        other => one_line(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_say_what_to_do() {
        let denied = || io::Error::from_raw_os_error(1);
        let errors = [
            Error::NoBtf { path: "/x".into(), source: denied() },
            Error::BadBtf { path: "/x".into(), why: "it is empty".into() },
            Error::NotPermitted { what: "creating the map `totals`".into() },
            Error::TooOld {
                what: "creating the map `exemplars`".into(),
                why: "Invalid argument".into(),
            },
            Error::Refused { attempts: vec!["tp_btf: no".into(), "raw_tp: no".into()] },
            Error::NoMemory { what: "the map `totals`".into() },
        ];
        for error in errors {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn permission_is_recognised_anywhere_in_the_chain() {
        let inner = Error::NoBtf { path: "/x".into(), source: io::Error::from_raw_os_error(13) };
        assert!(permission_denied(&io::Error::other(inner)));
        assert!(!permission_denied(&io::Error::from_raw_os_error(12)));
    }
}
