//! Configuration files: TOML, with a table for each part of the program.
//!
//! `[thresholds]` says where the diagnosis draws its lines; a table with a command's name gives
//! defaults for its long options, which the command line overrides. What a file does not say stays as
//! it is. A name that does not exist is an error with its line: a misspelt setting would otherwise be
//! believed to hold.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgAction, Command};
use toml::{Spanned, Value};
use whydrop_diagnose::{Refused, Thresholds};

/// The settings of the whole host; each user's own come on top.
const OF_THE_HOST: &str = "/etc/whydrop/config.toml";

/// The command that runs where none is named.
const USUAL: &str = "diagnose";

/// All settings that are not defaults of the command line.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// `[thresholds]`: where the diagnosis draws its lines.
    pub(crate) thresholds: Thresholds,
}

/// One setting, with its line in the file.
struct Setting {
    line: usize,
    name: String,
    value: Value,
}

/// The tables of a file, each with the line of its name.
type Tables = Vec<(usize, String, Vec<Setting>)>;

/// The same as TOML has it.
type Parsed = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<Value>>>;

/// Reads the file asked for, or else the usual ones as far as they exist.
pub(crate) fn read(asked: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = Config::default();
    for (shown, tables) in files(asked)? {
        for (_, _, settings) in tables.iter().filter(|(_, name, _)| name == "thresholds") {
            thresholds(&mut config.thresholds, settings)
                .with_context(|| format!("configuration file {shown}"))?;
        }
    }
    Ok(config)
}

/// The command line with the defaults that the files set. `words` are looked through for `--config`
/// alone.
pub(crate) fn defaults(mut command: Command, words: &[OsString]) -> anyhow::Result<Command> {
    for (shown, tables) in files(asked(words).as_deref())? {
        for (line, name, settings) in &tables {
            if name != "thresholds" {
                command = of_command(command, *line, name, settings)
                    .with_context(|| format!("configuration file {shown}"))?;
            }
        }
    }
    Ok(command)
}

/// What a file of this text comes to.
#[cfg(any(test, fuzzing))]
pub(crate) fn of_text(text: &str, mut command: Command) -> anyhow::Result<(Config, Command)> {
    let mut config = Config::default();
    for (line, name, settings) in &parse(text)? {
        if name == "thresholds" {
            thresholds(&mut config.thresholds, settings)?;
        } else {
            command = of_command(command, *line, name, settings)?;
        }
    }
    Ok((config, command))
}

/// What `--config` says, before the command line is understood as a whole.
fn asked(words: &[OsString]) -> Option<PathBuf> {
    let at = words.iter().position(|word| {
        word.to_str().is_some_and(|word| word == "--config" || word.starts_with("--config="))
    })?;
    match words[at].to_str()?.split_once('=') {
        Some((_, path)) => Some(path.into()),
        None => words.get(at + 1).map(Into::into),
    }
}

fn files(asked: Option<&Path>) -> anyhow::Result<Vec<(String, Tables)>> {
    let paths = match asked {
        Some(path) => vec![path.to_owned()],
        None => std::iter::once(OF_THE_HOST.into()).chain(of_the_user()).collect(),
    };
    let mut files = Vec::new();
    for path in paths {
        let shown = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            // Another user's home, as after sudo -u, holds no settings of this one.
            Err(error)
                if asked.is_none()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) =>
            {
                continue;
            }
            text => text.with_context(|| format!("cannot read configuration file {shown}"))?,
        };
        let tables = parse(&text).with_context(|| format!("configuration file {shown}"))?;
        files.push((shown, tables));
    }
    Ok(files)
}

fn of_the_user() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("whydrop/config.toml"))
}

fn parse(text: &str) -> anyhow::Result<Tables> {
    let line =
        |span: Range<usize>| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1;
    let tables: Parsed = toml::from_str(text).map_err(|error| {
        anyhow!("line {}: {}", line(error.span().unwrap_or(0..0)), error.message())
    })?;
    let setting = |(name, value): (Spanned<String>, Spanned<Value>)| Setting {
        line: line(name.span()),
        name: name.into_inner(),
        value: value.into_inner(),
    };
    let table = |(name, settings): (Spanned<String>, BTreeMap<_, _>)| {
        let settings = settings.into_iter().map(setting).collect();
        (line(name.span()), name.into_inner(), settings)
    };
    Ok(tables.into_iter().map(table).collect())
}

