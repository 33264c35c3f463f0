//! What to play while one diagnosis watches.

use whydrop_model::Class;

use crate::LabError;
use crate::outcome::Kind;
use crate::scenario::{Scenario, find};

/// One scenario, or several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    names: Vec<String>,
    remedy: bool,
}

impl Job {
    /// A scenario as it is.
    pub fn one(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], remedy: false }
    }

    /// A scenario with its remedy applied.
    pub fn remedied(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], remedy: true }
    }

    /// Several scenarios at once, each in namespaces of its own.
    pub fn together(names: Vec<String>) -> Self {
        Self { names, remedy: false }
    }

    /// What it is called: the names, and whether there is a remedy.
    pub fn title(&self) -> String {
        let names = self.name();
        if self.remedy { format!("{names} + remedy") } else { names }
    }

    /// The scenario's name, or all of them.
    pub(crate) fn name(&self) -> String {
        self.names.join(" & ")
    }

    pub(crate) fn is_remedied(&self) -> bool {
        self.remedy
    }

    /// What is to be played.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>, LabError> {
        let scenario = |name: &String| {
            let scenario = find(name)?;
            if self.remedy { scenario.remedied() } else { Ok(scenario) }
        };
        self.names.iter().map(scenario).collect()
    }

    /// True if nothing else may be played meanwhile.
    pub(crate) fn is_alone(&self) -> Result<bool, LabError> {
        Ok(self.scenarios()?.iter().any(|scenario| scenario.alone.is_some()))
    }

    /// What it proves.
    pub(crate) fn kind(&self) -> Kind {
        let [name] = self.names.as_slice() else { return Kind::Together };
        // A name that is none is an error before it comes to this.
        let scenario = find(name).ok();
        let class = scenario.and_then(|it| it.expect.first().map(|expectation| expectation.class));
        match class {
            None => Kind::Healthy,
            Some(_) if self.remedy => Kind::Remedied,
            Some(Class::Fault) => Kind::Fault,
            Some(Class::Policy) => Kind::Policy,
            Some(Class::Peer) => Kind::Peer,
            Some(Class::Benign) => Kind::Benign,
            Some(Class::Info) => Kind::Info,
        }
    }
}
