//! A program holds the port, but is bound or connected so that these packets cannot match.
//!
//! The drops of a closed port (see `tcp_port_closed` and `udp_port_closed`), while a socket of the
//! namespace holds that port: on another address, for the other address family, on another device, or
//! connected to another peer. Services are often meant to be reached from their own host alone, and
//! scanners knock at their ports too: a few packets are left to the closed port, which names the
//! socket as well.

use whydrop_model::{EvidenceItem, EvidenceKind, Flow, Namespace, Remedy, Severity};

use super::{tcp_port_closed, udp_port_closed};
use crate::case::{Case, Conclusion};
use crate::command;
use crate::holders::{self, Holder, Obstacle};
use crate::rule::Rule;
use crate::traced::{self, Group, Kind};

/// See the module.
pub(super) struct ServiceBoundElsewhere;

const ID: &str = "service-bound-elsewhere";

impl Rule for ServiceBoundElsewhere {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in tcp_port_closed::KINDS.iter().chain(udp_port_closed::KINDS) {
            let evidence = case.evidence();
            let least = case.thresholds().bound_elsewhere;
            let closed = |total: &_| kind.signatures.iter().any(|one| one.matches(total));
            let found = traced::take_by_flow(case, least, closed, |total, flow| {
                let namespace = evidence.namespace(total.netns?)?;
                let (holder, _) = holders::nearest(namespace, flow, total.ifindex)?;
                Some(holder.name())
            });
            for (_, group) in found {
                let miss = Miss::of(&group);
                if let Some(miss) = miss {
                    conclude(case, &group, kind, &miss);
                }
            }
        }
    }
}

/// A packet and the socket that it misses.
struct Miss<'e> {
    namespace: &'e Namespace,
    flow: &'e Flow,
    holder: Holder<'e>,
    obstacle: Obstacle,
}

impl<'e> Miss<'e> {
    fn of(group: &Group<'e>) -> Option<Self> {
        let (namespace, flow) = (group.namespace?, group.flows().next()?);
        let (holder, obstacle) = holders::nearest(namespace, flow, group.first()?.ifindex)?;
        Some(Self { namespace, flow, holder, obstacle })
    }

    /// Protocol and port.
    fn port(&self) -> String {
        let port = self.flow.destination.port.unwrap_or_default();
        format!("{} port {port}", self.holder.protocol.to_uppercase())
    }

    fn summary(&self, group: &Group<'_>) -> String {
        let (owner, port, to) = (self.holder.owner(), self.port(), self.flow.destination.address);
        let place = self.holder.place(self.namespace);
        match self.obstacle {
            Obstacle::Peer => format!(
                "{owner} holds {port} connected to {}, and packets from {} match no socket",
                self.holder.remote.map_or("another peer".into(), |peer| peer.to_string()),
                group.sources(),
            ),
            Obstacle::Family => format!(
                "{owner} holds {port} on {place} for {} alone, and packets to {to} match no socket",
                if to.is_ipv4() { "IPv6" } else { "IPv4" }
            ),
            Obstacle::Device | Obstacle::Address => format!(
                "{owner} holds {port} on {place} alone, and packets to {to} on {} match no socket",
                group.device_name(),
            ),
        }
    }

    fn cure(&self) -> String {
        let (owner, to) = (self.holder.owner(), self.flow.destination);
        let any = if to.address.is_ipv4() { "0.0.0.0" } else { "::" };
        match self.obstacle {
            Obstacle::Peer => format!(
                "Let {owner} use an unconnected socket, or one more for the other senders; if it only \
                 talks to its peer, find out why answers come from another address"
            ),
            Obstacle::Device => format!(
                "Let {owner} not bind to that device (SO_BINDTODEVICE, a VRF), or to the one that these \
                 packets come in by, in its own configuration, and restart it"
            ),
            Obstacle::Family | Obstacle::Address => format!(
                "If it is meant to be reached there, let {owner} listen on {} or {any} in its own \
                 configuration and restart it; allow who may connect in the firewall first. If it is \
                 meant for its own host alone, stop those who send",
                to.address
            ),
        }
    }
}

