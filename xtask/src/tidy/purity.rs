//! Diagnosis and surfaces read nothing: no file, no socket, no process, no clock, no environment.
//!
//! Clippy enforces it for the diagnosis, by the `clippy.toml` beside its manifest; this check makes
//! sure that the file is there and complete, and reads the sources of both crates itself.

use toml::{Table, Value};

use super::{Problem, Tree, rust_text};

/// Crates that must be pure.
const PURE: &[&str] = &["crates/whydrop-diagnose", "crates/whydrop-show", "crates/whydrop-filter"];

/// The lint settings that enforce it.
const SETTINGS: &str = "crates/whydrop-diagnose/clippy.toml";

/// What those settings must ban, at least.
const BANNED: &[&str] = &[
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::read_dir",
    "std::fs::write",
    "std::fs::File",
    "std::fs::OpenOptions",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::process::Command",
    "std::process::exit",
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::env::var",
    "std::env::args",
];

/// Beginnings of paths that a pure crate does not import or name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = settings(tree);
    for (path, text) in tree.rust() {
        if !PURE.iter().any(|folder| path.starts_with(&format!("{folder}/src/"))) {
            continue;
        }
        let code = rust_text::code(rust_text::without_tests(text));
        let mut found: Vec<(usize, &str)> = Vec::new();
        for impure in IMPURE {
            found.extend(code.match_indices(impure));
        }
        for (at, import) in rust_text::imports(&code) {
            found.extend(IMPURE.iter().filter(|i| import.starts_with(**i)).map(|i| (at, *i)));
        }
        let mut lines: Vec<Problem> = found
            .into_iter()
            .map(|(at, what)| Problem::at(path, text, at, format!("{what} in a pure crate")))
            .collect();
        lines.sort();
        lines.dedup();
        problems.extend(lines);
    }
    problems
}

fn settings(tree: &Tree) -> Vec<Problem> {
    let table = |path: &str| tree.find(path)?.text()?.parse::<Table>().ok();
    let Some(settings) = table(SETTINGS) else {
        return vec![Problem::new(
            SETTINGS,
            "missing or not TOML; it is what keeps the crate pure",
        )];
    };
    let mut problems = Vec::new();
    // The nearest clippy.toml replaces the others, so it has to repeat them.
    for (key, value) in table("clippy.toml").unwrap_or_default() {
        if settings.get(&key) != Some(&value) {
            let what = format!("must repeat `{key}` as in the root's clippy.toml");
            problems.push(Problem::new(SETTINGS, what));
        }
    }
    let banned: Vec<&str> = ["disallowed-methods", "disallowed-types"]
        .iter()
        .flat_map(|key| paths(&settings, key))
        .collect();
    for path in BANNED {
        if !banned.contains(path) {
            problems.push(Problem::new(SETTINGS, format!("must ban {path}")));
        }
    }
    problems
}

/// The paths in a list of lint settings, written as strings or as `{ path = "..." }`.
fn paths<'a>(settings: &'a Table, key: &str) -> Vec<&'a str> {
    let list = settings.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|entry| entry.as_str().or_else(|| entry.get("path")?.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::{BANNED, SETTINGS, check};
    use crate::tidy::problems;

    fn complete() -> String {
        let banned: Vec<String> = BANNED
            .iter()
            .map(|path| format!("{{ path = \"{path}\", reason = \"pure\" }}"))
            .collect();
        format!("too-many-lines = 80\ndisallowed-methods = [{}]\n", banned.join(", "))
    }

    #[test]
    fn a_pure_crate_passes() {
        let settings = complete();
        let files = [
            (SETTINGS, settings.as_str()),
            ("clippy.toml", "too-many-lines = 80\n"),
            (
                "crates/whydrop-diagnose/src/lib.rs",
                "//! Never std::fs.\nuse std::net::IpAddr;\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n",
            ),
            ("crates/whydrop-collect/src/lib.rs", "use std::fs;\n"),
        ];
        assert_eq!(problems(check, &files), [""; 0]);
    }

    #[test]
    fn every_way_to_read_the_world_is_seen() {
        let settings = complete();
        let show = "crates/whydrop-show/src/lib.rs";
        for (source, what) in [
            ("fn a() { std::fs::read(x) }", "std::fs"),
            ("use std::{fmt, process};", "std::process"),
            ("use std::{fmt,\n    net::{IpAddr, TcpStream}};", "std::net::Tcp"),
            ("fn a() { std::env::var(x) }", "std::env"),
            ("fn a() { Instant::now() }", "Instant::now"),
            ("use std::time::SystemTime as Clock;", "std::time::SystemTime"),
        ] {
            let found = problems(check, &[(SETTINGS, &settings), (show, source)]);
            let expected = format!("{show}:1: {what} in a pure crate");
            assert!(found.contains(&expected), "{source}: {found:#?}");
        }
    }

    #[test]
    fn settings_must_be_there_complete_and_repeat_the_root() {
        assert_eq!(problems(check, &[]).len(), 1);
        let files = [
            (SETTINGS, "disallowed-types = [\"std::fs::File\"]"),
            ("clippy.toml", "too-many-lines = 80"),
        ];
        let found = problems(check, &files);
        assert_eq!(
            found.len(),
            BANNED.len(),
            "all but one are missing, and the root's: {found:#?}"
        );
        assert!(found.iter().any(|line| line.contains("must repeat `too-many-lines`")));
    }
}
