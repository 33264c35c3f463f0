//! What well-known servers ask for when they call `listen()`, where they are told, and what makes a
//! new value count; where they are told the size of a receive buffer.
//!
//! Data, not code: the list is `knowledge/programs.tsv`. The numbers are documented defaults; a site
//! may have set others, so they only ever tip a balance.

use std::sync::LazyLock;

use whydrop_model::Process;

/// Where a program is told what it asks for.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Executable or `comm`, which a version may follow; or what runs the program.
    name: &'static str,
    asks: Asks,
    /// The setting of its backlog, in words.
    backlog: Option<&'static str>,
    /// The setting of its receive buffers, in words.
    buffer: Option<&'static str>,
    /// What to do for it to count, as `restart it`.
    pub(crate) afterwards: &'static str,
}

/// The backlog that a program asks for unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// A number of its own.
    For(u64),
    /// All that `net.core.somaxconn` allows when it starts.
    TheCap,
    /// It depends on other settings.
    Unknown,
}

static PROGRAMS: LazyLock<Vec<Setting>> =
    LazyLock::new(|| parse(include_str!("../knowledge/programs.tsv")));

/// Lines that are not well formed are skipped here and caught by the test below.
fn parse(table: &'static str) -> Vec<Setting> {
    let place = |field: &'static str| (field != "-").then_some(field);
    let row = |line: &'static str| {
        let mut fields = line.split('\t');
        let name = fields.next()?;
        let asks = match fields.next()? {
            "-" => Asks::Unknown,
            "cap" => Asks::TheCap,
            number => Asks::For(number.parse().ok()?),
        };
        let (backlog, buffer) = (place(fields.next()?), place(fields.next()?));
        Some(Setting { name, asks, backlog, buffer, afterwards: fields.next()? })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// By its own name first, then by what runs it.
fn known(process: &Process) -> Option<&'static Setting> {
    let is = |name: &str| {
        let follows = |rest: &str| {
            rest.is_empty()
                || rest.starts_with(|it: char| it.is_ascii_digit() || ".: ".contains(it))
        };
        let called = |full: &str| full.strip_prefix(name).is_some_and(follows);
        process.program.as_deref().is_some_and(called) || called(&process.comm)
    };
    let runs = |name: &str| process.runtime.as_deref() == Some(name);
    let find = |test: &dyn Fn(&str) -> bool| PROGRAMS.iter().find(|one| test(one.name));
    find(&is).or_else(|| find(&runs))
}

/// Where this program is told its backlog, and what to do then; `None` for one that is not known.
pub(crate) fn backlog_setting(process: &Process) -> Option<(&'static str, &'static Setting)> {
    let setting = known(process)?;
    Some((setting.backlog?, setting))
}

/// The same for its receive buffers.
pub(crate) fn buffer_setting(process: &Process) -> Option<(&'static str, &'static Setting)> {
    let setting = known(process)?;
    Some((setting.buffer?, setting))
}

/// The backlog this program asks for unless told otherwise, where `net.core.somaxconn` is `cap`.
pub(crate) fn usual_backlog(process: &Process, cap: Option<u64>) -> Option<u64> {
    match known(process)?.asks {
        Asks::For(backlog) => Some(backlog),
        Asks::TheCap => cap,
        Asks::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Process {
        Process { program: Some(name.into()), ..Process::default() }
    }

    #[test]
    fn every_line_is_a_program_with_a_setting() {
        let lines = include_str!("../knowledge/programs.tsv").lines().count() - 1;
        assert_eq!(PROGRAMS.len(), lines);
        assert!(PROGRAMS.iter().all(|one| one.backlog.or(one.buffer).is_some()));
    }

    #[test]
    fn programs_are_known_by_name_and_by_what_runs_them() {
        let process = Process { comm: "php-fpm8.2".into(), ..Process::default() };
        assert_eq!(usual_backlog(&process, None), Some(511));
        let place = backlog_setting(&program("haproxy")).map(|(place, _)| place);
        assert_eq!(usual_backlog(&program("haproxy"), None), None);
        assert!(place.is_some_and(|place| place.contains("`backlog` of HAProxy")));
        let script = Process { runtime: Some("node".into()), ..program("app.js") };
        assert_eq!(usual_backlog(&script, None), Some(511));
        let master = Process { comm: "gunicorn: maste".into(), ..Process::default() };
        assert_eq!(usual_backlog(&master, None), Some(2048));
        assert!(buffer_setting(&program("rsyslogd")).is_some());
        assert!(backlog_setting(&program("rsyslogd")).is_none());
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_program() {
        let exporter = Process { runtime: Some("go".into()), ..program("node_exporter") };
        assert_eq!(usual_backlog(&exporter, Some(4096)), Some(4096), "Go asks for the cap");
        assert!(backlog_setting(&program("mysqld_exporter")).is_none());
    }
}
