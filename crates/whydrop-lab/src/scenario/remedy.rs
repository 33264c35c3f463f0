//! What makes the traffic of a scenario pass.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Amount, Lines, Scenario, Server, Sysctls, UdpServer};
use crate::LabError;
use crate::counters::{CounterName, Term};
use crate::part::{Accept, Play, Read, Respond};

/// What makes the same traffic pass, or, where the peer is to blame, what a healthy peer sends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Remedy {
    /// Set after the scenario's own, which they replace.
    #[serde(default)]
    pub(crate) sysctl: Sysctls,
    /// Carried out after the scenario's own.
    #[serde(default)]
    pub(crate) setup: Vec<Lines>,
    /// Carried out after the scenario's own of the same act.
    #[serde(default)]
    pub(crate) during: Vec<Lines>,
    /// Changes by name of the server.
    #[serde(default)]
    pub(crate) server: BTreeMap<String, Change>,
    /// Servers that were missing.
    #[serde(default)]
    pub(crate) start: Vec<Server>,
    /// UDP servers that were missing.
    #[serde(default)]
    pub(crate) start_udp: Vec<UdpServer>,
    /// What traffic does instead, by its name.
    #[serde(default)]
    pub(crate) traffic: BTreeMap<String, Play>,
    /// What these counters must then grow by. Those that told the loss must stand still unless
    /// something else is said here.
    #[serde(default)]
    pub(crate) counters: BTreeMap<CounterName, Amount>,
}

/// A change to a server; what is absent stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each takes a setting of its own away")]
pub(crate) struct Change {
    /// As in a server.
    pub(crate) backlog: Option<u16>,
    /// As in a server.
    pub(crate) accept: Option<Accept>,
    /// As in a server.
    pub(crate) respond: Option<Respond>,
    /// As in a server.
    pub(crate) relisten: Option<bool>,
    /// As in a server.
    pub(crate) stopped: Option<bool>,
    /// As in a server.
    pub(crate) bind: Option<IpAddr>,
    /// As in a server.
    pub(crate) rcvbuf: Option<u32>,
    /// False if it drops its filter.
    pub(crate) refuse: Option<bool>,
    /// True if no program is attached to its control group any more.
    #[serde(default)]
    pub(crate) detached: bool,
    /// As in a UDP server.
    pub(crate) read: Option<Read>,
    /// As in a tun program.
    pub(crate) room: Option<u32>,
    /// True if it may use all the CPU time there is.
    #[serde(default)]
    pub(crate) unlimited: bool,
    /// True if it is no longer connected.
    #[serde(default)]
    pub(crate) unconnected: bool,
    /// True if it no longer sets `SO_RCVBUF`.
    #[serde(default)]
    pub(crate) default_rcvbuf: bool,
    /// True if peers need no longer sign.
    #[serde(default)]
    pub(crate) unsigned: bool,
    /// As in a server.
    pub(crate) min_ttl: Option<u8>,
    /// As in a server.
    pub(crate) socket_memory: Option<u64>,
}

impl Scenario {
    /// The same scenario with its remedy applied: it expects nothing but a clean verdict.
    pub(crate) fn remedied(mut self) -> Result<Self, LabError> {
        (self.fix, self.no_fix) = (None, None);
        let Some(remedy) = self.remedy.take() else { return Err(LabError::NoRemedy(self.name)) };
        for (role, settings) in remedy.sysctl {
            self.sysctl.entry(role).or_default().extend(settings);
        }
        self.setup.extend(remedy.setup);
        self.during.extend(remedy.during);
        for server in &mut self.server {
            let Some(change) = remedy.server.get(&server.name) else { continue };
            server.backlog = change.backlog.unwrap_or(server.backlog);
            server.accept = change.accept.unwrap_or(server.accept);
            server.md5_key = server.md5_key.take().filter(|_| !change.unsigned);
            server.min_ttl = change.min_ttl.or(server.min_ttl);
            server.socket_memory = change.socket_memory.or(server.socket_memory);
            server.respond = change.respond.unwrap_or(server.respond);
            server.rcvbuf = change.rcvbuf.or(server.rcvbuf).filter(|_| !change.default_rcvbuf);
            server.relisten = change.relisten.unwrap_or(server.relisten);
            server.cpu_quota = server.cpu_quota.filter(|_| !change.unlimited);
            server.stopped = change.stopped.unwrap_or(server.stopped);
            server.bind = change.bind.or(server.bind);
        }
        for server in &mut self.idle_socket {
            let Some(change) = remedy.server.get(&server.name) else { continue };
            server.rcvbuf = change.rcvbuf.or(server.rcvbuf).filter(|_| !change.default_rcvbuf);
            server.read = change.read.map_or(server.read, |read| read == Read::All);
        }
        for server in &mut self.udp_server {
            let Some(change) = remedy.server.get(&server.name) else { continue };
            server.stopped = change.stopped.unwrap_or(server.stopped);
            server.bind = change.bind.or(server.bind);
            server.rcvbuf = change.rcvbuf.or(server.rcvbuf).filter(|_| !change.default_rcvbuf);
            server.refuse = change.refuse.unwrap_or(server.refuse);
            server.cgroup_program = server.cgroup_program.filter(|_| !change.detached);
            server.read = change.read.unwrap_or(server.read);
            server.cpu_quota = server.cpu_quota.filter(|_| !change.unlimited);
            server.connected_to = server.connected_to.filter(|_| !change.unconnected);
        }
        for program in &mut self.tun_program {
            let Some(change) = remedy.server.get(&program.name) else { continue };
            program.read = change.read.unwrap_or(program.read);
            program.room = change.room.unwrap_or(program.room);
        }
        self.server.extend(remedy.start);
        self.udp_server.extend(remedy.start_udp);
        for (name, play) in remedy.traffic {
            let named = self.traffic.iter_mut().filter(|it| it.name.as_ref() == Some(&name));
            named.for_each(|traffic| traffic.play.clone_from(&play));
        }
        // What was lost before must no longer be.
        let mut gone = BTreeMap::new();
        for expectation in self.expect.drain(..) {
            let told = expectation.packets_from.iter().filter_map(Term::counter);
            gone.extend(told.map(|counter| (counter.clone(), Amount::Exactly(0))));
            self.quiet.push(expectation.cause);
        }
        self.counters = gone;
        self.counters.extend(remedy.counters);
        self.healthy = true;
        Ok(self)
    }
}
