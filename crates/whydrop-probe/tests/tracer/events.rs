//! Tracepoints other than `skb:kfree_skb`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, sendto, socket};
use whydrop_model::{EventEvidence, EventExemplar, EventTotal};
use whydrop_probe::{Btf, EventCount, Events, Options, Tracer, VMLINUX_BTF};

use crate::pair::{A, ADDRESSES, B, NOBODY, Pair};
use crate::{turn, wait_until};

const TCP: Option<u8> = Some(6);

/// Listens while `traffic` runs and until `done` of what was counted so far; all namespaces count
/// as known.
fn listen(
    options: &Options,
    traffic: impl FnOnce(),
    done: impl Fn(&[EventCount]) -> bool,
) -> EventEvidence {
    let (mut events, not_checked) = Events::attach(options);
    assert_eq!(not_checked, []);
    events.open_window().expect("opened");
    traffic();
    wait_until(|| {
        events.drain();
        done(&events.counts().expect("counts"))
    });
    let evidence = events.finish(&|_| true).expect("finished");
    let sum: u64 = evidence.totals.iter().map(|total| total.packets).sum();
    let told = evidence.sampled + evidence.suppressed + evidence.ring_full;
    assert_eq!(sum, told, "the totals add up");
    evidence
}

fn counted(counts: &[EventCount], event: &str, netns: u64) -> u64 {
    let fitting = counts.iter().filter(|count| count.event == event && count.netns == netns);
    fitting.map(|count| count.packets).sum()
}

fn totals<'a>(evidence: &'a EventEvidence, event: &str, netns: u64) -> Vec<&'a EventTotal> {
    let totals = evidence.totals.iter();
    totals.filter(|total| total.event == event && total.netns == Some(netns)).collect()
}

fn exemplar<'a>(evidence: &'a EventEvidence, event: &str, netns: u64) -> &'a EventExemplar {
    let mut exemplars = evidence.exemplars.iter();
    exemplars
        .find(|exemplar| exemplar.event == event && exemplar.netns == Some(netns))
        .expect("an exemplar")
}

fn inode_of(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).expect("a file").st_ino
}

/// Connects from one end, in vain, for at most this long.
fn connect_in_vain(pair: &Pair, end: usize, to: SocketAddr, patience: Duration) {
    pair.at(end, || TcpStream::connect_timeout(&to, patience)).expect_err("nobody answers");
}

