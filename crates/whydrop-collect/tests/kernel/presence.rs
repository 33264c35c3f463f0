//! Namespaces that come and go, and those without a name.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use whydrop_collect::{Options, Roots, Watch, namespaces};
use whydrop_model::Presence;

use crate::netns::{Netns, Running, find, is_held, only, run, wait_for};
use crate::root;

const SOON: Duration = Duration::from_secs(5);

/// Makes `Udp.NoPorts` grow.
fn send_to_nobody(netns: &Netns, packets: usize) {
    netns.inside(|| {
        for _ in 0..packets {
            // A fresh socket each time: the refusal is told to the next sender on the same one.
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
        }
    });
}

#[test]
fn a_namespace_that_appears_counts_from_zero() {
    let Some(_turn) = root() else { return };
    let watch = Watch::open(Options::default()).unwrap();
    let netns = Netns::new("born");
    send_to_nobody(&netns, 3);
    let listener = netns.inside(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    wait_for("the namespace to be found", SOON, || is_held(netns.inode()));
    send_to_nobody(&netns, 4);
    let observation = watch.close();
    drop(listener);
    let found = find(&observation, netns.inode());
    assert_eq!(found.presence, Presence::Appeared);
    assert_eq!(found.name.as_deref(), Some(netns.0.as_str()));
    assert_eq!(found.delta("Udp.NoPorts"), Some(7));
    assert_eq!((found.links.len(), found.listeners.len()), (1, 1));
    assert!(found.sysctl("net.core.somaxconn").is_some());
}

#[test]
fn a_namespace_that_is_deleted_leaves_its_last_counters_and_is_let_go() {
    let Some(_turn) = root() else { return };
    let (doomed, rest) = (Netns::new("doomed"), Netns::new("rest"));
    rest.ip(&format!("link add wd0 type veth peer name wd1 netns {}", doomed.0));
    send_to_nobody(&doomed, 2);
    let inode = doomed.inode();
    let watch = Watch::open(only(&[&doomed, &rest])).unwrap();
    send_to_nobody(&doomed, 5);
    drop(doomed);
    // The kernel removes the other end when the namespace really ends.
    wait_for("the veth peer to vanish", Duration::from_secs(1), || {
        !rest.ip("-o link").contains("wd0")
    });
    assert!(!is_held(inode));
    let observation = watch.close();
    let found = find(&observation, inode);
    assert_eq!(found.presence, Presence::Vanished);
    assert_eq!(found.delta("Udp.NoPorts"), Some(5));
    assert!(found.links.iter().any(|link| link.name == "wd1"));
    assert_eq!(find(&observation, rest.inode()).presence, Presence::Whole);
    assert_eq!(observation.not_checked, []);
}

#[test]
fn a_namespace_may_come_and_go_within_the_window() {
    let Some(_turn) = root() else { return };
    let watch = Watch::open(Options::default()).unwrap();
    let netns = Netns::new("brief");
    let inode = netns.inode();
    send_to_nobody(&netns, 6);
    wait_for("the namespace to be found", SOON, || is_held(inode));
    drop(netns);
    wait_for("the namespace to be let go", SOON, || !is_held(inode));
    let observation = watch.close();
    let found = find(&observation, inode);
    assert_eq!(found.presence, Presence::Brief);
    assert_eq!(found.delta("Udp.NoPorts"), Some(6));
}

#[test]
fn a_name_taken_away_ends_nothing_while_a_process_stays() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("unnamed");
    let inode = netns.inode();
    let sleeper = Command::new("ip")
        .args(["netns", "exec", &netns.0, "sleep", "600"])
        .spawn()
        .map(Running)
        .unwrap();
    wait_for("the process to enter", SOON, || inode_of(sleeper.pid()) == Some(inode));
    let watch = Watch::open(only(&[&netns])).unwrap();
    drop(netns);
    let observation = watch.close();
    let found = find(&observation, inode);
    assert_eq!((found.presence, found.pid), (Presence::Whole, Some(sleeper.pid())));
}

