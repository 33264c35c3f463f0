//! Sockets, their queues and drops, against `ss` and the tables of `/proc`.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use whydrop_collect::Watch;
use whydrop_model::{Namespace, Socket, SocketProtocol, SocketState};

use crate::netns::{Netns, find, observe, only, wait_for};
use crate::root;

const SOON: Duration = Duration::from_secs(5);
/// Size of a receive buffer that a few datagrams fill; the kernel makes it of half of that.
const SMALL: u32 = 4608;

fn of(namespace: &Namespace, protocol: SocketProtocol) -> Vec<&Socket> {
    namespace.sockets.iter().filter(|socket| socket.protocol == protocol).collect()
}

/// A UDP socket whose buffer holds a few datagrams, bound inside.
fn small(address: &str) -> UdpSocket {
    let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL as usize / 2).unwrap();
    socket.bind(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.into()
}

fn send(netns: &Netns, to: &str, datagrams: usize) {
    netns.inside(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..datagrams {
            socket.send_to(&[0; 100], to).unwrap();
        }
    });
}

/// The last column of a socket's line in a table of `/proc/net`.
fn drops_in(netns: &Netns, table: &str, inode: u64) -> u64 {
    let text = netns.exec(&["cat", &format!("/proc/net/{table}")]);
    let inode = inode.to_string();
    let line = text.lines().find(|line| line.split_whitespace().any(|word| word == inode)).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// The number after a name in the `skmem:(...)` of `ss -m`.
fn skmem(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once("skmem:(").unwrap();
    let (fields, _) = rest.split_once(')').unwrap();
    fields
        .split(',')
        .find_map(|field| field.strip_prefix(name)?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// What `ss` prints of a socket, on one line.
fn ss(netns: &Netns, kinds: &str, inode: u64) -> String {
    let text = netns.exec(&["ss", "-HOname", "-A", kinds]);
    let inode = format!("ino:{inode} ");
    let found = text.lines().find(|line| line.contains(&inode));
    found.unwrap_or_else(|| panic!("no {inode} in {text}")).to_owned()
}

fn same_as_ss(socket: &Socket, line: &str) {
    let memory = socket.memory.unwrap();
    for (name, ours) in [
        ("r", memory.rmem_alloc),
        ("rb", memory.rcvbuf),
        ("t", memory.wmem_alloc),
        ("tb", memory.sndbuf),
        ("f", memory.fwd_alloc),
        ("w", memory.wmem_queued),
        ("o", memory.optmem),
        ("bl", memory.backlog),
    ] {
        assert_eq!(skmem(line, name), u64::from(ours), "{name} in {line}");
    }
    assert_eq!(skmem(line, "d"), socket.drops.after, "{line}");
    assert!(line.contains(&format!("sk:{:x}", socket.cookie)), "{} in {line}", socket.cookie);
}

#[test]
fn a_udp_socket_that_nobody_reads_tells_all() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("udp");
    let (full, quiet, linked) = netns.inside(|| {
        let linked = UdpSocket::bind("127.0.0.1:5001").unwrap();
        linked.connect("127.0.0.1:5002").unwrap();
        (small("127.0.0.1:5000"), UdpSocket::bind("[::]:5002").unwrap(), linked)
    });
    send(&netns, "127.0.0.1:5000", 20);
    let observation = observe(&[&netns], || send(&netns, "127.0.0.1:5000", 30));
    let namespace = find(&observation, netns.inode());
    let udp = of(namespace, SocketProtocol::Udp);
    let ports: Vec<_> = udp.iter().map(|it| it.local.unwrap().port.unwrap()).collect();
    assert_eq!(ports, [5000, 5002, 5001], "the connected one last");

    let socket = udp[0];
    assert_eq!((socket.state, socket.remote), (SocketState::Close, None));
    assert_eq!(socket.drops.delta32(), 30, "full before the window opened");
    assert!(socket.drops.before > 0);
    assert_eq!(drops_in(&netns, "udp", socket.inode), socket.drops.after);
    assert_eq!(namespace.delta("Udp.RcvbufErrors"), Some(30));
    let memory = socket.memory.unwrap();
    assert_eq!(memory.rcvbuf, SMALL);
    assert!(socket.peak() > SMALL * 3 / 4 && socket.peak() <= SMALL, "{}", socket.peak());
    assert!(socket.looks >= 2);
    assert_eq!(socket.steps[0].drops, socket.drops.before);
    assert_eq!(socket.steps.last().unwrap().drops, socket.drops.after);
    let window = observation.length.as_millis() as u64;
    // The last look comes just after the window's end.
    assert!(socket.longest_at_least(socket.peak(), window) >= window - socket.steps[0].at_ms);
    let line = ss(&netns, "udp", socket.inode);
    same_as_ss(socket, &line);
    assert!(line.contains(&format!(" {} ", socket.recv_queue)), "{line}");
    assert_eq!(socket.uid, Some(0));

    let [owner] = &socket.owners[..] else { panic!("{:?}", socket.owners) };
    assert_eq!(owner.pid, std::process::id());
    assert!(owner.cgroup.is_some());
    let files = owner.files.unwrap();
    assert!(files.open > 3 && files.limit.is_some_and(|limit| limit > files.open), "{files:?}");
    assert!(owner.run_delay_ns.is_some());

    same_as_ss(udp[1], &ss(&netns, "udp", udp[1].inode));
    assert_eq!((udp[1].recv_queue, udp[1].drops.delta32()), (0, 0));
    assert_eq!(udp[1].local.unwrap().to_string(), "[::]:5002");
    let counted: Vec<_> = namespace
        .socket_counts
        .iter()
        .filter(|it| it.protocol == SocketProtocol::Udp)
        .map(|it| (it.state, it.sockets))
        .collect();
    assert_eq!(counted, [(SocketState::Established, 1), (SocketState::Close, 2)]);
    let names: Vec<_> = observation.protocol_memory.iter().map(|it| &it.protocol).collect();
    assert_eq!(names, ["TCP", "UDP"]);
    assert!(observation.protocol_memory.iter().all(|it| it.looks >= 2 && it.limits.is_some()));
    assert_eq!(observation.not_checked, []);
    drop((full, quiet, linked));
}

#[test]
fn a_queue_that_fills_and_is_read_again_is_seen_in_between() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("burst");
    let socket = netns.inside(|| small("127.0.0.1:5000"));
    let options =
        whydrop_collect::Options { look_every: Duration::from_millis(10), ..only(&[&netns]) };
    let watch = Watch::open(options).unwrap();
    send(&netns, "127.0.0.1:5000", 10);
    // The observer sleeps after each look, and a few times within one at most.
    let before = observer_sleeps();
    wait_for("a look", SOON, || observer_sleeps() > before + 20);
    let mut datagram = [0; 200];
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut datagram).is_ok() {}
    let observation = watch.close();
    let namespace = find(&observation, netns.inode());
    let [udp] = of(namespace, SocketProtocol::Udp)[..] else { panic!("{:?}", namespace.sockets) };
    assert_eq!((udp.recv_queue, udp.memory.unwrap().rmem_alloc), (0, 0), "read to its end");
    assert!(udp.peak() > SMALL * 3 / 4, "{:?}", udp.steps);
    assert!(udp.drops.delta32() > 0);
    assert_eq!(udp.steps.last().unwrap().queued, 0);
    assert_eq!(udp.owners[0].pid, std::process::id());
}

