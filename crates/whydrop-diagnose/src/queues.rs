//! The receive queues of all sockets, and what bounds each.
//!
//! States what is; which of them are a cause of loss, the rules say.

use std::cmp::Reverse;

use whydrop_model::{
    Listener, Namespace, NetnsRef, NotChecked, Process, Queue, QueueOwner, Queues, ReportWindow,
    SOCKETS_SCHEMA, Socket, SocketProtocol,
};

/// Lists the queues in these namespaces: those that lost something in the window first, then the
/// fullest.
#[must_use]
pub fn queues(
    namespaces: &[Namespace],
    window: ReportWindow,
    not_checked: Vec<NotChecked>,
) -> Queues {
    let host = namespaces.iter().find(|namespace| namespace.own);
    let mut queues: Vec<Queue> = namespaces
        .iter()
        .flat_map(|namespace| {
            let listening = namespace.listeners.iter().map(|one| of_listener(one, namespace));
            let others = namespace.sockets.iter().map(move |one| of_socket(one, namespace, host));
            listening.chain(others)
        })
        .collect();
    queues.sort_by_key(|queue| {
        (Reverse(queue.drops), Reverse(queue.percent()), queue.protocol, queue.local.clone())
    });
    Queues { schema: SOCKETS_SCHEMA.into(), window, queues, not_checked }
}

fn netns(namespace: &Namespace) -> NetnsRef {
    NetnsRef { inode: Some(namespace.inode), name: namespace.name.clone() }
}

/// The first of these processes, to name it.
pub(crate) fn owner(owners: &[Process]) -> Option<QueueOwner> {
    let (first, others) = owners.split_first()?;
    Some(QueueOwner {
        pid: first.pid,
        comm: first.comm.clone(),
        unit: first.unit.clone(),
        container: first.container.clone(),
        pod: first.pod.clone(),
        others: others.len(),
    })
}

fn of_listener(listener: &Listener, namespace: &Namespace) -> Queue {
    let backlog = listener.backlog.after;
    let somaxconn = setting(namespace, "net.core.somaxconn");
    Queue {
        netns: netns(namespace),
        protocol: SocketProtocol::Tcp,
        listening: true,
        local: listener.endpoint().to_string(),
        queued: listener.steps.last().map_or(0, |step| step.queued.into()),
        peak: listener.peak().into(),
        looks: listener.looks,
        limit: Some(backlog),
        bound_by: Some(bound_of_backlog(backlog, somaxconn)),
        drops: listener.drops.delta32(),
        drops_ever: listener.drops.after,
        owner: owner(&listener.owners),
    }
}

/// A listener keeps what it got when it called listen(): at most somaxconn as it was then.
fn bound_of_backlog(backlog: u64, somaxconn: Option<u64>) -> String {
    match somaxconn {
        Some(now) if now == backlog => "net.core.somaxconn".into(),
        _ => format!("listen(fd, {backlog})"),
    }
}

fn setting(namespace: &Namespace, name: &str) -> Option<u64> {
    namespace.sysctl(name).and_then(|value| u64::try_from(value).ok())
}

fn of_socket(socket: &Socket, namespace: &Namespace, host: Option<&Namespace>) -> Queue {
    let listening = socket.protocol == SocketProtocol::Unix;
    let (queued, limit, bound_by) = if listening {
        let backlog = u64::from(socket.send_queue);
        let bound = bound_of_backlog(backlog, setting(namespace, "net.core.somaxconn"));
        (socket.recv_queue, Some(backlog), Some(bound))
    } else {
        let memory = socket.memory;
        let queued = memory.map_or(socket.recv_queue, |memory| memory.rmem_alloc);
        let size = memory.map(|memory| u64::from(memory.rcvbuf));
        (queued, size, size.map(|size| bound_of_buffer(size, socket.protocol, namespace, host)))
    };
    Queue {
        netns: netns(namespace),
        protocol: socket.protocol,
        listening,
        local: local(socket),
        queued: queued.into(),
        peak: socket.peak().max(queued).into(),
        looks: socket.looks,
        limit,
        bound_by,
        drops: socket.drops.delta32(),
        drops_ever: socket.drops.after,
        owner: owner(&socket.owners),
    }
}

