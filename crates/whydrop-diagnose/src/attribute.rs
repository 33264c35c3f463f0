//! What a single drop is recognised as, by the rules that explain all of them.
//!
//! Each drop is put before the rules as if it were the only one, together with what is known of its
//! namespace. So a line of `whydrop watch` says what a report would say, and nothing is decided
//! twice. A cause that needs several drops to be seen is not told.

use std::collections::BTreeMap;

use whydrop_model::{
    Attribution, DropTotal, Evidence, Exemplar, Flow, Listener, Namespace, Process, QueueOwner,
    Socket, SocketProtocol, TracerEvidence,
};

use crate::case::Case;
use crate::{Thresholds, UNEXPLAINED, causes, queues, rules, unnamed};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The surroundings of drops: what was observed of a host, without what the tracer saw.
#[derive(Debug)]
pub struct Surroundings {
    /// One for each namespace, so that the rules look at no other.
    by_netns: BTreeMap<u64, Evidence>,
    /// For drops of no known namespace.
    elsewhere: Evidence,
    thresholds: Thresholds,
    /// Holders of sockets with which nothing seemed to be wrong, by inode.
    holders: BTreeMap<u64, Vec<Process>>,
}

impl Surroundings {
    /// Those of this evidence.
    #[must_use]
    pub fn new(mut evidence: Evidence, thresholds: Thresholds) -> Self {
        let namespaces = std::mem::take(&mut evidence.namespaces);
        let empty = TracerEvidence::absent(Vec::new());
        let tracer = std::mem::replace(&mut evidence.tracer, empty);
        evidence.tracer.attach = tracer.attach;
        evidence.tracer.reasons = tracer.reasons;
        let of =
            |namespace: Namespace| Evidence { namespaces: vec![namespace], ..evidence.clone() };
        let by_netns = namespaces.into_iter().map(|one| (one.inode, of(one))).collect();
        Self { by_netns, elsewhere: evidence, thresholds, holders: BTreeMap::new() }
    }

    /// Adds who holds sockets, by inode. The evidence tells it of listeners and of sockets in trouble.
    #[must_use]
    pub fn with_holders(self, holders: BTreeMap<u64, Vec<Process>>) -> Self {
        Self { holders, ..self }
    }

    /// A namespace, if it was observed.
    #[must_use]
    pub fn namespace(&self, inode: u64) -> Option<&Namespace> {
        self.by_netns.get(&inode)?.namespaces.first()
    }

    /// All namespaces observed.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.by_netns.values().flat_map(|evidence| &evidence.namespaces)
    }

    /// What drops of this kind are recognised as; `None` if no rule takes them. `exemplar` is one of
    /// them in detail, where there is one.
    pub fn attribute(
        &mut self,
        total: &DropTotal,
        exemplar: Option<&Exemplar>,
    ) -> Option<Attribution> {
        let known = total.netns.and_then(|inode| self.by_netns.get_mut(&inode));
        let evidence = known.unwrap_or(&mut self.elsewhere);
        evidence.tracer.totals = vec![DropTotal { packets: 1, ..total.clone() }];
        evidence.tracer.exemplars = exemplar.cloned().into_iter().collect();
        let evidence = unnamed::named(evidence);
        let mut case = Case::new(&evidence, self.thresholds);
        for rule in rules::RULES {
            rule.check(&mut case);
        }
        let (findings, entries, _) = case.close();
        let entry = entries.iter().find(|one| one.traced > 0 && one.cause != UNEXPLAINED)?;
        let cause = causes::find(&entry.cause)?;
        let finding = findings.iter().find(|one| one.cause == entry.cause && one.packets > 0);
        let site = finding.map_or(&entry.site, |finding| &finding.site);
        Some(Attribution {
            cause: entry.cause.clone(),
            variant: finding.and_then(|finding| finding.variant.clone()),
            class: cause.class,
            layer: cause.layer.into(),
            object: site.object.clone(),
            socket: site.socket.clone(),
        })
    }

    /// The process whose socket a packet was for, or came from: the socket that the kernel named,
    /// or else one that is connected as the packet says or bound to where it goes.
    #[must_use]
    pub fn owner(&self, drop: &Exemplar) -> Option<QueueOwner> {
        let namespace = self.namespace(drop.netns?)?;
        let named = || self.holders.get(&drop.socket?.inode).map(Vec::as_slice);
        let holders = holders(namespace, drop).filter(|holders| !holders.is_empty());
        queues::owner(holders.or_else(named)?)
    }

    /// The container that lives in a namespace, if all processes known there are of the same.
    #[must_use]
    pub fn container(&self, inode: u64) -> Option<&str> {
        let namespace = self.namespace(inode)?;
        let listeners = namespace.listeners.iter().flat_map(|listener| &listener.owners);
        let sockets = namespace.sockets.iter().flat_map(|socket| &socket.owners);
        let mut containers = listeners.chain(sockets).map(|process| process.container.as_deref());
        let first = containers.next()??;
        containers.all(|container| container == Some(first)).then_some(first)
    }
}

