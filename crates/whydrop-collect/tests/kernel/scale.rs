//! A host with many namespaces, listeners and sockets: all are found, and what that costs is printed.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use whydrop_collect::{Options, Watch};
use whydrop_model::SocketProtocol;

use crate::netns::{Netns, only};
use crate::root;

const NAMESPACES: usize = 100;
const LISTENERS: usize = 100;
const WINDOW: Duration = Duration::from_secs(3);

/// As many namespaces as the tests are about, and room for the files that they take.
fn namespaces(tag: &str) -> Vec<Netns> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    (0..NAMESPACES).map(|at| Netns::new(&format!("{tag}{at}"))).collect()
}

/// CPU time that the observer's thread took so far.
fn observer_cpu() -> Duration {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm == "whydrop-collect\n") {
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap();
            return Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap());
        }
    }
    panic!("no observer runs");
}

#[test]
fn a_hundred_namespaces_of_a_hundred_listeners() {
    let Some(_turn) = root() else { return };
    let namespaces = namespaces("many");
    let listeners: Vec<TcpListener> = namespaces
        .iter()
        .flat_map(|netns| {
            netns.inside(|| {
                (0..LISTENERS)
                    .map(|at| TcpListener::bind(("127.0.0.1", 10_000 + at as u16)).unwrap())
                    .collect::<Vec<_>>()
            })
        })
        .collect();

    let all: Vec<&Netns> = namespaces.iter().collect();
    for options in [only(&all), Options::default()] {
        let started = Instant::now();
        let watch = Watch::open(options).unwrap();
        let opened = started.elapsed();
        let before = observer_cpu();
        // The time over which the cost is measured; nothing is awaited.
        std::thread::sleep(WINDOW);
        let share = observer_cpu().abs_diff(before).as_secs_f64() / WINDOW.as_secs_f64();
        let started = Instant::now();
        let observation = watch.close();
        let closed = started.elapsed();
        let found: usize = observation.namespaces.iter().map(|it| it.listeners.len()).sum();
        let looks: Vec<u32> = observation
            .namespaces
            .iter()
            .filter(|found| namespaces.iter().any(|made| Some(&made.0) == found.name.as_ref()))
            .flat_map(|namespace| &namespace.listeners)
            .map(|listener| listener.looks)
            .collect();
        let (fewest, most) = (looks.iter().min().unwrap(), looks.iter().max().unwrap());
        eprintln!(
            "opened in {opened:?}, closed in {closed:?}, {:.1} % of a CPU, \
             {fewest} to {most} looks in {WINDOW:?}",
            share * 100.0
        );
        assert!(found >= listeners.len());
        assert!(observation.namespaces.len() >= NAMESPACES);
        // What it costs is printed, not asserted: that is the machine's business as much as ours.
        assert!(*fewest >= 1, "a listener was never looked at");
        assert!(
            observation
                .not_checked
                .iter()
                .any(|it| it.what.starts_with("listen queues and UDP queues every"))
        );
    }
}

/// A number of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Listeners, unconnected UDP sockets and connections (two sockets each) of a namespace: 100 in all.
const MIX: (usize, usize, usize) = (20, 40, 20);

/// Sockets that stay open as long as what is returned.
fn populate(netns: &Netns) -> impl Sized {
    netns.inside(|| {
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = (0..MIX.0).map(bind).collect();
        let bind = |_| UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp: Vec<_> = (0..MIX.1).map(bind).collect();
        let connect = |_| {
            let client = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
            (client, listeners[0].accept().unwrap())
        };
        let connections: Vec<_> = (0..MIX.2).map(connect).collect();
        (listeners, udp, connections)
    })
}

/// Prints what a snapshot costs; asserts only that it is one of all sockets.
#[test]
fn a_hundred_namespaces_of_a_hundred_sockets_of_all_kinds() {
    let Some(_turn) = root() else { return };
    let namespaces = namespaces("mix");
    let sockets: Vec<_> = namespaces.iter().map(populate).collect();

    let all: Vec<&Netns> = namespaces.iter().collect();
    // Forgets the peak so far.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let resident = status("VmRSS");
    let started = Instant::now();
    let watch = Watch::open(only(&all)).unwrap();
    let opened = started.elapsed();
    let before = observer_cpu();
    // The time over which the cost is measured; nothing is awaited.
    std::thread::sleep(WINDOW);
    let share = observer_cpu().abs_diff(before).as_secs_f64() / WINDOW.as_secs_f64();
    let started = Instant::now();
    let observation = watch.close();
    let closed = started.elapsed();
    let told: usize = observation.namespaces.iter().map(|it| it.sockets.len()).sum();
    let looks = observation.namespaces.iter().flat_map(|it| &it.sockets).map(|it| it.looks);
    let json = serde_json::to_vec(&observation.namespaces).unwrap().len() / 1024;
    eprintln!(
        "opened in {opened:?}, closed in {closed:?}, {:.1} % of a CPU, up to {} looks in \
         {WINDOW:?}; {} KiB more memory at the peak; {told} sockets told, all in {json} KiB of JSON",
        share * 100.0,
        looks.max().unwrap(),
        status("VmHWM") - resident,
    );
    // The observer's own netlink sockets are none of these.
    let counted: u32 = observation
        .namespaces
        .iter()
        .flat_map(|it| &it.socket_counts)
        .filter(|it| it.protocol != SocketProtocol::Netlink)
        .map(|it| it.sockets)
        .sum();
    assert_eq!(counted as usize, NAMESPACES * (MIX.1 + MIX.2 * 2));
    assert_eq!(told, NAMESPACES * MIX.1, "connections are counted only");
    let rare = observation.not_checked.iter().find(|it| it.what.contains("UDP queues every"));
    let sockets_told = format!("{} UDP sockets", NAMESPACES * MIX.1);
    assert!(rare.is_some_and(|it| it.why.contains(&sockets_told)), "{rare:?}");
    drop(sockets);
}

/// Likewise of a host with one namespace.
#[test]
fn one_namespace_of_a_hundred_sockets() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("one");
    let sockets = populate(&netns);
    for round in 1..=3 {
        let started = Instant::now();
        let watch = Watch::open(only(&[&netns])).unwrap();
        let opened = started.elapsed();
        let started = Instant::now();
        let observation = watch.close();
        eprintln!("round {round}: opened in {opened:?}, closed in {:?}", started.elapsed());
        assert_eq!(observation.namespaces[0].sockets.len(), MIX.1);
        assert_eq!(observation.namespaces[0].listeners.len(), MIX.0);
    }
    drop(sockets);
}