#[test]
fn a_peer_that_does_not_answer() {
    const EVENT: &str = "tcp:tcp_retransmit_skb";
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(A);
    let to: SocketAddr = format!("{NOBODY}:443").parse().expect("an address");
    // The first retransmission comes after a second, the next after two more.
    let traffic = || connect_in_vain(&pair, A, to, Duration::from_millis(3500));
    let evidence =
        listen(&Options::default(), traffic, |counts| counted(counts, EVENT, inode) >= 2);
    let found = totals(&evidence, EVENT, inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((&*total.code, total.family, total.l4), ("SYN_SENT", 2, TCP));
    assert_eq!((total.port, total.ifindex), (0, 0), "a client's port tells nothing");
    let retransmitted = pair.counter(A, "Tcp", "RetransSegs");
    assert_eq!(total.packets, retransmitted, "as the kernel counts them");
    let exemplar = exemplar(&evidence, EVENT, inode);
    let flow = exemplar.flow.as_ref().expect("a flow");
    assert_eq!(flow.source.address.to_string(), ADDRESSES[A]);
    assert_eq!(flow.destination.to_string(), format!("{NOBODY}:443"));
    let socket = exemplar.socket.expect("a socket");
    assert_eq!((socket.family, socket.state), (2, 2));
    assert!(socket.local_port >= 32768 && socket.inode != 0, "{socket:?}");
}

#[test]
fn resets_of_both_ends() {
    const SENT: &str = "tcp:tcp_send_reset";
    const RECEIVED: &str = "tcp:tcp_receive_reset";
    const PORT: u16 = 4245;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    pair.with_ipv6();
    let (a, b) = (pair.inode(A), pair.inode(B));
    let traffic = || {
        pair.connect(&format!("{}:{PORT}", ADDRESSES[B]));
        pair.connect(&format!("[fd99::2]:{PORT}"));
        // Closed with data unread: a reset that answers no packet.
        let listener = pair.at(B, || TcpListener::bind((ADDRESSES[B], 0)).expect("a listener"));
        let to = listener.local_addr().expect("an address");
        let mut client = pair.at(A, || TcpStream::connect(to).expect("connected"));
        let (server, _) = listener.accept().expect("accepted");
        client.write_all(b"never read").expect("written");
        server.peek(&mut [0]).expect("arrived");
        drop(server);
    };
    let evidence = listen(&Options::default(), traffic, |counts| {
        counted(counts, SENT, b) >= 3 && counted(counts, RECEIVED, a) >= 3
    });
    // Reasons came with 6.10; without them there is no code.
    let btf = Btf::read(VMLINUX_BTF.as_ref()).expect("BTF");
    let has_reason = btf.tracepoint_arguments("tcp_send_reset") >= Some(3);
    let code = |name: &'static str| if has_reason { name } else { "" };
    let sent = totals(&evidence, SENT, b);
    for family in [2, 10] {
        let refused: Vec<_> = sent
            .iter()
            .filter(|total| total.port == PORT && total.family == family)
            .map(|total| (&*total.code, total.l4, total.ifindex, total.packets))
            .collect();
        assert_eq!(refused, [(code("NO_SOCKET"), TCP, pair.ifindex(B), 1)], "{sent:?}");
    }
    let closed: u64 = sent
        .iter()
        .filter(|total| total.port != PORT && total.code == code("TCP_ABORT_ON_CLOSE"))
        .map(|total| total.packets)
        .sum();
    assert_eq!(closed, 1, "{sent:?}");
    let six = evidence
        .exemplars
        .iter()
        .filter(|exemplar| exemplar.event == SENT && exemplar.netns == Some(b))
        .filter_map(|exemplar| exemplar.flow.as_ref())
        .find(|flow| flow.destination.to_string() == format!("[fd99::2]:{PORT}"));
    let flow = six.expect("an IPv6 exemplar");
    // The packet is the one that was answered.
    assert_eq!((&*flow.source.address.to_string(), &*flow.tcp_flag_letters()), ("fd99::1", "S"));
    let received = totals(&evidence, RECEIVED, a);
    let in_state = |code: &str| {
        let fitting = received.iter().filter(|total| total.code == code);
        fitting.map(|total| total.packets).sum::<u64>()
    };
    assert_eq!((in_state("SYN_SENT"), in_state("ESTABLISHED")), (2, 1), "{received:?}");
    let flow = exemplar(&evidence, RECEIVED, a).flow.as_ref().expect("a flow");
    assert!(flow.source.port.is_some_and(|port| port == PORT), "from the peer: {flow:?}");
}

#[test]
fn a_datagram_socket_that_nobody_reads() {
    const EVENT: &str = "udp:udp_fail_queue_rcv_skb";
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let receiver = pair.at(B, || UdpSocket::bind((ADDRESSES[B], 0)).expect("a socket"));
    set_socket_recv_buffer_size(&receiver, 1).expect("a small buffer");
    let to = receiver.local_addr().expect("an address");
    let refused = || pair.counter(B, "Udp", "RcvbufErrors");
    let traffic = || pair.send(&to.to_string(), 500);
    let evidence = listen(&Options::default(), traffic, |counts| {
        let refused = refused();
        refused > 400 && counted(counts, EVENT, inode) >= refused
    });
    let found = totals(&evidence, EVENT, inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((&*total.code, total.port, total.l4), ("ENOMEM", to.port(), Some(17)));
    assert_eq!(total.packets, refused());
    let socket = exemplar(&evidence, EVENT, inode).socket.expect("a socket");
    assert_eq!((socket.local_port, socket.inode), (to.port(), inode_of(&receiver)));
    assert!(evidence.exemplars.len() < 100, "{} exemplars", evidence.exemplars.len());
}

/// Few sockets still come by here: UDP has a tracepoint of its own, and raw sockets that are full are
/// passed over before it.
#[test]
fn a_ping_socket_that_nobody_reads() {
    const EVENT: &str = "sock:sock_rcvqueue_full";
    const ICMP: u8 = 1;
    const SENT: u64 = 300;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    pair.output(B, &["sysctl", "-qw", "net.ipv4.ping_group_range=0 0"]);
    let receiver = pair.at(B, || {
        let protocol = NonZero::new(ICMP.into()).map(Protocol::from_raw);
        socket(AddressFamily::INET, SocketType::DGRAM, protocol).expect("a ping socket")
    });
    set_socket_recv_buffer_size(&receiver, 1).expect("a small buffer");
    let to = SocketAddrV4::new(ADDRESSES[A].parse().expect("an address"), 0);
    let traffic = || {
        for _ in 0..SENT {
            sendto(&receiver, &[8, 0, 0, 0, 0, 0, 0, 0], SendFlags::empty(), &to).expect("sent");
        }
    };
    let evidence =
        listen(&Options::default(), traffic, |counts| counted(counts, EVENT, inode) > 250);
    let found = totals(&evidence, EVENT, inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((total.family, total.l4, total.ifindex), (2, Some(ICMP), pair.ifindex(B)));
    assert!((250..SENT).contains(&total.packets), "{total:?}");
    let exemplar = exemplar(&evidence, EVENT, inode);
    assert_eq!(exemplar.device.as_deref(), Some("veth0"));
    let flow = exemplar.flow.as_ref().expect("a flow");
    assert_eq!((&*flow.source.address.to_string(), flow.icmp), (ADDRESSES[A], Some((0, 0))));
    assert_eq!(exemplar.socket.expect("a socket").inode, inode_of(&receiver));
}

#[test]
fn a_neighbour_that_does_not_answer() {
    const EVENT: &str = "neigh:neigh_timer_handler";
    const ABSENT: &str = "10.99.0.78";
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(A);
    let traffic = || pair.send(&format!("{ABSENT}:9"), 1);
    let evidence =
        listen(&Options::default(), traffic, |counts| counted(counts, EVENT, inode) >= 1);
    let found = totals(&evidence, EVENT, inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((total.family, total.ifindex, total.packets), (2, pair.ifindex(A), 1));
    let exemplar = exemplar(&evidence, EVENT, inode);
    assert_eq!(exemplar.neighbour.map(|address| address.to_string()).as_deref(), Some(ABSENT));
    assert_eq!((exemplar.device.as_deref(), &exemplar.flow), (Some("veth0"), &None));
}

/// Threads that poll a device of that name, by process number.
fn pollers() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter(|process| {
            let name = fs::read_to_string(process.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("napi/veth0-"))
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The device's poller only gets what the senders leave of the CPUs, so that its queue fills up.
#[test]
fn polls_that_use_up_their_budget() {
    const EVENT: &str = "napi:napi_poll";
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let others = pollers();
    // With GRO a veth device has a poller of its own, here on a thread. It gets what a device
    // without TSO sends.
    assert_eq!(
        pair.output(A, &["sh", "-c", "ethtool -K veth0 tso off && echo ready"]).trim(),
        "ready"
    );
    let prepare = "ethtool -K veth0 gro on && echo 1 > /sys/class/net/veth0/threaded && echo ready";
    assert_eq!(pair.output(B, &["sh", "-c", prepare]).trim(), "ready", "ethtool");
    for poller in pollers().difference(&others) {
        let idle = Command::new("chrt").args(["--idle", "--pid", "0", poller]).status();
        assert!(idle.expect("util-linux").success());
    }
    let cpus = thread::available_parallelism().expect("CPUs").get();
    let traffic = || {
        thread::scope(|scope| {
            for _ in 0..2 * cpus {
                scope.spawn(|| pair.send(&format!("{}:9", ADDRESSES[B]), 50_000));
            }
        });
    };
    let options = Options { polls: true, ..Options::default() };
    let evidence = listen(&options, traffic, |counts| counted(counts, EVENT, inode) >= 1);
    let found = totals(&evidence, EVENT, inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((&*total.code, total.ifindex, total.family), ("64", pair.ifindex(B), 0));
    let polls = evidence.exemplars.iter().filter(|exemplar| exemplar.netns == Some(inode));
    for exemplar in polls.filter(|exemplar| exemplar.event == EVENT) {
        assert_eq!((exemplar.device.as_deref(), &exemplar.flow), (Some("veth0"), &None));
    }
}

#[test]
fn a_full_part_of_the_table_spills_and_the_others_keep_their_places() {
    const SENT: &str = "tcp:tcp_send_reset";
    const RECEIVED: &str = "tcp:tcp_receive_reset";
    const PORTS: std::ops::Range<u16> = 5000..5060;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let (a, b) = (pair.inode(A), pair.inode(B));
    let connections = PORTS.len() as u64;
    let traffic = || {
        for port in PORTS {
            pair.connect(&format!("{}:{port}", ADDRESSES[B]));
        }
    };
    let options = Options { buckets: Some(1), ..Options::default() };
    let evidence = listen(&options, traffic, |counts| counted(counts, RECEIVED, a) >= connections);
    let packets = |totals: &[&EventTotal]| totals.iter().map(|total| total.packets).sum::<u64>();
    let kept = packets(&totals(&evidence, SENT, b));
    let spilled: Vec<_> = evidence
        .totals
        .iter()
        .filter(|total| total.event == SENT && total.netns.is_none() && total.port == 0)
        .collect();
    assert!(kept > 0 && !spilled.is_empty(), "{:?}", evidence.totals);
    // Resets elsewhere on the host may spill too.
    assert!(kept + packets(&spilled) >= connections, "{kept} and {spilled:?}");
    assert_eq!(evidence.spilled, packets(&spilled));
    assert_eq!(packets(&totals(&evidence, RECEIVED, a)), connections);
}

#[test]
fn only_the_window_counts_events() {
    const EVENT: &str = "tcp:tcp_send_reset";
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let to = format!("{}:4246", ADDRESSES[B]);
    let (mut events, _) = Events::attach(&Options::default());
    let count = |events: &Events| counted(&events.counts().expect("counts"), EVENT, inode);
    pair.connect(&to);
    assert_eq!(count(&events), 0, "not open yet");
    events.open_window().expect("opened");
    pair.connect(&to);
    assert_eq!(count(&events), 1);
    events.close_window().expect("closed");
    pair.connect(&to);
    assert_eq!(count(&events), 1, "closed");
}

/// What is attached is what the kernel's own list of types has, and both objects live side by side.
#[test]
fn every_tracepoint_of_this_kernel_is_listened_to() {
    let Some(_turn) = turn() else { return };
    let options = Options { polls: true, ..Options::default() };
    let (tracer, mut events, not_checked) = Tracer::attach_with_events(&options);
    let tracer = tracer.expect("attached");
    assert_eq!(not_checked, []);
    let held = crate::life::held_by(std::process::id());
    events.open_window().expect("opened");
    assert_eq!(tracer.counts().expect("counts").events(), 0);
    let programs = events.run_stats().expect("stats").len();
    let evidence = events.finish(&|_| true).expect("finished");
    assert_eq!(programs, evidence.attached.len());
    assert_eq!(held.len(), programs + 1, "and the tracer");
    let names: BTreeSet<_> = evidence.attached.iter().chain(&evidence.absent).collect();
    assert_eq!(names.len(), 15);
    let btf = Btf::read(VMLINUX_BTF.as_ref()).expect("BTF");
    let has = |full: &String| {
        let (_, name) = full.split_once(':').expect("a subsystem");
        btf.tracepoint_arguments(name).is_some()
    };
    assert!(evidence.attached.iter().all(has), "{:?}", evidence.attached);
    assert!(!evidence.absent.iter().any(has), "{:?}", evidence.absent);
    drop(tracer);
    crate::life::assert_gone(&held);
}
