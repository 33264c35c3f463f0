//! A scenario: one file that says what to build, what to do in it, and what a right diagnosis says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use whydrop_model::{Class, Verdict};

use crate::LabError;
use crate::command::Line;
use crate::counters::{CounterName, Sent, Term};
use crate::part::tun::{TunDevice, TunRead};
use crate::part::{Accept, Part, Play, Read, Respond, Serve, Tally};
use crate::topology::Topology;

mod catalog;
mod check;
mod listener;
mod remedy;
mod target;

pub(crate) use catalog::find;
pub use catalog::{ScenarioInfo, list, planned};
pub(crate) use listener::{IdleServer, Listener, UdpServer};
use remedy::Remedy;
use target::Target;

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
    /// Why nothing else may be played meanwhile: it overflows what all namespaces share, such as the
    /// queue of a CPU, or sets what is not a namespace's own. Absent if it disturbs nobody.
    pub(crate) alone: Option<String>,
    pub(crate) topology: Topology,
    /// True if servers and clients speak IPv6.
    #[serde(default)]
    pub(crate) ipv6: bool,
    /// What the machine must have beyond namespaces, veth and the programs that the lines run.
    #[serde(default)]
    pub(crate) needs: Vec<Need>,
    /// Roles that the diagnosis is not told to look at: another host, as far as it can know.
    #[serde(default)]
    pub(crate) unobserved: Vec<String>,
    /// Sysctls by role and name, set before anything else.
    #[serde(default)]
    pub(crate) sysctl: Sysctls,
    /// Carried out before the servers start, in this order.
    #[serde(default)]
    pub(crate) setup: Vec<Lines>,
    /// Sysctls by role and name, set once the servers listen.
    #[serde(default)]
    pub(crate) sysctl_after_listen: Sysctls,
    #[serde(default)]
    pub(crate) server: Vec<Server>,
    #[serde(default)]
    pub(crate) udp_server: Vec<UdpServer>,
    #[serde(default)]
    pub(crate) tun_program: Vec<TunProgram>,
    #[serde(default)]
    pub(crate) idle_socket: Vec<IdleServer>,
    /// Carried out while the diagnosis watches.
    #[serde(default)]
    pub(crate) during: Vec<Lines>,
    /// That of an act is played all at once, act after act.
    pub(crate) traffic: Vec<Traffic>,
    /// Proof that the scenario does what it says: what these counters must grow by.
    #[serde(default)]
    pub(crate) counters: BTreeMap<CounterName, Amount>,
    /// What must be found; nothing else that loses packets may be.
    #[serde(default)]
    pub(crate) expect: Vec<Expectation>,
    /// Causes that lose nothing and must not be found either.
    #[serde(default)]
    pub(crate) quiet: Vec<String>,
    /// What makes the same traffic pass.
    pub(crate) remedy: Option<Remedy>,
    /// That the program makes it pass by itself.
    pub(crate) fix: Option<Fix>,
    /// Why it does not. One of the two is needed where a cause is expected that the program may have a
    /// change against.
    pub(crate) no_fix: Option<NoFix>,
}

/// How the program cures it: diagnosed, changed, the same traffic clean, undone, lost again.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Fix {
    /// True if the change opens the host to more packets and needs consent.
    #[serde(default)]
    pub(crate) weaker_security: bool,
    /// Carried out before the traffic is played again, so that it meets what it met at first.
    #[serde(default)]
    pub(crate) again: Vec<Lines>,
    /// What these counters must grow by while the change is in force, instead of what the remedy
    /// says.
    #[serde(default)]
    pub(crate) counters: BTreeMap<CounterName, Amount>,
}

/// What the program says instead of curing it here.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NoFix {
    /// Its answers of which any is right.
    pub(crate) answer: Vec<Answered>,
    /// Why that is right.
    pub(crate) why: String,
}

/// What kind of answer the program has to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answered {
    /// A change, which is not made here.
    Change,
    /// What there is too little of: no setting helps.
    Capacity,
    /// Words for the operator.
    Operator,
}

impl Answered {
    /// Its name in the program's answer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Capacity => "capacity",
            Self::Operator => "operator",
        }
    }
}

