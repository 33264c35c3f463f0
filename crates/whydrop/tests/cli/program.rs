//! Running the program under test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program under test.
pub(crate) fn path() -> &'static str {
    env!("CARGO_BIN_EXE_whydrop")
}

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("started");
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub(crate) fn whydrop(arguments: &[&str]) -> Run {
    run(Command::new(path()).args(arguments))
}

/// Runs the program by way of another one, which may change who it is or what it sees. The copy is
/// where any user can reach it.
pub(crate) fn under(wrapper: &[&str], arguments: &[&str]) -> Run {
    let folder = scratch();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let copy = folder.path().join("whydrop");
    fs::copy(path(), &copy).expect("copied");
    run(Command::new(wrapper[0]).args(&wrapper[1..]).arg(&copy).args(arguments))
}

/// A JSON report of this host; whatever its verdict.
pub(crate) fn report(arguments: &[&str]) -> serde_json::Value {
    let run = whydrop(&[&["diagnose", "--format", "json"], arguments].concat());
    assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
    serde_json::from_str(&run.stdout).expect("one JSON document")
}

/// Why something could not be checked.
pub(crate) fn not_checked(report: &serde_json::Value, what: &str) -> String {
    let items = report["not_checked"].as_array().expect("a list");
    let about =
        |item: &&serde_json::Value| item["what"].as_str().is_some_and(|it| it.contains(what));
    let item = items.iter().find(about).unwrap_or_else(|| panic!("{what} in {report}"));
    item["why"].as_str().expect("a text").to_owned()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True, and said, if this test cannot run here.
pub(crate) fn needs_root() -> bool {
    if !is_root() {
        eprintln!("skipped: needs root");
    }
    !is_root()
}

/// A folder that goes away with its guard.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}
