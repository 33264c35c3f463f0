//! Command lines of scenario files: the few programs that configure a namespace, with their
//! arguments as written. No shell is involved.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fs, io};

use serde::Deserialize;

use crate::LabError;
use crate::netns::Netns;

/// What a line may start with, and the Debian package it comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("bridge", "iproute2"),
    ("ip", "iproute2"),
    ("ip6tables-legacy", "iptables"),
    ("iptables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    ("nft", "nftables"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("tc", "iproute2"),
];

/// The word that stands for the file of the lab's own programs for XDP and tc, whose sections are in
/// `bpf/programs.bpf.c`.
const OBJECT: &str = "programs.bpf.o";
const PROGRAMS_OBJECT: &[u8] = include_bytes!("../bpf/programs.bpf.o");

/// A command line: a program and its arguments, separated by blanks. Single quotes keep an argument
/// with blanks together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Line {
    text: String,
    words: Vec<String>,
}

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words = words(&text).ok_or_else(|| format!("`{text}` has a quote without its end"))?;
        let program = words.first().map(String::as_str).unwrap_or_default();
        if PROGRAMS.iter().any(|(known, _)| *known == program) {
            return Ok(Self { text, words });
        }
        let known: Vec<_> = PROGRAMS.iter().map(|(known, _)| *known).collect();
        Err(format!("`{text}` starts with none of {}", known.join(", ")))
    }
}

impl Line {
    /// The program it runs.
    pub(crate) fn program(&self) -> &str {
        self.words.first().map(String::as_str).unwrap_or_default()
    }

    /// Carries it out inside a namespace and gives what it prints.
    pub(crate) fn run(&self, netns: &Netns) -> Result<String, LabError> {
        let object = self.words.iter().any(|word| word == OBJECT).then(|| netns.object_file());
        let object = object.map(|path| Object::write(path, PROGRAMS_OBJECT)).transpose()?;
        let mut command = Command::new(self.program());
        for word in self.words.iter().skip(1) {
            match &object {
                Some(object) if word == OBJECT => command.arg(&object.path),
                _ => command.arg(word),
            };
        }
        command.stdin(Stdio::null());
        // A child is born in the namespace of the thread that starts it.
        let output = netns.within(move || command.output())?;
        let output = output.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(self.program()),
            _ => LabError::io(self.text.clone())(source),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.lines().next().unwrap_or_default().to_owned();
        Err(LabError::Command { command: self.text.clone(), message })
    }
}

/// A file that vanishes when dropped: `ip` and `tc` load programs from files only.
struct Object {
    path: PathBuf,
}

impl Object {
    fn write(path: PathBuf, bytes: &[u8]) -> Result<Self, LabError> {
        let what = format!("writing {}", path.display());
        fs::write(&path, bytes).map_err(LabError::io(what))?;
        Ok(Self { path })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // One that stays is swept by the next run.
        let _ = fs::remove_file(&self.path);
    }
}

/// The words of a line; `None` if a quote does not end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'')?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Some(words)
}

/// The error of a program that is not installed.
pub(crate) fn missing(program: &str) -> LabError {
    let known = PROGRAMS.iter().find(|(known, _)| *known == program);
    LabError::MissingProgram {
        program: program.to_owned(),
        package: known.map_or(program.to_owned(), |(_, package)| (*package).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_programs() {
        let line = |text: &str| Line::try_from(text.to_owned());
        assert_eq!(line("tc qdisc show").unwrap().program(), "tc");
        for wrong in ["", "rm -rf /", "/sbin/tc qdisc", "ipset list"] {
            let error = line(wrong).unwrap_err();
            assert!(error.contains("none of bridge, ip,"), "{error}");
        }
        assert_eq!(line("tc 'a b' c").unwrap().words, ["tc", "a b", "c"]);
        assert!(line("tc 'a b").unwrap_err().contains("without its end"));
        let error = missing("nft").to_string();
        assert_eq!(error, "`nft` is not installed (Debian package: nftables)");
    }
}