/// What a receive buffer of this size comes from. `SO_RCVBUF` doubles what is asked for, which is
/// cut at `rmem_max` before (`net/core/sock.c`, 6.18). Where these two are per host only, the host's
/// hold.
fn bound_of_buffer(
    size: u64,
    protocol: SocketProtocol,
    namespace: &Namespace,
    host: Option<&Namespace>,
) -> String {
    let setting = |name| setting(namespace, name).or_else(|| setting(host?, name));
    if protocol == SocketProtocol::Tcp {
        return "net.ipv4.tcp_rmem, SO_RCVBUF".into();
    }
    if setting("net.core.rmem_default") == Some(size) {
        return "net.core.rmem_default".into();
    }
    match setting("net.core.rmem_max") {
        Some(most) if most.saturating_mul(2) == size => "net.core.rmem_max".into(),
        _ => format!("SO_RCVBUF {}", size / 2),
    }
}

fn local(socket: &Socket) -> String {
    let to = socket.remote.map(|remote| format!(" to {remote}")).unwrap_or_default();
    match (socket.protocol, socket.local, &socket.name) {
        (SocketProtocol::Raw, Some(local), _) => format!("{local} protocol {}{to}", socket.number),
        (_, Some(local), _) => format!("{local}{to}"),
        (_, None, Some(name)) => name.clone(),
        (SocketProtocol::Packet, ..) => format!("EtherType {:#06x}", socket.number),
        (SocketProtocol::Netlink, ..) => format!("netlink family {}", socket.number),
        _ => format!("inode {}", socket.inode),
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, SocketMemory};

    use super::*;
    use crate::sample;

    fn all(namespaces: &[Namespace]) -> Vec<Queue> {
        let window = ReportWindow { start: String::new(), seconds: 1.0 };
        queues(namespaces, window, Vec::new()).queues
    }

    fn udp(rcvbuf: u32, rmem_alloc: u32, drops: u64) -> Socket {
        Socket {
            memory: Some(SocketMemory { rcvbuf, rmem_alloc, ..SocketMemory::default() }),
            drops: Pair { before: 0, after: drops },
            ..Socket::new(SocketProtocol::Udp)
        }
    }

    #[test]
    fn losses_come_first_then_the_fullest() {
        let mut namespace = Namespace { own: true, ..Namespace::default() };
        namespace.sysctls.insert("net.core.somaxconn".into(), "128".into());
        namespace.sysctls.insert("net.core.rmem_default".into(), "212992".into());
        namespace.sysctls.insert("net.core.rmem_max".into(), "500000".into());
        namespace.listeners = vec![
            sample::listener(128, 0, &[(0, 129, 0), (100, 3, 0)]),
            sample::listener(5, 0, &[(0, 1, 0)]),
        ];
        namespace.sockets = vec![udp(4608, 0, 7), udp(212_992, 2000, 0), udp(1_000_000, 0, 0)];
        let told: Vec<_> = all(&[namespace])
            .into_iter()
            .map(|it| (it.queued, it.percent(), it.drops, it.bound_by.unwrap()))
            .collect();
        let expected = [
            (0, Some(0), 7, "SO_RCVBUF 2304"),
            (3, Some(100), 0, "net.core.somaxconn"),
            (1, Some(20), 0, "listen(fd, 5)"),
            (2000, Some(0), 0, "net.core.rmem_default"),
            (0, Some(0), 0, "net.core.rmem_max"),
        ];
        assert_eq!(told, expected.map(|it| (it.0, it.1, it.2, it.3.to_owned())));
    }

    #[test]
    fn settings_of_the_host_hold_where_a_namespace_has_none() {
        let mut host = Namespace { own: true, ..Namespace::default() };
        host.sysctls.insert("net.core.rmem_default".into(), "4096".into());
        let inner = Namespace { inode: 7, sockets: vec![udp(4096, 0, 0)], ..Namespace::default() };
        assert_eq!(all(&[host, inner])[0].bound_by.as_deref(), Some("net.core.rmem_default"));
    }

    #[test]
    fn every_kind_has_a_name() {
        let mut raw = Socket::new(SocketProtocol::Raw);
        raw.local = Some(
            "0.0.0.0"
                .parse()
                .map(|address| whydrop_model::Endpoint { address, port: None })
                .unwrap(),
        );
        raw.number = 1;
        let mut packet = Socket::new(SocketProtocol::Packet);
        packet.number = 3;
        let mut unix = Socket::new(SocketProtocol::Unix);
        unix.name = Some("@x".into());
        (unix.recv_queue, unix.send_queue) = (2, 1);
        let names = [&raw, &packet, &unix].map(local);
        assert_eq!(names, ["0.0.0.0 protocol 1", "EtherType 0x0003", "@x"]);
        let namespace = Namespace { sockets: vec![unix], ..Namespace::default() };
        let queue = &all(&[namespace])[0];
        assert_eq!((queue.listening, queue.queued, queue.limit), (true, 2, Some(1)));
        assert_eq!(queue.percent(), Some(200));
    }
}