/// One drop as the total that counts it.
#[must_use]
pub fn as_total(drop: &Exemplar, l4: Option<u8>, marks: whydrop_model::Marks) -> DropTotal {
    DropTotal {
        reason: drop.reason.clone(),
        site: Some(drop.site.clone()),
        netns: drop.netns,
        ifindex: drop.ifindex,
        device: drop.device.clone(),
        l3: drop.l3,
        l4,
        marks,
        packets: 1,
        bytes: drop.len.into(),
        inferred: false,
    }
}

fn holders<'n>(namespace: &'n Namespace, drop: &Exemplar) -> Option<&'n [Process]> {
    if let Some(socket) = drop.socket.filter(|socket| socket.inode != 0) {
        let listener = namespace.listeners.iter().find(|one| one.inode == socket.inode);
        let other = || namespace.sockets.iter().find(|one| one.inode == socket.inode);
        return listener.map(|one| &one.owners[..]).or_else(|| other().map(|one| &one.owners[..]));
    }
    let flow = drop.flow.as_ref()?;
    let connected = connection(namespace, flow).map(|one| &one.owners[..]);
    // One that was not accepted yet is still its listener's.
    if let Some(owners) = connected.filter(|owners| !owners.is_empty()) {
        return Some(owners);
    }
    let (address, port) = (flow.destination.address, flow.destination.port?);
    match flow.protocol {
        TCP => {
            let fits = |one: &&Listener| {
                one.port == port && (one.address.is_unspecified() || one.address == address)
            };
            namespace.listeners.iter().find(fits).map(|one| &one.owners[..])
        }
        UDP => {
            let fits = |one: &&Socket| {
                one.protocol == SocketProtocol::Udp
                    && one.remote.is_none()
                    && one.local.is_some_and(|local| {
                        local.port == Some(port)
                            && (local.address.is_unspecified() || local.address == address)
                    })
            };
            namespace.sockets.iter().find(fits).map(|one| &one.owners[..])
        }
        _ => None,
    }
}