/// Command lines for a namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Lines {
    /// Role in whose namespace they run.
    pub(crate) role: String,
    /// Act that they open, before its traffic; only for `during`.
    #[serde(default)]
    pub(crate) act: u8,
    /// The lines, in this order.
    pub(crate) run: Vec<Line>,
    /// What must be so before the play goes on.
    pub(crate) until: Option<Until>,
}

/// A line that says something at last: the kernel does some things in its own time.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Until {
    /// The line, run again and again.
    pub(crate) line: Line,
    /// What its output must contain.
    pub(crate) says: String,
}

/// Something that not every machine has.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Need {
    /// What it is, as people call it.
    pub(crate) what: String,
    /// A line that succeeds in an empty namespace where it exists.
    #[serde(rename = "try")]
    pub(crate) attempt: Line,
}

/// A TCP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    /// Its name here and in `/proc/PID/comm`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) role: String,
    /// Port it listens on.
    pub(crate) port: u16,
    /// Address to listen on; absent for the role's own.
    pub(crate) bind: Option<IpAddr>,
    /// Argument of `listen()`.
    pub(crate) backlog: u16,
    /// When it calls `accept()`.
    #[serde(default)]
    pub(crate) accept: Accept,
    /// What it does with a connection.
    #[serde(default)]
    pub(crate) respond: Respond,
    /// `SO_RCVBUF`; absent for what the kernel gives.
    pub(crate) rcvbuf: Option<u32>,
    /// Key with which peers must sign (TCP-MD5); absent if they must not.
    pub(crate) md5_key: Option<String>,
    /// Least TTL or hop limit that packets must have.
    pub(crate) min_ttl: Option<u8>,
    /// Bytes that all its sockets may take together; absent for no limit but the host's.
    pub(crate) socket_memory: Option<u64>,
    /// Calls `listen()` again after `sysctl-after-listen`.
    #[serde(default)]
    pub(crate) relisten: bool,
    /// CPU time that it spends on each connection.
    #[serde(default)]
    pub(crate) work_micros: u64,
    /// Part of a CPU that it may use, in percent, once it listens; absent for all there is.
    pub(crate) cpu_quota: Option<u32>,
    /// Stopped with SIGSTOP once it listens.
    #[serde(default)]
    pub(crate) stopped: bool,
}

impl Server {
    /// What its actor is told.
    pub(crate) fn serve(&self) -> Serve {
        let Self { backlog, accept, respond, rcvbuf, min_ttl, relisten, work_micros, .. } = *self;
        let md5_key = self.md5_key.clone();
        Serve { backlog, accept, respond, rcvbuf, md5_key, min_ttl, relisten, work_micros }
    }
}

/// A program that reads from a tun or tap device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TunProgram {
    /// Its name here and in `/proc/PID/comm`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) role: String,
    pub(crate) open: TunDevice,
    /// Bytes that it has room for; absent for any packet.
    #[serde(default = "any_packet")]
    pub(crate) room: u32,
    #[serde(default)]
    pub(crate) read: Read,
}

fn any_packet() -> u32 {
    1 << 16
}

impl TunProgram {
    /// What its actor is told.
    pub(crate) fn part(&self) -> Part {
        let Self { open, room, read, .. } = self;
        Part::ReadTun(TunRead { open: open.clone(), room: *room as usize, read: *read })
    }
}

/// A piece of traffic and its ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Traffic {
    /// Name by which others refer to it.
    pub(crate) name: Option<String>,
    /// Role it comes from.
    pub(crate) from: String,
    /// Name of the server it goes to.
    pub(crate) to: Option<String>,
    /// Where it goes if not to a server's address.
    pub(crate) at: Option<Target>,
    /// The act that it is played in; 0 if not said.
    #[serde(default)]
    pub(crate) act: u8,
    /// What is done.
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
    /// The least.
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
    /// Id of the cause.
    pub(crate) cause: String,
    /// Variants of which any is right; empty if the cause has none.
    #[serde(default)]
    pub(crate) variant: Vec<String>,
    /// Its class.
    pub(crate) class: Class,
    /// Role of the namespace it must be sited in.
    pub(crate) netns: String,
    /// Server whose socket and process the site must name.
    pub(crate) server: Option<String>,
    /// Device that the site must name.
    pub(crate) device: Option<String>,
    /// What the site's object must contain.
    pub(crate) object: Option<String>,
    /// True if it follows from another cause, which has the packets.
    #[serde(default)]
    pub(crate) follows: bool,
    /// What the number of packets is summed up from; none means zero.
    #[serde(default)]
    pub(crate) packets_from: Vec<Term>,
}

