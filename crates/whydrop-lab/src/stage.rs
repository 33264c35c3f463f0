//! A scenario on its feet: namespaces, servers, traffic, and the counters that tell what happened.
//! Knows nothing of the program under test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use whydrop_model::{NetnsRef, ProcessRef};

use crate::LabError;
use crate::cast::Actor;
use crate::cgroup_program::CgroupProgram;
use crate::counters::{self, CounterName, Values};
use crate::netns::{Netns, Tag};
use crate::part::{ActorSpec, Message, Part, Tally};
use crate::quota::Quota;
use crate::scenario::{Amount, Lines, Listener, Need, Scenario, Traffic, Until};
use crate::socket_memory::SocketMemory;
use crate::topology::Lan;
use crate::wait::Stop;

/// Longest that traffic may take.
const TRAFFIC_LIMIT: Duration = Duration::from_secs(90);
/// Longest wait for the counters to stand still.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for what command lines bring about: linkwatch may take a second.
const LINES_LIMIT: Duration = Duration::from_secs(15);
/// Longest wait for what the scenario claims to come true: the slowest is a neighbour that does not
/// answer, given up after three seconds.
const CLAIM_LIMIT: Duration = Duration::from_secs(15);
/// How long they must have stood still.
const STILL: Duration = Duration::from_millis(250);

/// What counters must grow by.
pub(crate) type Claims = BTreeMap<CounterName, Amount>;

/// A scenario that is ready to be played. Dropping it ends clients and servers, then removes the
/// namespaces.
pub(crate) struct Stage<'a> {
    clients: Vec<Actor>,
    /// Those of the act that is on, with the number of their traffic.
    playing: Vec<(usize, Actor)>,
    tallies: Vec<Tally>,
    servers: Vec<Actor>,
    /// Of the servers, so after them.
    quotas: Vec<Quota>,
    memories: Vec<SocketMemory>,
    programs: Vec<CgroupProgram>,
    lan: Lan,
    scenario: &'a Scenario,
    watched: BTreeSet<CounterName>,
    program: &'a Path,
    stop: &'a Stop,
}

impl<'a> Stage<'a> {
    /// True if what it plays is felt outside its namespaces, and after it.
    pub(crate) fn disturbs(&self) -> bool {
        self.scenario.alone.is_some()
    }

    /// Builds the namespaces and starts the servers.
    pub(crate) fn set(
        scenario: &'a Scenario,
        tag: &Tag,
        program: &'a Path,
        stop: &'a Stop,
    ) -> Result<Self, LabError> {
        check_needs(&scenario.all_needs()?, tag)?;
        let lan = scenario.topology.build(tag, scenario.ipv6, stop)?;
        for (role, settings) in &scenario.sysctl {
            for (name, value) in settings {
                lan.get(role)?.set_sysctl(name, &value.text())?;
            }
        }
        for lines in &scenario.setup {
            run(&lan, lines, stop)?;
        }
        let watched = scenario.watched();
        let mut stage = Self {
            clients: Vec::new(),
            playing: Vec::new(),
            tallies: vec![Tally::default(); scenario.traffic.len()],
            servers: Vec::new(),
            quotas: Vec::new(),
            memories: Vec::new(),
            programs: Vec::new(),
            lan,
            scenario,
            watched,
            program,
            stop,
        };
        for listener in scenario.listeners() {
            let group = tag.group(listener.name);
            let program = listener.cgroup_program.map(|hook| CgroupProgram::create(&group, hook));
            let program = program.transpose()?;
            let actor = stage.serve(&listener, program.as_ref())?;
            stage.servers.push(actor);
            stage.programs.extend(program);
        }
        for program in &scenario.tun_program {
            let actor = stage.start(&program.role, &program.name, None, program.part())?;
            actor.wait_ready(stage.stop)?;
            stage.clients.push(actor);
        }
        for (role, settings) in &scenario.sysctl_after_listen {
            for (name, value) in settings {
                stage.lan.get(role)?.set_sysctl(name, &value.text())?;
            }
        }
        for (listener, actor) in scenario.listeners().zip(&mut stage.servers) {
            if listener.relisten {
                actor.relisten(stop)?;
            }
            if let Some(percent) = listener.cpu_quota {
                let quota = Quota::create(&tag.group(listener.name), percent)?;
                quota.hold(actor.pid())?;
                stage.quotas.push(quota);
            }
            if let Some(bytes) = listener.socket_memory {
                let limit = SocketMemory::create(&tag.group(listener.name), bytes)?;
                limit.hold(actor.pid())?;
                stage.memories.push(limit);
            }
            if listener.stopped {
                actor.suspend(stop)?;
            }
        }
        Ok(stage)
    }

    fn serve(
        &self,
        listener: &Listener<'_>,
        program: Option<&CgroupProgram>,
    ) -> Result<Actor, LabError> {
        let part = self.scenario.part(listener).ok_or_else(|| LabError::Scenario {
            name: self.scenario.name.clone(),
            message: format!("role `{}` has no address", listener.role),
        })?;
        let group = program.map(CgroupProgram::folder);
        let actor = self.start(listener.role, listener.name, group, part)?;
        actor.wait_ready(self.stop)?;
        Ok(actor)
    }

