//! What well-known servers ask for when they call `listen()`, where they are told, and what makes a
//! new value count.
//!
//! Data, not code: the list is `knowledge/programs.tsv`. The numbers are documented defaults; a site
//! may have set others, so they only ever tip a balance. A program in Go is recognised by no name of
//! its own; it asks for what `net.core.somaxconn` was when it started.

use std::sync::LazyLock;

use whydrop_model::Process;

/// Where a program is told its backlog.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Executable or `comm`, by its start.
    name: &'static str,
    /// Default backlog; `None` if it depends on other settings.
    backlog: Option<u64>,
    /// The setting, in words.
    pub(crate) place: &'static str,
    /// What to do for it to count, as `restart it`.
    pub(crate) afterwards: &'static str,
}

static PROGRAMS: LazyLock<Vec<Setting>> =
    LazyLock::new(|| parse(include_str!("../knowledge/programs.tsv")));

/// Lines that are not well formed are skipped here and caught by the test below.
fn parse(table: &'static str) -> Vec<Setting> {
    let row = |line: &'static str| {
        let mut fields = line.split('\t');
        let name = fields.next()?;
        let backlog = match fields.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Setting { name, backlog, place: fields.next()?, afterwards: fields.next()? })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Where this program is told its backlog; `None` for one that is not known.
pub(crate) fn backlog_setting(process: &Process) -> Option<&'static Setting> {
    let is = |name: &str| {
        let starts = |full: &str| full.starts_with(name);
        process.program.as_deref().is_some_and(starts) || starts(&process.comm)
    };
    PROGRAMS.iter().find(|program| is(program.name))
}

/// The backlog this program asks for unless told otherwise.
pub(crate) fn usual_backlog(process: &Process) -> Option<u64> {
    backlog_setting(process).and_then(|program| program.backlog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_program() {
        let lines = include_str!("../knowledge/programs.tsv").lines().count() - 1;
        assert_eq!(PROGRAMS.len(), lines);
        let process = Process { comm: "php-fpm8.2".into(), ..Process::default() };
        assert_eq!(usual_backlog(&process), Some(511));
        let process = Process { program: Some("haproxy".into()), ..Process::default() };
        assert_eq!(usual_backlog(&process), None);
        assert!(backlog_setting(&process).is_some_and(|one| one.place.contains("backlog")));
    }
}
