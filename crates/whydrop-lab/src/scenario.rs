//! A scenario: one file that says what to build, what to do in it, and what a right diagnosis says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Deserialize;
use whydrop_model::{Class, Verdict};

use crate::LabError;
use crate::counters::{CounterName, Term};
use crate::part::{Accept, Play, Respond, Serve};
use crate::topology::Topology;

mod catalog;
mod check;

pub(crate) use catalog::find;
pub use catalog::{ScenarioInfo, list};

/// Sysctls by role and name.
type Sysctls = BTreeMap<String, BTreeMap<String, Setting>>;

/// What a scenario file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// One sentence: what is done and what comes of it.
    pub(crate) about: String,
    /// True if nothing is wrong and nothing may be reported.
    #[serde(default)]
    pub(crate) healthy: bool,
    pub(crate) topology: Topology,
    /// True if servers and clients speak IPv6.
    #[serde(default)]
    pub(crate) ipv6: bool,
    /// Set before the servers start.
    #[serde(default)]
    pub(crate) sysctl: Sysctls,
    /// Set once the servers listen.
    #[serde(default)]
    pub(crate) sysctl_after_listen: Sysctls,
    #[serde(default)]
    pub(crate) server: Vec<Server>,
    /// Played all at once.
    pub(crate) traffic: Vec<Traffic>,
    /// Proof that the scenario does what it says: what these counters must grow by.
    #[serde(default)]
    pub(crate) counters: BTreeMap<CounterName, Amount>,
    /// What must be found; no other fault may be.
    #[serde(default)]
    pub(crate) expect: Vec<Expectation>,
    /// Causes of other classes that must not be found either.
    #[serde(default)]
    pub(crate) quiet: Vec<String>,
    /// What makes the same traffic pass.
    pub(crate) remedy: Option<Remedy>,
}

/// A TCP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    /// Its name here and in `/proc/PID/comm`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) role: String,
    pub(crate) port: u16,
    pub(crate) backlog: u16,
    #[serde(default)]
    pub(crate) accept: Accept,
    #[serde(default)]
    pub(crate) respond: Respond,
    /// Calls `listen()` again after `sysctl-after-listen`.
    #[serde(default)]
    pub(crate) relisten: bool,
    /// Stopped with SIGSTOP once it listens.
    #[serde(default)]
    pub(crate) stopped: bool,
}

impl Server {
    /// What its actor is told.
    pub(crate) fn serve(&self) -> Serve {
        let Self { backlog, accept, respond, relisten, .. } = *self;
        Serve { backlog, accept, respond, relisten }
    }
}

/// A piece of traffic and its ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Traffic {
    /// Role it comes from.
    pub(crate) from: String,
    /// Name of the server it goes to.
    pub(crate) to: Option<String>,
    pub(crate) play: Play,
}

/// A sysctl's value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Number(i64),
    Text(String),
}

impl Setting {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A number, or the least it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Amount {
    Exactly(u64),
    AtLeast(Least),
}

/// `{ min = N }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Least {
    pub(crate) min: u64,
}

impl Amount {
    pub(crate) fn holds(self, value: u64) -> bool {
        match self {
            Self::Exactly(exactly) => value == exactly,
            Self::AtLeast(Least { min }) => value >= min,
        }
    }
}

/// A finding that must be in the report.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) cause: String,
    /// Variants of which any is right; empty if the cause has none.
    #[serde(default)]
    pub(crate) variant: Vec<String>,
    pub(crate) class: Class,
    /// Role of the namespace it must be sited in.
    pub(crate) netns: String,
    /// Server whose socket and process the site must name.
    pub(crate) server: Option<String>,
    /// Counters whose growth, summed, is the number of packets; none means zero.
    #[serde(default)]
    pub(crate) packets_from: Vec<Term>,
}

/// What makes the same traffic pass.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Remedy {
    #[serde(default)]
    pub(crate) sysctl: Sysctls,
    /// Changes by name of the server.
    #[serde(default)]
    pub(crate) server: BTreeMap<String, Change>,
    /// What these counters must then grow by.
    #[serde(default)]
    pub(crate) counters: BTreeMap<CounterName, Amount>,
}

/// A change to a server; what is absent stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) backlog: Option<u16>,
    pub(crate) accept: Option<Accept>,
    pub(crate) relisten: Option<bool>,
    pub(crate) stopped: Option<bool>,
}

impl Scenario {
    /// Reads and checks a scenario file.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, LabError> {
        let wrong = |message: String| LabError::Scenario { name: name.to_owned(), message };
        let mut scenario: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        name.clone_into(&mut scenario.name);
        scenario.check().map_err(wrong)?;
        Ok(scenario)
    }

    /// The same scenario with its remedy applied: it expects nothing but a clean verdict.
    pub(crate) fn remedied(mut self) -> Result<Self, LabError> {
        let Some(remedy) = self.remedy.take() else { return Err(LabError::NoRemedy(self.name)) };
        for (role, settings) in remedy.sysctl {
            self.sysctl.entry(role).or_default().extend(settings);
        }
        for server in &mut self.server {
            let Some(change) = remedy.server.get(&server.name) else { continue };
            server.backlog = change.backlog.unwrap_or(server.backlog);
            server.accept = change.accept.unwrap_or(server.accept);
            server.relisten = change.relisten.unwrap_or(server.relisten);
            server.stopped = change.stopped.unwrap_or(server.stopped);
        }
        // What was lost before must no longer be.
        let gone = self.expect.drain(..).flat_map(|expectation| {
            self.quiet.push(expectation.cause);
            expectation.packets_from
        });
        self.counters = gone.map(|term| (term.counter, Amount::Exactly(0))).collect();
        self.counters.extend(remedy.counters);
        self.healthy = true;
        Ok(self)
    }

    /// The server of this name.
    pub(crate) fn server(&self, name: &str) -> Option<&Server> {
        self.server.iter().find(|server| server.name == name)
    }

    /// Where a server listens.
    pub(crate) fn address(&self, server: &Server) -> Option<SocketAddr> {
        let address = self.topology.address(&server.role, self.ipv6)?;
        Some(SocketAddr::new(address, server.port))
    }

    /// The counters that the scenario makes a claim about.
    pub(crate) fn watched(&self) -> BTreeSet<CounterName> {
        let terms = self.expect.iter().flat_map(|expectation| &expectation.packets_from);
        let mut watched: BTreeSet<_> = terms.map(|term| term.counter.clone()).collect();
        watched.extend(self.counters.keys().cloned());
        watched
    }

    /// Counters that move as long as the traffic does.
    pub(crate) fn pulse(&self) -> BTreeSet<CounterName> {
        let segments =
            |role: &&str| CounterName { role: (*role).into(), name: "Tcp.InSegs".into() };
        self.topology.roles().iter().map(segments).collect()
    }

    /// The verdict that follows from the classes of what is expected.
    pub(crate) fn verdict(&self) -> Verdict {
        let lost = |class| matches!(class, Class::Fault | Class::Policy | Class::Peer);
        if self.expect.iter().any(|expectation| lost(expectation.class)) {
            Verdict::Loss
        } else {
            Verdict::Clean
        }
    }

    /// The exit status that follows from the classes of what is expected.
    pub(crate) fn exit(&self) -> i32 {
        i32::from(self.expect.iter().any(|expectation| expectation.class == Class::Fault))
    }
}