fn inode_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|data| data.st_ino())
}

#[test]
fn a_namespace_held_by_a_process_alone_is_found_until_the_process_ends() {
    let Some(_turn) = root() else { return };
    let own = inode_of(std::process::id());
    assert!(own.is_some());
    let sleeper =
        Command::new("unshare").args(["-n", "sleep", "600"]).spawn().map(Running).unwrap();
    let pid = sleeper.pid();
    wait_for("the process to leave", SOON, || inode_of(pid).is_some() && inode_of(pid) != own);
    let inode = inode_of(pid).unwrap();

    let (list, _) = namespaces(&Roots::default()).unwrap();
    let listed = list.iter().find(|namespace| namespace.inode == inode).unwrap();
    assert_eq!((listed.pid, &listed.name, &listed.file), (Some(pid), &None, &None));

    let watch = Watch::open(Options::default()).unwrap();
    assert!(is_held(inode));
    sleeper.kill();
    wait_for("the namespace to be let go", SOON, || !is_held(inode));
    let observation = watch.close();
    let found = find(&observation, inode);
    assert_eq!((found.presence, found.pid, &found.name), (Presence::Vanished, Some(pid), &None));
    assert!(found.counters.contains_key("Tcp.InSegs"));
    assert_eq!(observation.namespaces[0].inode, own.unwrap());
    assert!(observation.namespaces[0].own);
}

/// A file on which a namespace is mounted; gone with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(netns: &Netns) -> Self {
        let folder = std::env::temp_dir().join(format!("{} held", netns.0));
        fs::create_dir(&folder).unwrap();
        let mount = Self(folder.join("somewhere"));
        fs::write(&mount.0, "").unwrap();
        run("mount", &["--bind", netns.path().to_str().unwrap(), mount.0.to_str().unwrap()]);
        mount
    }

    fn folder(&self) -> PathBuf {
        self.0.parent().unwrap().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = fs::remove_dir_all(self.folder());
    }
}

#[test]
fn a_namespace_held_by_a_mount_is_found_until_that_ends() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("mounted");
    let inode = netns.inode();
    let mount = Mount::new(&netns);
    drop(netns);

    let (list, _) = namespaces(&Roots::default()).unwrap();
    let listed = list.iter().find(|namespace| namespace.inode == inode).unwrap();
    assert_eq!((listed.pid, &listed.name, listed.file.as_ref()), (None, &None, Some(&mount.0)));

    // Docker's folder is such a place too, and its names can be asked for.
    let roots = Roots { docker_netns: mount.folder(), ..Roots::default() };
    let options = Options { netns: vec!["somewhere".into()], roots, ..Options::default() };
    let observation = Watch::open(options).unwrap().close();
    assert_eq!(find(&observation, inode).name, None, "`ip netns` does not know it");
    assert_eq!(observation.namespaces.len(), 1);

    let watch = Watch::open(Options::default()).unwrap();
    assert!(is_held(inode));
    // Being watched keeps no mount busy.
    run("umount", &[mount.0.to_str().unwrap()]);
    wait_for("the namespace to be let go", SOON, || !is_held(inode));
    let observation = watch.close();
    assert_eq!(find(&observation, inode).presence, Presence::Vanished);
}

#[test]
fn all_is_read_from_wherever_the_observer_starts() {
    let Some(_turn) = root() else { return };
    let netns = Netns::new("start");
    let observation = netns.inside(|| {
        let watch = Watch::open(Options::default()).unwrap();
        send_to_nobody(&netns, 3);
        watch.close()
    });
    let here = &observation.namespaces[0];
    assert_eq!((here.inode, here.own), (netns.inode(), true));
    assert_eq!(here.delta("Udp.NoPorts"), Some(3));
    assert_eq!((here.links.len(), here.sysctl("net.ipv4.ip_forward")), (1, Some(0)));
    let host = find(&observation, inode_of(std::process::id()).unwrap());
    assert_eq!(host.presence, Presence::Whole);
    assert!(!host.own && host.links.len() > 1);
}
