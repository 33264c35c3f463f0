//! What to play while one diagnosis watches.

use whydrop_model::Class;

use crate::LabError;
use crate::outcome::Kind;
use crate::scenario::{Scenario, find};

/// One scenario, or several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    names: Vec<String>,
    how: How,
}

/// What is done about what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Nothing.
    Bare,
    /// The scenario's remedy is applied first.
    Remedied,
    /// The program cures it.
    Fixed,
}

impl Job {
    /// A scenario as it is.
    pub fn one(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], how: How::Bare }
    }

    /// A scenario with its remedy applied.
    pub fn remedied(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], how: How::Remedied }
    }

    /// A scenario that the program is to cure by itself.
    pub fn fixed(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], how: How::Fixed }
    }

    /// Several scenarios at once, each in namespaces of its own.
    pub fn together(names: Vec<String>) -> Self {
        Self { names, how: How::Bare }
    }

    /// What it is called: the names, and what is done about it.
    pub fn title(&self) -> String {
        let names = self.name();
        match self.how {
            How::Bare => names,
            How::Remedied => format!("{names} + remedy"),
            How::Fixed => format!("{names} + fix"),
        }
    }

    /// The scenario's name, or all of them.
    pub(crate) fn name(&self) -> String {
        self.names.join(" & ")
    }

    pub(crate) fn is_remedied(&self) -> bool {
        self.how == How::Remedied
    }

    pub(crate) fn is_fixed(&self) -> bool {
        self.how == How::Fixed
    }

    /// What is to be played.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>, LabError> {
        let scenario = |name: &String| {
            let scenario = find(name)?;
            if self.is_remedied() { scenario.remedied() } else { Ok(scenario) }
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
            Some(_) if self.is_remedied() => Kind::Remedied,
            Some(_) if self.is_fixed() => Kind::Fixed,
            Some(Class::Fault) => Kind::Fault,
            Some(Class::Policy) => Kind::Policy,
            Some(Class::Peer) => Kind::Peer,
            Some(Class::Benign) => Kind::Benign,
            Some(Class::Info) => Kind::Info,
        }
    }
}
