//! Listen queues: full ones, those of several processes, and what a namespace asked for by name is.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use whydrop_collect::{Error, Options, Watch};

use crate::netns::{Netns, find, observe, serve, wait_for};
use crate::root;

/// Starts connections without waiting for any.
fn connect(netns: &Netns, address: &str, count: usize) -> Vec<Socket> {
    let address: SocketAddr = address.parse().unwrap();
    netns.inside(|| {
        (0..count)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let begun = socket.connect(&address.into()).unwrap_err();
                assert_eq!(
                    begun.raw_os_error(),
                    Some(rustix::io::Errno::INPROGRESS.raw_os_error())
                );
                socket
            })
            .collect()
    })
}

/// A counter of the namespace in which a process lives.
fn counter(pid: u32, wanted: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/netstat")).unwrap();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        for (name, value) in names.split(' ').zip(values.split(' ')) {
            if name == wanted {
                return value.parse().unwrap();
            }
        }
    }
    panic!("no counter {wanted}");
}

#[test]
fn a_full_queue_of_a_stopped_server_tells_all() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("full");
    let server = serve(&netns, 8080, 1);
    kill_process(Pid::from_child(&server.0), Signal::STOP).unwrap();
    let mut clients = Vec::new();
    let observation = observe(&[&netns], || {
        clients = connect(&netns, "127.0.0.1:8080", 9);
        wait_for("overflows", Duration::from_secs(5), || {
            counter(server.pid(), "ListenOverflows") >= 9
        });
    });
    let namespace = find(&observation, netns.inode());
    let [listener] = &namespace.listeners[..] else { panic!("{:?}", namespace.listeners) };
    assert_eq!((listener.port, listener.address.to_string().as_str()), (8080, "0.0.0.0"));
    assert_eq!((listener.backlog.before, listener.backlog.after), (1, 1));
    assert_eq!(listener.peak(), 2, "one more than the backlog");
    assert_eq!(listener.steps.last().unwrap().queued, 2);
    assert_eq!(Some(listener.drops.delta()), namespace.delta("TcpExt.ListenDrops"));
    assert!(listener.drops.delta() >= 9);
    assert!(listener.half_open_peak.is_some(), "SYNs were refused, so it was worth counting");
    assert!(listener.looks >= 2);
    let [owner] = &listener.owners[..] else { panic!("{:?}", listener.owners) };
    assert_eq!((owner.pid, owner.comm.as_str(), owner.state), (server.pid(), "perl", 'T'));
    assert_eq!(owner.program.as_deref(), Some("server.pl"));
    assert_eq!(observation.not_checked, []);
}

#[test]
fn a_quiet_listener_is_looked_at_and_left_alone() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("quiet");
    let server = serve(&netns, 8081, 5);
    let observation = observe(&[&netns], || {});
    let listener = &find(&observation, netns.inode()).listeners[0];
    assert_eq!(listener.steps.len(), 1, "{:?}", listener.steps);
    assert_eq!((listener.steps[0].queued, listener.drops.delta()), (0, 0));
    assert_eq!(listener.half_open_peak, None, "not worth its price");
    assert_eq!(listener.owners[0].pid, server.pid());
    assert_eq!(listener.owners[0].state, 'S');
}

#[test]
fn half_open_connections_are_counted() {
    let Some(_turn) = root() else { return };
    let (netns, peer) = (Netns::new("half-a"), Netns::new("half-b"));
    netns.ip(&format!("link add wd0 type veth peer name wd1 netns {}", peer.0));
    for (netns, device, address) in
        [(&netns, "wd0", "192.0.2.1/24"), (&peer, "wd1", "192.0.2.2/24")]
    {
        netns.ip(&format!("addr add {address} dev {device}"));
        netns.ip(&format!("link set {device} up"));
    }
    // The peer never gets an answer, so what it begins stays half open. The server keeps as many as
    // its backlog (one more on some kernels); for the rest it sends cookies or refuses them.
    netns.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:99 dev wd0 nud permanent");
    for (port, cookies, moved) in [(8082, 0, "ListenDrops"), (8083, 1, "SyncookiesSent")] {
        netns.exec(&["sysctl", "-qw", &format!("net.ipv4.tcp_syncookies={cookies}")]);
        let server = serve(&netns, port, 4);
        let mut clients = Vec::new();
        let observation = observe(&[&netns], || {
            clients = connect(&peer, &format!("192.0.2.1:{port}"), 30);
            wait_for(moved, Duration::from_secs(5), || counter(server.pid(), moved) >= 25);
        });
        let listener = &find(&observation, netns.inode()).listeners[0];
        let peak = listener.half_open_peak;
        assert!(peak.is_some_and(|peak| peak == 4 || peak == 5), "{moved}: {listener:?}");
    }
}

#[test]
fn an_unknown_name_is_an_error_that_names_it() {
    let options = Options { netns: vec!["wdcol-none".into()], ..Options::default() };
    let error = Watch::open(options).unwrap_err();
    assert!(matches!(&error, Error::UnknownNamespace { name } if name == "wdcol-none"));
    assert!(error.to_string().contains("ip netns list"));
}
