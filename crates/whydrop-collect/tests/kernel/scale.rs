//! A host with many namespaces and listeners stays cheap to watch.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use whydrop_collect::{Options, Watch};

use crate::netns::{Netns, only};
use crate::root;

const NAMESPACES: usize = 100;
const LISTENERS: usize = 100;
const WINDOW: Duration = Duration::from_secs(3);

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
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    let namespaces: Vec<Netns> =
        (0..NAMESPACES).map(|at| Netns::new(&format!("many{at}"))).collect();
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
        assert!(opened < Duration::from_secs(1), "opened in {opened:?}");
        // 5 % for the looks; the rest is one search for owners, in a build without optimisation.
        assert!(share < 0.15, "{:.1} % of a CPU", share * 100.0);
        assert!(*fewest >= 3, "{fewest} looks");
        assert!(
            observation.not_checked.iter().any(|it| it.what.starts_with("listen queues every"))
        );
    }
}
