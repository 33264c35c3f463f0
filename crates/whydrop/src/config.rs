//! The configuration file: TOML, with a table for each part of the program.
//!
//! What it does not say stays at its default. A name that does not exist is an error with its line:
//! a misspelt setting would otherwise be believed to hold.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use toml::{Spanned, Value};
use whydrop_diagnose::{Refused, Thresholds};

/// All settings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// `[thresholds]`: where the diagnosis draws its lines.
    pub(crate) thresholds: Thresholds,
}

/// Settings of one table, with their places in the file.
type Settings = BTreeMap<Spanned<String>, Spanned<Value>>;

/// Reads a configuration file; without one, all is at its default.
pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<Config> {
    let Some(path) = path else { return Ok(Config::default()) };
    let shown = path.display();
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read configuration file {shown}"))?;
    parse(&text).with_context(|| format!("configuration file {shown}"))
}

fn parse(text: &str) -> anyhow::Result<Config> {
    let line =
        |span: Range<usize>| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1;
    let tables: BTreeMap<Spanned<String>, Settings> = toml::from_str(text).map_err(|error| {
        anyhow!("line {}: {}", line(error.span().unwrap_or(0..0)), error.message())
    })?;
    let mut config = Config::default();
    for (name, settings) in &tables {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (line(name.span()), name.get_ref().as_str(), value.get_ref()))
            .collect();
        match name.get_ref().as_str() {
            "thresholds" => thresholds(&mut config.thresholds, &settings)?,
            other => bail!(
                "line {}: no table is called [{other}]; there is [thresholds]",
                line(name.span())
            ),
        }
    }
    Ok(config)
}

fn thresholds(
    thresholds: &mut Thresholds,
    settings: &[(usize, &str, &Value)],
) -> anyhow::Result<()> {
    for (line, name, value) in settings {
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
    use super::*;

    #[test]
    fn what_is_said_holds_and_the_rest_stays() {
        assert_eq!(parse("").unwrap(), Config::default());
        let config = parse("# ours\n[thresholds]\nsteal = 0.2\npinned_seconds = 3\n").unwrap();
        let expected = Thresholds { steal: 0.2, pinned_seconds: 3.0, ..Thresholds::default() };
        assert_eq!(config.thresholds, expected);
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
            ("\n[treshold]\nsteal = 0.2", "line 2: no table is called [treshold]; there is"),
            ("steal = 0.2", "line 1: invalid type"),
            ("[thresholds]\nsteal = ", "line 2: "),
            ("[thresholds]\nsteal = 0.2\nsteal = 0.3", "line 3: duplicate key"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(told), "{text:?}: {error}");
        }
    }
}