/// Gives options of one command their defaults.
fn of_command(
    command: Command,
    line: usize,
    name: &str,
    settings: &[Setting],
) -> anyhow::Result<Command> {
    let Some(found) = command.find_subcommand(name).filter(|found| !found.is_hide_set()) else {
        let names: Vec<_> = command
            .get_subcommands()
            .filter(|it| !it.is_hide_set())
            .map(Command::get_name)
            .collect();
        bail!(
            "line {line}: no table is called [{name}]; there are [thresholds] and, for the defaults \
             of a command, [{}]",
            names.join("], [")
        )
    };
    let mut defaults = Vec::new();
    for Setting { line, name, value } in settings {
        let of_name = |arg: &&Arg| arg.get_long() == Some(name) && !arg.is_hide_set();
        let Some(arg) = found.get_arguments().find(of_name).filter(|_| name != "config") else {
            bail!("line {line}: `whydrop {}` has no option --{name}", found.get_name())
        };
        let values = values(value).ok_or_else(|| {
            anyhow!("line {line}: {name} must be a number, a text, true, false or a list of these")
        })?;
        if matches!(arg.get_action(), ArgAction::SetTrue) && !matches!(value, Value::Boolean(_)) {
            bail!("line {line}: {name} must be true or false")
        }
        defaults.push((arg.get_id().to_string(), values));
    }
    // `whydrop --duration 5` is a diagnosis too.
    let at_top = name == USUAL;
    let give = move |mut command: Command, strict: bool| {
        for (id, values) in &defaults {
            if strict || command.get_arguments().any(|arg| arg.get_id() == id.as_str()) {
                command = command.mut_arg(id, |arg| arg.default_values(values.clone()));
            }
        }
        command
    };
    let command = if at_top { give(command, false) } else { command };
    Ok(command.mut_subcommand(name, |found| give(found, true)))
}

/// A value as the command line would have it.
fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(word) => Some(vec![word.to_string()]),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(values).collect();
            items.map(|items| items.concat())
        }
        _ => None,
    }
}

fn thresholds(thresholds: &mut Thresholds, settings: &[Setting]) -> anyhow::Result<()> {
    for Setting { line, name, value } in settings {
        let number = match value {
            Value::Float(number) => *number,
            Value::Integer(number) => *number as f64,
            _ => bail!("line {line}: {name} must be a number"),
        };
        match thresholds.set(name, number) {
            Ok(()) => {}
            Err(Refused::Unknown(Some(near))) => {
                bail!("line {line}: no threshold is called {name}; did you mean {near}?")
            }
            Err(Refused::Unknown(None)) => {
                let names: Vec<_> = Thresholds::list().iter().map(|one| one.name).collect();
                bail!("line {line}: no threshold is called {name}; there are {}", names.join(", "))
            }
            Err(Refused::Range(least, most)) => {
                bail!("line {line}: {name} must be between {least} and {most}, not {number}")
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    /// What a file of this text comes to.
    fn read_text(text: &str) -> anyhow::Result<(Config, Command)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        fs::write(&path, text)?;
        let words = ["whydrop".into(), "--config".into(), path.clone().into()];
        Ok((read(Some(&path))?, defaults(Arguments::command(), &words)?))
    }

    fn default_of(command: &Command, name: &str, option: &str) -> Vec<String> {
        let found = command.find_subcommand(name).unwrap_or(command);
        let arg = found.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
        arg.get_default_values().iter().map(|it| it.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_is_said_holds_and_the_rest_stays() {
        assert_eq!(read_text("").unwrap().0, Config::default());
        let text = "# ours\n[thresholds]\nsteal = 0.2\npinned_seconds = 3\n";
        let expected = Thresholds { steal: 0.2, pinned_seconds: 3.0, ..Thresholds::default() };
        assert_eq!(read_text(text).unwrap().0.thresholds, expected);
    }

    #[test]
    fn commands_take_their_defaults() {
        let text = "[diagnose]\nduration = 3.5\nnetns = ['a', 'b']\n[watch]\ncount = true\n";
        let (_, command) = read_text(text).unwrap();
        assert_eq!(default_of(&command, "diagnose", "duration"), ["3.5"]);
        assert_eq!(default_of(&command, "diagnose", "netns"), ["a", "b"]);
        assert_eq!(default_of(&command, "none", "duration"), ["3.5"], "without a command");
        assert_eq!(default_of(&command, "watch", "count"), ["true"]);
        assert_eq!(default_of(&command, "record", "duration"), ["10"]);
        let matches = command.try_get_matches_from(["whydrop", "watch"]).unwrap();
        assert!(matches.subcommand().unwrap().1.get_flag("count"));
    }

    #[test]
    fn each_mistake_is_told_with_its_line() {
        for (text, told) in [
            (
                "[thresholds]\nsteel = 0.2",
                "line 2: no threshold is called steel; did you mean steal?",
            ),
            ("[thresholds]\n\ncolour = 1", "line 3: no threshold is called colour; there are "),
            ("[thresholds]\nsteal = 2", "line 2: steal must be between 0.001 and 1, not 2"),
            ("[thresholds]\nsteal = 'a lot'", "line 2: steal must be a number"),
            ("\n[treshold]\nsteal = 0.2", "line 2: no table is called [treshold]; there are"),
            ("[lab-actor]\n", "line 1: no table is called [lab-actor]; "),
            ("[watch]\ncolour = 1", "line 2: `whydrop watch` has no option --colour"),
            ("[watch]\nready-file = 'x'", "line 2: `whydrop watch` has no option --ready-file"),
            ("[watch]\ncount = 1", "line 2: count must be true or false"),
            ("[watch]\nrate = { a = 1 }", "line 2: rate must be a number, a text, "),
            ("steal = 0.2", "line 1: invalid type"),
            ("[thresholds]\nsteal = ", "line 2: "),
            ("[thresholds]\nsteal = 0.2\nsteal = 0.3", "line 3: duplicate key"),
        ] {
            let error = format!("{:#}", read_text(text).unwrap_err());
            let (_, error) = error.split_once("config.toml: ").unwrap_or(("", &error));
            assert!(error.starts_with(told), "{text:?}: {error}");
        }
    }
}