fn conclude(case: &mut Case<'_>, group: &Group<'_>, kind: &Kind, miss: &Miss<'_>) {
    let Miss { namespace, flow, holder, obstacle } = miss;
    let counters = group.counters(kind.counters);
    let confidence = group.confidence(&counters);
    let mut evidence = group.proof();
    evidence.extend(counters);
    let socket = format!("the socket that holds {}", miss.port());
    evidence.push(EvidenceItem::new(EvidenceKind::State, socket, holder.place(namespace)));
    let port = flow.destination.port.unwrap_or_default();
    let kinds = if holder.protocol == "tcp" { "-tlnp" } else { "-uanp" };
    let show = command::within(namespace, &format!("ss {kinds} sport = :{port}"));
    let object = format!("address that {} gives its socket {}", holder.owner(), holder.name());
    let conclusion = Conclusion {
        variant: Some(if *obstacle == Obstacle::Peer { "connected" } else { "bound-address" }),
        severity: Severity::Critical,
        confidence,
        loss: group.loss(case, kind.counters),
        site: holder.at(group.site(case, Some(object))),
        summary: miss.summary(group),
        evidence,
        remedies: vec![Remedy {
            summary: miss.cure(),
            commands: show.into_iter().collect(),
            useless: vec![
                "opening the port in a firewall: the packets pass it and find no socket".into(),
                "a DNAT to 127.0.0.1 with route_localnet=1: it opens every service of the loopback"
                    .into(),
            ],
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Confidence, Endpoint, Evidence, Process, Socket, SocketProtocol};

    use crate::{Thresholds, diagnose, sample};

    /// Datagrams for port 40000 of 192.0.2.1, of which these many to other ports.
    fn closed(packets: u64, elsewhere: usize) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.NoPorts", packets);
        let mut total = sample::total("NO_SOCKET", "__udp4_lib_rcv", packets);
        total.l4 = Some(17);
        for at in 0..4 {
            let mut exemplar = sample::exemplar(&total, 5000);
            let flow = exemplar.flow.as_mut().expect("a flow");
            flow.protocol = 17;
            flow.destination.port = Some(if at < elsewhere { 9 } else { 4000 });
            evidence.tracer.exemplars.push(exemplar);
        }
        evidence.tracer.totals = vec![total];
        evidence
    }

    fn holder(address: &str, remote: Option<&str>) -> Socket {
        let end = |address: &str, port| Endpoint {
            address: address.parse().expect("an address"),
            port: Some(port),
        };
        Socket {
            local: Some(end(address, 4000)),
            remote: remote.map(|remote| end(remote, 1)),
            owners: vec![Process { pid: 77, comm: "server".into(), ..Process::default() }],
            ..Socket::new(SocketProtocol::Udp)
        }
    }

    #[test]
    fn the_nearest_socket_is_named() {
        let mut evidence = closed(40, 0);
        evidence.namespaces[0].sockets = vec![holder("127.0.0.1", None)];
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!(
            (finding.cause.as_str(), finding.packets, finding.confidence),
            ("service-bound-elsewhere", 40, Confidence::Confirmed)
        );
        assert_eq!(finding.variant.as_deref(), Some("bound-address"));
        assert_eq!(finding.site.socket.as_deref(), Some("udp 127.0.0.1:4000"));
        assert_eq!(finding.site.process.as_ref().map(|one| one.pid), Some(77));
        evidence.namespaces[0].sockets = vec![holder("192.0.2.1", Some("192.0.2.8"))];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].variant.as_deref(), Some("connected"));
    }

    #[test]
    fn a_closed_port_beside_it_keeps_its_share() {
        let mut evidence = closed(40, 1);
        evidence.namespaces[0].sockets = vec![holder("127.0.0.1", None)];
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> =
            report.findings.iter().map(|one| (one.cause.as_str(), one.packets)).collect();
        assert_eq!(told, [("service-bound-elsewhere", 30), ("udp-port-closed", 10)]);
        assert_eq!(report.findings[0].confidence, Confidence::Likely, "shares are estimates");
        assert_eq!(report.findings[1].site.object.as_deref(), Some("UDP port 9"));
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
    }

    #[test]
    fn a_socket_that_gets_them_now_or_a_few_knocks_are_a_closed_port() {
        let cause = |evidence: &Evidence| {
            diagnose(evidence, &Thresholds::default()).findings[0].cause.clone()
        };
        let mut evidence = closed(40, 0);
        evidence.namespaces[0].sockets = vec![holder("127.0.0.1", None), holder("0.0.0.0", None)];
        assert_eq!(cause(&evidence), "udp-port-closed", "started since");
        let mut evidence = closed(4, 0);
        evidence.namespaces[0].sockets = vec![holder("127.0.0.1", None)];
        assert_eq!(cause(&evidence), "udp-port-closed", "a scan");
        let report = diagnose(&evidence, &Thresholds::default());
        let summary = &report.findings[0].summary;
        assert!(
            summary.contains("server (pid 77)"),
            "the nearest is named all the same: {summary}"
        );
        evidence.namespaces[0].sockets.clear();
        assert_eq!(cause(&closed(40, 0)), "udp-port-closed");
    }
}