/// The socket that is connected as a packet says: the one that it was for, or else the one that it
/// came from.
fn connection<'n>(namespace: &'n Namespace, flow: &Flow) -> Option<&'n Socket> {
    let protocol = match flow.protocol {
        TCP => SocketProtocol::Tcp,
        UDP => SocketProtocol::Udp,
        _ => return None,
    };
    let between = |local, remote| {
        namespace.sockets.iter().find(|one| {
            one.protocol == protocol && one.local == Some(local) && one.remote == Some(remote)
        })
    };
    between(flow.destination, flow.source).or_else(|| between(flow.source, flow.destination))
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Class, SocketRef};

    use super::*;
    use crate::sample;

    fn surroundings(evidence: Evidence) -> Surroundings {
        Surroundings::new(evidence, Thresholds::default())
    }

    #[test]
    fn a_drop_is_what_the_report_would_call_it() {
        let mut here = surroundings(sample::evidence());
        for (reason, symbol, cause, class) in [
            ("NO_SOCKET", "__udp4_lib_rcv", "udp-port-closed", Class::Peer),
            ("IP_INHDR", "ip_rcv_core", "malformed-packet", Class::Peer),
            ("TC_EGRESS", "__dev_queue_xmit", "tc-filter-drop", Class::Policy),
        ] {
            let total = sample::total(reason, symbol, 1000);
            let found = here.attribute(&total, None).expect(reason);
            assert_eq!((found.cause.as_str(), found.class), (cause, class));
            let report = crate::diagnose(
                &{
                    let mut evidence = sample::evidence();
                    evidence.tracer.totals = vec![total];
                    evidence
                },
                &Thresholds::default(),
            );
            assert_eq!(report.findings[0].cause, found.cause);
        }
        let tomorrow = sample::total("A_REASON_OF_TOMORROW", "some_function", 1);
        assert_eq!(here.attribute(&tomorrow, None), None);
        let mut elsewhere = sample::total("NO_SOCKET", "__udp4_lib_rcv", 1);
        elsewhere.netns = Some(1);
        assert!(here.attribute(&elsewhere, None).is_some());
    }

    #[test]
    fn noise_is_told_as_such() {
        let mut fin = sample::total("QUEUE_PURGE", "sk_stream_kill_queues", 1);
        fin.marks.empty = true;
        let found = surroundings(sample::evidence()).attribute(&fin, None).expect("noise");
        assert_eq!(found.class, Class::Benign);
    }

    #[test]
    fn the_owner_is_found_by_socket_and_by_port() {
        let mut evidence = sample::evidence();
        let process = Process { pid: 7, comm: "web".into(), ..Process::default() };
        let mut listener = sample::listener(128, 0, &[]);
        listener.owners = vec![Process { container: Some("c0ffee".into()), ..process }];
        (listener.inode, listener.port) = (99, 40000);
        evidence.namespaces[0].listeners = vec![listener];
        let here = surroundings(evidence);
        let mut drop = sample::exemplar(&sample::total("NO_SOCKET", "tcp_v4_rcv", 1), 80);
        assert_eq!(here.owner(&drop).map(|owner| owner.pid), Some(7));
        drop.socket = Some(SocketRef {
            family: 2,
            state: 10,
            local_port: 40000,
            inode: 98,
            receiver: true,
            filtered: false,
        });
        assert_eq!(here.owner(&drop), None, "the kernel named another socket");
        let other = Process { pid: 8, ..Process::default() };
        let here = here.with_holders(BTreeMap::from([(98, vec![other])]));
        assert_eq!(here.owner(&drop).map(|owner| owner.pid), Some(8));
        drop.socket.as_mut().expect("a socket").inode = 99;
        assert_eq!(here.owner(&drop).map(|owner| owner.comm), Some("web".into()));
        assert_eq!(here.container(sample::INODE), Some("c0ffee"));
    }

    #[test]
    fn the_owner_of_a_connection_is_found_from_either_end() {
        let mut drop = sample::exemplar(&sample::total("NO_SOCKET", "tcp_v4_rcv", 1), 80);
        let flow = drop.flow.clone().expect("a flow");
        let process = |pid| Process { pid, ..Process::default() };
        let mut listener = sample::listener(128, 0, &[]);
        listener.port = flow.destination.port.expect("a port");
        listener.owners = vec![process(7)];
        let mut evidence = sample::evidence();
        evidence.namespaces[0].listeners = vec![listener];
        evidence.namespaces[0].sockets = vec![Socket {
            local: Some(flow.destination),
            remote: Some(flow.source),
            owners: vec![process(9)],
            ..Socket::new(SocketProtocol::Tcp)
        }];
        let owner = |evidence: &Evidence, drop: &Exemplar| {
            surroundings(evidence.clone()).owner(drop).map(|owner| owner.pid)
        };
        assert_eq!(owner(&evidence, &drop), Some(9));
        // Not accepted yet.
        evidence.namespaces[0].sockets[0].owners.clear();
        assert_eq!(owner(&evidence, &drop), Some(7));
        // What it sends.
        evidence.namespaces[0].sockets[0].owners = vec![process(9)];
        drop.flow = Some(Flow { source: flow.destination, destination: flow.source, ..flow });
        assert_eq!(owner(&evidence, &drop), Some(9));
    }
}