/// How often the observer's thread went to sleep so far.
fn observer_sleeps() -> u64 {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm == "whydrop-collect\n") {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let count = status.lines().find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
            return count.unwrap().trim().parse().unwrap();
        }
    }
    panic!("no observer runs");
}

#[test]
fn packet_raw_netlink_and_unix_sockets_are_told_with_their_drops() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("kinds");
    let path = std::env::temp_dir().join(format!("{}.sock", netns.0));
    let (packet, raw, news, unix, clients) = netns.inside(|| {
        // ETH_P_ALL in network byte order.
        let packet = socket2::Socket::new(
            Domain::PACKET,
            Type::RAW,
            Some(Protocol::from(i32::from(3_u16.to_be()))),
        )
        .unwrap();
        let raw = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        for socket in [&packet, &raw] {
            socket.set_recv_buffer_size(SMALL as usize / 2).unwrap();
        }
        let news = news();
        let unix = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&unix, 1).unwrap();
        let clients = [(), ()].map(|()| UnixStream::connect(&path).unwrap());
        (packet, raw, news, unix, clients)
    });
    let observation = observe(&[&netns], || {
        send(&netns, "127.0.0.1:9", 40);
        netns.exec(&["ping", "-q", "-c", "20", "-i", "0.01", "127.0.0.1"]);
        for mtu in 6000..6020 {
            netns.ip(&format!("link set lo mtu {mtu}"));
        }
    });
    let namespace = find(&observation, netns.inode());

    let [seen] = of(namespace, SocketProtocol::Packet)[..] else { panic!("one packet socket") };
    assert_eq!((seen.number, seen.memory.unwrap().rcvbuf), (3, SMALL));
    assert!(seen.drops.delta32() > 40, "{:?}", seen.drops);
    same_as_ss(seen, &ss(&netns, "packet", seen.inode));

    let [seen] = of(namespace, SocketProtocol::Raw)[..] else { panic!("one raw socket") };
    assert_eq!((seen.number, seen.local.unwrap().port), (1, None));
    assert!(seen.drops.delta32() >= 20 && seen.recv_queue > 0, "{:?}", seen.drops);
    assert_eq!(drops_in(&netns, "raw", seen.inode), seen.drops.after);

    let [seen] = of(namespace, SocketProtocol::Netlink)[..] else { panic!("one netlink socket") };
    assert_eq!(seen.number, 0, "routes");
    assert!(seen.drops.delta32() > 0);

    let [seen] = of(namespace, SocketProtocol::Unix)[..] else { panic!("one unix listener") };
    assert_eq!(seen.name.as_deref(), path.to_str());
    assert_eq!((seen.recv_queue, seen.send_queue), (2, 1));
    let shown = netns.exec(&["ss", "-Hxln"]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[1..5], ["LISTEN", "2", "1", path.to_str().unwrap()], "{shown}");

    for socket in &namespace.sockets {
        let [owner] = &socket.owners[..] else { panic!("{socket:?}") };
        assert_eq!(owner.pid, std::process::id(), "{:?}", socket.protocol);
    }
    assert_eq!(observation.not_checked, []);
    drop((packet, raw, news, unix, clients));
    fs::remove_file(path).unwrap();
}

