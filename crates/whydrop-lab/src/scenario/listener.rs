//! Servers of either protocol, and what they have in common.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Read, Scenario};
use crate::cgroup_program::CgroupHook;
use crate::part::{IdleSocket, Part, Receive, SocketKind};

/// A UDP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UdpServer {
    /// Its name here and in `/proc/PID/comm`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) role: String,
    /// Port it receives on.
    pub(crate) port: u16,
    /// Address to receive on; absent for the role's own.
    pub(crate) bind: Option<IpAddr>,
    /// The only peer it hears.
    pub(crate) connected_to: Option<SocketAddr>,
    /// `SO_RCVBUF`; absent for the default.
    pub(crate) rcvbuf: Option<u32>,
    /// A filter of its own refuses every datagram.
    #[serde(default)]
    pub(crate) refuse: bool,
    /// A program on its control group refuses what passes there; absent for none.
    pub(crate) cgroup_program: Option<CgroupHook>,
    /// When it reads.
    #[serde(default)]
    pub(crate) read: Read,
    /// True if it sends back what it reads.
    #[serde(default)]
    pub(crate) echo: bool,
    /// From a datagram to its echo.
    #[serde(default)]
    pub(crate) delay_millis: u64,
    /// CPU time that it spends on each datagram.
    #[serde(default)]
    pub(crate) work_micros: u64,
    /// Part of a CPU that it may use, in percent, once it has its socket; absent for all there is.
    pub(crate) cpu_quota: Option<u32>,
    /// Stopped with SIGSTOP once it has its socket.
    #[serde(default)]
    pub(crate) stopped: bool,
}

/// A program that holds a socket of another kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct IdleServer {
    /// Its name here and in `/proc/PID/comm`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) role: String,
    pub(crate) kind: SocketKind,
    /// `SO_RCVBUF`; absent for the default.
    pub(crate) rcvbuf: Option<u32>,
    /// True if it reads what it hears.
    #[serde(default)]
    pub(crate) read: bool,
}

impl IdleServer {
    /// What reports call its socket.
    fn socket(&self) -> String {
        match self.kind {
            SocketKind::Raw(protocol) => format!("raw protocol {protocol}"),
            SocketKind::Packet(3) => "packet, all frames".into(),
            SocketKind::Packet(ethertype) => format!("packet {ethertype:#06x}"),
            SocketKind::Addresses => "netlink 0".into(),
        }
    }
}

/// A server, whatever it speaks.
#[derive(Debug, Clone)]
pub(crate) struct Listener<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: &'a str,
    /// `tcp` or `udp`, as reports call it.
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) stopped: bool,
    pub(crate) relisten: bool,
    /// Part of a CPU that it may use, in percent.
    pub(crate) cpu_quota: Option<u32>,
    /// Bytes that its sockets may take together.
    pub(crate) socket_memory: Option<u64>,
    /// What a program on its control group refuses.
    pub(crate) cgroup_program: Option<CgroupHook>,
    /// Its socket's name, if that is not its address.
    named: Option<String>,
}

impl Listener<'_> {
    /// The address of its socket; `None` if its role has none.
    pub(crate) fn address(&self, scenario: &Scenario) -> Option<SocketAddr> {
        let own = || scenario.topology.address(self.role, scenario.ipv6);
        Some(SocketAddr::new(self.bind.or_else(own)?, self.port))
    }

    /// What reports call its socket; `None` if its role has no address.
    pub(crate) fn socket(&self, scenario: &Scenario) -> Option<String> {
        let by_address = || Some(format!("{} {}", self.protocol, self.address(scenario)?));
        self.named.clone().or_else(by_address)
    }

    /// True if clients can be told to go there.
    pub(crate) fn has_port(&self) -> bool {
        self.named.is_none()
    }

    /// The address that clients use: its role's own, whatever it is bound to.
    pub(crate) fn reached_at(&self, scenario: &Scenario) -> Option<SocketAddr> {
        let address = scenario.topology.address(self.role, scenario.ipv6)?;
        Some(SocketAddr::new(address, self.port))
    }
}

impl Scenario {
    /// All servers, in the order in which they start.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener<'_>> {
        let tcp = self.server.iter().map(|server| Listener {
            name: &server.name,
            role: &server.role,
            protocol: "tcp",
            port: server.port,
            bind: server.bind,
            stopped: server.stopped,
            relisten: server.relisten,
            cpu_quota: server.cpu_quota,
            socket_memory: server.socket_memory,
            cgroup_program: None,
            named: None,
        });
        let udp = self.udp_server.iter().map(|server| Listener {
            name: &server.name,
            role: &server.role,
            protocol: "udp",
            port: server.port,
            bind: server.bind,
            stopped: server.stopped,
            relisten: false,
            cpu_quota: server.cpu_quota,
            socket_memory: None,
            cgroup_program: server.cgroup_program,
            named: None,
        });
        let idle = self.idle_socket.iter().map(|server| Listener {
            name: &server.name,
            role: &server.role,
            protocol: "none",
            port: 0,
            bind: None,
            stopped: false,
            relisten: false,
            cpu_quota: None,
            socket_memory: None,
            cgroup_program: None,
            named: Some(server.socket()),
        });
        tcp.chain(udp).chain(idle)
    }

    /// The server of this name.
    pub(crate) fn listener(&self, name: &str) -> Option<Listener<'_>> {
        self.listeners().find(|listener| listener.name == name)
    }

    /// What the actor of a server is told; `None` if its role has no address.
    pub(crate) fn part(&self, listener: &Listener<'_>) -> Option<Part> {
        if let Some(IdleServer { kind, rcvbuf, read, .. }) =
            self.idle_socket.iter().find(|server| server.name == listener.name)
        {
            let (kind, rcvbuf, read) = (*kind, *rcvbuf, *read);
            return Some(Part::Hear(IdleSocket { kind, ipv6: self.ipv6, rcvbuf, read }));
        }
        let address = listener.address(self)?;
        let tcp = self.server.iter().find(|server| server.name == listener.name);
        if let Some(server) = tcp {
            return Some(Part::Serve { address, serve: server.serve() });
        }
        let server = self.udp_server.iter().find(|server| server.name == listener.name)?;
        let UdpServer { rcvbuf, refuse, read, echo, delay_millis, work_micros, .. } = *server;
        let peer = server.connected_to;
        let receive = Receive { peer, rcvbuf, refuse, read, echo, delay_millis, work_micros };
        Some(Part::Receive { address, receive })
    }
}