impl Scenario {
    /// Reads and checks a scenario file.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, LabError> {
        let wrong = |message: String| LabError::Scenario { name: name.to_owned(), message };
        let resolved = catalog::resolved(text).map_err(wrong)?;
        // Read from the text if it says everything itself: errors then show the line.
        let read = match resolved {
            Some(table) => table.try_into(),
            None => toml::from_str(text),
        };
        let mut scenario: Self = read.map_err(|error| wrong(error.to_string()))?;
        name.clone_into(&mut scenario.name);
        scenario.check().map_err(wrong)?;
        Ok(scenario)
    }

    /// What the machine must have: what the file says, and what follows from the rest of it.
    pub(crate) fn all_needs(&self) -> Result<Vec<Need>, LabError> {
        let lines = self.setup.iter().chain(&self.during).flat_map(|lines| &lines.run);
        let implied = [
            (self.ipv6, "IPv6", "ip -6 addr add fd00::1/128 dev lo"),
            (self.topology == Topology::Bridge, "bridge device", "ip link add br0 type bridge"),
            (
                lines.into_iter().any(|it| it.program() == "nft"),
                "nf_tables",
                "nft add table inet t",
            ),
        ];
        let mut needs = Vec::new();
        for (_, what, attempt) in implied.into_iter().filter(|(needed, ..)| *needed) {
            let attempt = Line::try_from(attempt.to_owned())
                .map_err(|message| LabError::Scenario { name: self.name.clone(), message })?;
            needs.push(Need { what: what.to_owned(), attempt });
        }
        needs.extend(self.needs.iter().cloned());
        Ok(needs)
    }

    /// The acts of the play, in order.
    pub(crate) fn acts(&self) -> BTreeSet<u8> {
        let traffic = self.traffic.iter().map(|traffic| traffic.act);
        traffic.chain(self.during.iter().map(|lines| lines.act)).collect()
    }

    /// Where a piece of traffic goes; `None` if it needs nobody to talk to.
    pub(crate) fn target(&self, traffic: &Traffic) -> Option<SocketAddr> {
        match (&traffic.to, &traffic.at) {
            (Some(server), _) => self.listener(server)?.reached_at(self),
            (None, Some(target)) => target.address(self.topology, self.ipv6),
            (None, None) => None,
        }
    }

    /// What traffic sent by its own count, by its name.
    pub(crate) fn sent<'s>(&'s self, tallies: &[Tally]) -> Sent<'s> {
        let named = self.traffic.iter().zip(tallies);
        named.filter_map(|(traffic, tally)| Some((traffic.name.as_deref()?, tally.done))).collect()
    }

    /// The counters that the scenario makes a claim about.
    pub(crate) fn watched(&self) -> BTreeSet<CounterName> {
        let terms = self.expect.iter().flat_map(|expectation| &expectation.packets_from);
        let mut watched: BTreeSet<_> = terms.filter_map(Term::counter).cloned().collect();
        watched.extend(self.counters.keys().cloned());
        watched
    }

    /// Counters that move as long as the traffic does.
    pub(crate) fn pulse(&self) -> BTreeSet<CounterName> {
        let counter = |role: &str, name: &str| CounterName { role: role.into(), name: name.into() };
        let roles = self.topology.roles().iter();
        roles.flat_map(|role| ["Tcp.InSegs", "Ip.InReceives"].map(|it| counter(role, it))).collect()
    }

    /// The verdict that follows from the classes of what is expected, and from whether packets are.
    pub(crate) fn verdict(&self) -> Verdict {
        let lost = |it: &Expectation| {
            matches!(it.class, Class::Fault | Class::Policy | Class::Peer)
                && it.packets_from != [Term::Number(0)]
        };
        if self.expect.iter().any(lost) { Verdict::Loss } else { Verdict::Clean }
    }

    /// The exit status that follows from the classes of what is expected.
    pub(crate) fn exit(&self) -> i32 {
        i32::from(self.expect.iter().any(|expectation| expectation.class == Class::Fault))
    }
}