/// A socket that hears of every change of a device, with a small buffer.
fn news() -> rustix::fd::OwnedFd {
    use rustix::net::{self, AddressFamily, SocketType, netlink};
    let socket = net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    // RTMGRP_LINK
    net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 1)).unwrap();
    net::sockopt::set_socket_recv_buffer_size(&socket, SMALL as usize / 2).unwrap();
    socket
}

#[test]
fn retransmits_are_told_by_peer() {
    let Some(_turn) = root() else { return };
    let (near, far) = (Netns::new("tcp-a"), Netns::new("tcp-b"));
    near.ip(&format!("link add wd0 type veth peer name wd1 netns {}", far.0));
    for (netns, device, host) in [(&near, "wd0", 1), (&far, "wd1", 2)] {
        for network in ["192.0.2", "198.51.100"] {
            netns.ip(&format!("addr add {network}.{host}/24 dev {device}"));
        }
        netns.ip(&format!("link set {device} up"));
    }
    let listener = far.inside(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let clients = near.inside(|| {
        ["192.0.2.2:8080", "198.51.100.2:8080"].map(|to| TcpStream::connect(to).unwrap())
    });
    let servers = [(), ()].map(|()| listener.accept().unwrap().0);
    // From here on nothing sent to the first address is taken any more.
    far.ip("addr del 192.0.2.2/24 dev wd1");
    let observation = observe(&[&near], || {
        use std::io::Write as _;
        for mut client in &clients {
            client.write_all(b"hello").unwrap();
        }
        wait_for("retransmits", SOON, || near.exec(&["ss", "-Htin"]).contains("retrans:"));
    });
    let namespace = find(&observation, near.inode());
    let peers = namespace.tcp_peers.as_ref().unwrap();
    assert_eq!((peers.sockets, peers.retransmitting), (2, 1));
    assert_eq!((peers.prefixes, peers.prefixes_retransmitting), (2, 1));
    assert!(peers.retransmits >= 1);
    let [worst] = &peers.worst[..] else { panic!("{peers:?}") };
    assert_eq!((worst.address.to_string().as_str(), worst.length), ("192.0.2.0", 24));
    assert_eq!((worst.sockets, worst.retransmits), (1, peers.retransmits));
    let [socket] = of(namespace, SocketProtocol::Tcp)[..] else {
        panic!("{:?}", namespace.sockets)
    };
    assert_eq!(socket.remote.unwrap().to_string(), "192.0.2.2:8080");
    assert_eq!(socket.state, SocketState::Established);
    assert_eq!(socket.tcp.unwrap().total_retrans.delta32(), peers.retransmits);
    assert_eq!(Some(peers.retransmits), namespace.delta("Tcp.RetransSegs"));
    drop(servers);
}
