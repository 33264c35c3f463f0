//! The scenarios that are built in.

use serde::Serialize;

use super::Scenario;
use crate::LabError;

/// Name and text of every file in `scenarios/`, found when the crate is built.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

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
}

/// Every scenario, by name.
///
/// Fails if a scenario file is wrong, which a test of this crate rules out.
pub fn list() -> Result<Vec<ScenarioInfo>, LabError> {
    FILES
        .iter()
        .map(|(name, text)| {
            let Scenario { name, about, expect, healthy, .. } = Scenario::parse(name, text)?;
            let cause = expect.into_iter().next().map(|expectation| expectation.cause);
            Ok(ScenarioInfo { name, about, cause, healthy })
        })
        .collect()
}

/// The scenario of this name.
pub(crate) fn find(name: &str) -> Result<Scenario, LabError> {
    let file = FILES.iter().find(|(known, _)| *known == name);
    let (name, text) = file.ok_or_else(|| LabError::UnknownScenario(name.to_owned()))?;
    Scenario::parse(name, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_and_right() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|file| file.strip_suffix(".toml").unwrap().to_owned())
            .collect();
        files.sort();
        let listed: Vec<_> = list().unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(listed, files);
        assert!(!listed.is_empty());
    }

    #[test]
    fn every_remedy_applies() {
        for info in list().unwrap().into_iter().filter(|info| !info.healthy) {
            let remedied = find(&info.name).unwrap().remedied().unwrap();
            assert!(remedied.expect.is_empty() && remedied.healthy, "{}", info.name);
            remedied.check().unwrap();
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(matches!(find("no-such-thing"), Err(LabError::UnknownScenario(_))));
    }
}
