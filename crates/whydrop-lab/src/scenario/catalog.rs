//! The scenarios that are built in.

use serde::Serialize;

use super::Scenario;
use crate::LabError;

/// Name and text of every file in a folder.
type Files = &'static [(&'static str, &'static str)];

/// Every file in `scenarios/`, found when the crate is built.
const FILES: Files = &include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
/// Every file in `scenarios/planned/`: what no rule explains yet.
const PLANNED: Files = &include!(concat!(env!("OUT_DIR"), "/planned.rs"));

/// What a list of scenarios says about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScenarioInfo {
    /// Its name.
    pub name: String,
    /// What is done and what comes of it, in one sentence.
    pub about: String,
    /// Id of the cause it reproduces; `None` if it is healthy.
    pub cause: Option<String>,
    /// True if nothing may be reported.
    pub healthy: bool,
    /// True if what it does has a remedy to try.
    pub remedy: bool,
    /// True if it says how the program cures it by itself, or why it does not.
    pub fix: bool,
}

/// Every scenario, by name.
///
/// Fails if a scenario file is wrong, which a test of this crate rules out.
pub fn list() -> Result<Vec<ScenarioInfo>, LabError> {
    infos(FILES)
}

/// Scenarios for which there is no rule yet, by name: they can be provoked, and a diagnosis of them
/// is not expected to be right.
pub fn planned() -> Result<Vec<ScenarioInfo>, LabError> {
    infos(PLANNED)
}

fn infos(files: Files) -> Result<Vec<ScenarioInfo>, LabError> {
    let info = |(name, text): &(&str, &str)| {
        let Scenario { name, about, expect, healthy, remedy, fix, no_fix, .. } =
            Scenario::parse(name, text)?;
        let cause = expect.into_iter().next().map(|expectation| expectation.cause);
        Ok(ScenarioInfo {
            name,
            about,
            cause,
            healthy,
            remedy: remedy.is_some(),
            fix: fix.is_some() || no_fix.is_some(),
        })
    };
    files.iter().map(info).collect()
}

/// The scenario of this name, planned or not.
pub(crate) fn find(name: &str) -> Result<Scenario, LabError> {
    let text = text(name).ok_or_else(|| LabError::UnknownScenario(name.to_owned()))?;
    Scenario::parse(name, text)
}

fn text(name: &str) -> Option<&'static str> {
    let mut files = FILES.iter().chain(PLANNED);
    files.find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// What a file says, with what it leaves to the one it is `like`: its keys take the place of those
/// of the other, whole. `None` if it is like no other.
pub(super) fn resolved(text: &str) -> Result<Option<toml::Table>, String> {
    let mut own: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let Some(like) = own.remove("like") else { return Ok(None) };
    let like = like.as_str().unwrap_or_default();
    let other =
        self::text(like).ok_or_else(|| format!("is like `{like}`, which is no scenario"))?;
    let mut table: toml::Table = toml::from_str(other).map_err(|error| error.to_string())?;
    if table.contains_key("like") {
        return Err(format!("is like `{like}`, which itself is like another"));
    }
    table.extend(own);
    Ok(Some(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_in(folder: &str) -> Vec<String> {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        // There is no folder for planned ones once none is planned.
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let entries = entries.map(|entry| entry.unwrap().file_name());
        let names = entries.map(|file| file.into_string().unwrap());
        let mut names: Vec<_> =
            names.filter_map(|file| file.strip_suffix(".toml").map(str::to_owned)).collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_is_listed_and_right() {
        let names = |infos: Vec<ScenarioInfo>| infos.into_iter().map(|info| info.name);
        let listed: Vec<_> = names(list().unwrap()).collect();
        assert_eq!(listed, files_in("scenarios"));
        assert!(!listed.is_empty());
        let planned: Vec<_> = names(planned().unwrap()).collect();
        assert_eq!(planned, files_in("scenarios/planned"));
        assert!(planned.iter().all(|name| !listed.contains(name)));
    }

    #[test]
    fn every_remedy_applies() {
        let all = [list().unwrap(), planned().unwrap()].concat();
        for info in all.into_iter().filter(|info| info.remedy) {
            let remedied = find(&info.name).unwrap().remedied().unwrap();
            assert!(remedied.expect.is_empty() && remedied.healthy, "{}", info.name);
            remedied.check().unwrap();
            assert!(!remedied.counters.is_empty(), "{}: nothing proves the remedy", info.name);
        }
    }

    #[test]
    fn what_is_like_another_says_what_differs() {
        let table = resolved("like = 'healthy-idle'\nabout = 'other'").unwrap().unwrap();
        assert_eq!(table["about"].as_str(), Some("other"));
        assert_eq!(table["topology"].as_str(), Some("pair"));
        assert!(resolved("like = 'no-such-thing'").unwrap_err().contains("no scenario"));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(matches!(find("no-such-thing"), Err(LabError::UnknownScenario(_))));
    }
}