    fn start(
        &self,
        role: &str,
        name: &str,
        group: Option<&Path>,
        part: Part,
    ) -> Result<Actor, LabError> {
        let netns = Some(self.lan.get(role)?.path());
        let (comm, cgroup) = (name.to_owned(), group.map(Path::to_owned));
        let spec = ActorSpec { runner: process::id(), netns, comm, cgroup, part };
        Actor::start(self.program, &spec)
    }

    /// What is played.
    pub(crate) fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// The acts of the play, in order.
    pub(crate) fn acts(&self) -> BTreeSet<u8> {
        self.scenario.acts()
    }

    /// Begins an act: its command lines, then all its traffic at once.
    pub(crate) fn begin(&mut self, act: u8) -> Result<(), LabError> {
        let scenario = self.scenario;
        for lines in scenario.during.iter().filter(|lines| lines.act == act) {
            run(&self.lan, lines, self.stop)?;
        }
        for (number, traffic) in scenario.traffic.iter().enumerate() {
            if traffic.act == act {
                self.playing.push((number, self.client(traffic)?));
            }
        }
        Ok(())
    }

    /// Waits until the traffic of the act is over.
    pub(crate) fn end_act(&mut self) -> Result<(), LabError> {
        for (number, actor) in self.playing.drain(..) {
            self.tallies[number] = actor.hear(self.stop, TRAFFIC_LIMIT, tally)?;
            self.clients.push(actor);
        }
        Ok(())
    }

    /// Ends the clients of what was played, which may have kept connections open.
    pub(crate) fn dismiss(&mut self) {
        self.clients.truncate(self.scenario.tun_program.len());
    }

    /// How each piece of traffic went, in the order of the scenario.
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        self.tallies.clone()
    }

    fn client(&self, traffic: &Traffic) -> Result<Actor, LabError> {
        let Traffic { from, play, .. } = traffic;
        let part = Part::Play { to: self.scenario.target(traffic), play: play.clone() };
        self.start(from, "lab-traffic", None, part)
    }

    /// The counters that the scenario makes a claim about, now.
    pub(crate) fn read(&self) -> Result<Values, LabError> {
        counters::read(&self.lan, &self.watched)
    }

    /// The counters once they have grown `from` by what the scenario claims, and they and the traffic
    /// stand still. What has not come true by then never will; that is for others to judge.
    pub(crate) fn settle(&self, from: &Values) -> Result<Values, LabError> {
        self.settle_by(&self.scenario.counters, from)
    }

    /// As [`Stage::settle`], by other claims.
    pub(crate) fn settle_by(&self, claims: &Claims, from: &Values) -> Result<Values, LabError> {
        let watched = from.keys().cloned().collect();
        let come_true = || {
            let grew = counters::growth(from, &counters::read(&self.lan, &watched)?);
            let holds = |(counter, amount): (&CounterName, &Amount)| {
                amount.holds(grew.get(counter).copied().unwrap_or(0))
            };
            Ok(claims.iter().all(holds).then_some(()))
        };
        match self.stop.until(CLAIM_LIMIT, "the claims to come true", come_true) {
            Err(LabError::TimedOut { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let all = &watched | &self.scenario.pulse();
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
        last.retain(|counter, _| watched.contains(counter));
        Ok(last)
    }

    /// The counters that these claims are about, now.
    pub(crate) fn read_for(&self, claims: &Claims) -> Result<Values, LabError> {
        counters::read(&self.lan, &claims.keys().cloned().collect())
    }

    /// Carries out command lines.
    pub(crate) fn carry_out(&self, lines: &[Lines]) -> Result<(), LabError> {
        lines.iter().try_for_each(|lines| run(&self.lan, lines, self.stop))
    }

    /// Every namespace with its role.
    pub(crate) fn lan(&self) -> &Lan {
        &self.lan
    }

    /// Names of the namespaces that the diagnosis is told to look at.
    pub(crate) fn observed(&self) -> impl Iterator<Item = &str> {
        let apart = |role: &str| self.scenario.unobserved.iter().any(|it| it == role);
        self.lan.iter().filter(move |(role, _)| !apart(role)).map(|(_, netns)| netns.name())
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
        let servers = self.scenario.listeners().zip(&self.servers);
        servers
            .map(|(listener, actor)| {
                let process = ProcessRef { pid: actor.pid(), comm: listener.name.to_owned() };
                (listener.name, process)
            })
            .collect()
    }
}

fn tally(message: &Message) -> Option<Tally> {
    match message {
        Message::Done(tally) => Some(*tally),
        _ => None,
    }
}

fn run(lan: &Lan, lines: &Lines, stop: &Stop) -> Result<(), LabError> {
    let netns = lan.get(&lines.role)?;
    lines.run.iter().try_for_each(|line| line.run(netns).map(|_| ()))?;
    let Some(Until { line, says }) = &lines.until else { return Ok(()) };
    let what = format!("`{says}` in {}", lines.role);
    stop.until(LINES_LIMIT, &what, || Ok(line.run(netns)?.contains(says).then_some(())))
}

/// An error that says what this machine lacks, found out in a namespace of its own.
fn check_needs(needs: &[Need], tag: &Tag) -> Result<(), LabError> {
    if needs.is_empty() {
        return Ok(());
    }
    let netns = Netns::create(tag.netns("needs"))?;
    netns.ip("link set lo up")?;
    for Need { what, attempt } in needs {
        match attempt.run(&netns) {
            Ok(_) => {}
            Err(LabError::Command { message, .. }) => {
                return Err(LabError::Lacking { what: what.clone(), why: message });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
