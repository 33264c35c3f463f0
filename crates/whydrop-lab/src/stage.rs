//! A scenario on its feet: namespaces, servers, traffic, and the counters that tell what happened.
//! Knows nothing of the program under test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use whydrop_model::{NetnsRef, ProcessRef};

use crate::LabError;
use crate::cast::Actor;
use crate::counters::{self, CounterName, Values};
use crate::netns::Tag;
use crate::part::{ActorSpec, Message, Part, Tally};
use crate::scenario::{Scenario, Server, Traffic};
use crate::topology::Lan;
use crate::wait::Stop;

/// Longest that traffic may take.
const TRAFFIC_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the counters to stand still.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long they must have stood still.
const STILL: Duration = Duration::from_millis(250);

/// A scenario that is ready to be played. Dropping it ends clients and servers, then removes the
/// namespaces.
pub(crate) struct Stage<'a> {
    clients: Vec<Actor>,
    servers: Vec<Actor>,
    lan: Lan,
    scenario: &'a Scenario,
    watched: BTreeSet<CounterName>,
    program: &'a Path,
    stop: &'a Stop,
}

impl<'a> Stage<'a> {
    /// Builds the namespaces and starts the servers.
    pub(crate) fn set(
        scenario: &'a Scenario,
        tag: &Tag,
        program: &'a Path,
        stop: &'a Stop,
    ) -> Result<Self, LabError> {
        let lan = scenario.topology.build(tag, scenario.ipv6, stop)?;
        for (role, settings) in &scenario.sysctl {
            for (name, value) in settings {
                lan.get(role)?.set_sysctl(name, &value.text())?;
            }
        }
        let watched = scenario.watched();
        let (clients, servers) = (Vec::new(), Vec::new());
        let mut stage = Self { clients, servers, lan, scenario, watched, program, stop };
        for server in &scenario.server {
            let actor = stage.serve(server)?;
            stage.servers.push(actor);
        }
        for (role, settings) in &scenario.sysctl_after_listen {
            for (name, value) in settings {
                stage.lan.get(role)?.set_sysctl(name, &value.text())?;
            }
        }
        for (server, actor) in scenario.server.iter().zip(&mut stage.servers) {
            if server.relisten {
                actor.relisten(stop)?;
            }
            if server.stopped {
                actor.suspend(stop)?;
            }
        }
        Ok(stage)
    }

    fn serve(&self, server: &Server) -> Result<Actor, LabError> {
        let address = self.scenario.address(server).ok_or_else(|| LabError::Scenario {
            name: self.scenario.name.clone(),
            message: format!("role `{}` has no address", server.role),
        })?;
        let part = Part::Serve { address, serve: server.serve() };
        let actor = self.start(&server.role, &server.name, part)?;
        actor.wait_ready(self.stop)?;
        Ok(actor)
    }

    fn start(&self, role: &str, name: &str, part: Part) -> Result<Actor, LabError> {
        let netns = Some(self.lan.get(role)?.path());
        let spec = ActorSpec { runner: process::id(), netns, comm: name.to_owned(), part };
        Actor::start(self.program, &spec)
    }

    /// Plays all traffic, and says how each piece went, in the order of the scenario.
    pub(crate) fn play(&mut self) -> Result<Vec<Tally>, LabError> {
        let actor = |Traffic { from, to, play }: &Traffic| {
            let to = to.as_ref().and_then(|server| self.scenario.server(server));
            let to = to.and_then(|server| self.scenario.address(server));
            self.start(from, "lab-traffic", Part::Play { to, play: play.clone() })
        };
        let clients = self.scenario.traffic.iter().map(actor).collect::<Result<_, _>>()?;
        self.clients = clients;
        let tally = |message: &Message| match message {
            Message::Done(tally) => Some(*tally),
            _ => None,
        };
        self.clients.iter().map(|actor| actor.hear(self.stop, TRAFFIC_LIMIT, tally)).collect()
    }

    /// The counters that the scenario makes a claim about, now.
    pub(crate) fn read(&self) -> Result<Values, LabError> {
        counters::read(&self.lan, &self.watched)
    }

    /// The counters once they, and the traffic, stand still.
    pub(crate) fn settle(&self) -> Result<Values, LabError> {
        let all = &self.watched | &self.scenario.pulse();
        let mut last = counters::read(&self.lan, &all)?;
        let mut since = Instant::now();
        self.stop.until(SETTLE_LIMIT, "the counters to stand still", || {
            let now = counters::read(&self.lan, &all)?;
            if now != last {
                last = now;
                since = Instant::now();
            }
            Ok((since.elapsed() >= STILL).then_some(()))
        })?;
        last.retain(|counter, _| self.watched.contains(counter));
        Ok(last)
    }

    /// What reports call the namespace of each role.
    pub(crate) fn namespaces(&self) -> Result<BTreeMap<&'static str, NetnsRef>, LabError> {
        let named = |(role, netns): (&'static str, &crate::netns::Netns)| {
            let name = Some(netns.name().to_owned());
            Ok((role, NetnsRef { inode: Some(netns.inode()?), name }))
        };
        self.lan.iter().map(named).collect()
    }

    /// The process behind each server.
    pub(crate) fn processes(&self) -> BTreeMap<&'a str, ProcessRef> {
        let servers = self.scenario.server.iter().zip(&self.servers);
        servers
            .map(|(server, actor)| {
                let process = ProcessRef { pid: actor.pid(), comm: server.name.clone() };
                (server.name.as_str(), process)
            })
            .collect()
    }
}
