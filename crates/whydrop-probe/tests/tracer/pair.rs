//! Two network namespaces with a veth pair between them, gone when dropped, and traffic in them.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, sendto, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The sender's end.
pub(crate) const A: usize = 0;
/// The receiver's end.
pub(crate) const B: usize = 1;
/// Addresses of the two ends.
pub(crate) const ADDRESSES: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
/// An address whose neighbour entry in A has a MAC that nobody owns: B drops what is sent to it as
/// OTHERHOST in `ip_rcv_core`, without a word.
pub(crate) const NOBODY: &str = "10.99.0.77";

/// The pair.
pub(crate) struct Pair {
    names: [String; 2],
}

impl Pair {
    /// Creates both namespaces; panics with the command that failed.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("wdprobe-{}-{number}-{end}", std::process::id());
        let pair = Self { names: [name("a"), name("b")] };
        let [a, b] = &pair.names;
        for name in &pair.names {
            run("ip", &["netns", "add", name]);
        }
        let veth = ["type", "veth", "peer", "name", "veth0", "netns", b];
        run("ip", &[&["link", "add", "veth0", "netns", a][..], &veth[..]].concat());
        for (name, address) in pair.names.iter().zip(ADDRESSES) {
            let ip = |arguments: &[&str]| run("ip", &[&["-n", name][..], arguments].concat());
            // Router solicitations and the like would be dropped too, and counted.
            let all = ["netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"];
            run("ip", &all);
            ip(&["address", "add", &format!("{address}/24"), "dev", "veth0"]);
            ip(&["link", "set", "lo", "up"]);
            ip(&["link", "set", "veth0", "up"]);
        }
        run(
            "ip",
            &["-n", a, "neigh", "add", NOBODY, "lladdr", "02:00:00:00:00:98", "dev", "veth0"],
        );
        // For multicast and the limited broadcast.
        run("ip", &["-n", a, "route", "add", "default", "dev", "veth0"]);
        pair
    }

    /// Inode of one end's namespace.
    pub(crate) fn inode(&self, end: usize) -> u64 {
        fs::metadata(self.path(end)).expect("the namespace").ino()
    }

    /// Interface index of veth0 at one end.
    pub(crate) fn ifindex(&self, end: usize) -> u32 {
        let index = self.output(end, &["cat", "/sys/class/net/veth0/ifindex"]);
        index.trim().parse().expect("an index")
    }

    fn path(&self, end: usize) -> String {
        format!("/run/netns/{}", self.names[end])
    }

    /// Runs something in one end's namespace, on a thread of its own.
    pub(crate) fn at<T: Send>(&self, end: usize, task: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path(end)).expect("the namespace");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                task()
            });
            inside.join().expect("the task")
        })
    }

    /// Sends `count` datagrams of 18 bytes from A.
    pub(crate) fn send(&self, to: &str, count: u64) {
        let to: SocketAddr = to.parse().expect("an address");
        self.at(A, || {
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => "0.0.0.0:0".parse().expect("an address"),
                SocketAddr::V6(_) => "[::]:0".parse().expect("an address"),
            };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_broadcast(true).expect("broadcast");
            for _ in 0..count {
                socket.send_to(&[0; 18], to).expect("sent");
            }
        });
    }

    /// Sends `count` IPv4 packets of this protocol from A, each with this payload.
    pub(crate) fn send_raw(&self, to: &str, protocol: u8, payload: &[u8], count: u64) {
        let to = SocketAddrV4::new(to.parse().expect("an address"), 0);
        self.at(A, || {
            let protocol = NonZero::new(protocol.into()).map(Protocol::from_raw);
            let raw = socket(AddressFamily::INET, SocketType::RAW, protocol).expect("a raw socket");
            for _ in 0..count {
                sendto(&raw, payload, SendFlags::empty(), &to).expect("sent");
            }
        });
    }

    /// Sends an IPv4 fragment from A, with more to come behind it; `offset` in units of 8 bytes.
    pub(crate) fn send_fragment(&self, to: &str, id: u16, offset: u16, payload: &[u8]) {
        const RAW: u8 = 255;
        let to: Ipv4Addr = to.parse().expect("an address");
        let length = 20 + payload.len() as u16;
        let mut packet = vec![0x45, 0];
        for word in [length, id, 0x2000 | offset, 0x4011, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(Ipv4Addr::UNSPECIFIED.octets());
        packet.extend(to.octets());
        packet.extend(payload);
        // The kernel fills in the source address and the checksum of such a header.
        self.send_raw(&to.to_string(), RAW, &packet, 1);
    }

    /// Tries a TCP connection from A that will be refused.
    pub(crate) fn connect(&self, to: &str) {
        let refused = self.at(A, || TcpStream::connect(to)).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Gives both ends IPv6, with an address that nobody owns as in IPv4.
    pub(crate) fn with_ipv6(&self) {
        for (name, address) in self.names.iter().zip(["fd99::1/64", "fd99::2/64"]) {
            let on = ["netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"];
            run("ip", &on);
            run("ip", &["-n", name, "address", "add", address, "dev", "veth0", "nodad"]);
        }
        let a = &self.names[A];
        run(
            "ip",
            &["-n", a, "neigh", "add", "fd99::77", "lladdr", "02:00:00:00:00:98", "dev", "veth0"],
        );
    }

    /// Datagrams to closed ports, as the kernel itself counts them at one end.
    pub(crate) fn no_ports(&self, end: usize) -> u64 {
        self.counter(end, "Udp", "NoPorts")
    }

    /// A counter of `/proc/net/snmp` at one end.
    pub(crate) fn counter(&self, end: usize, protocol: &str, name: &str) -> u64 {
        let text = self.output(end, &["cat", "/proc/net/snmp"]);
        let mut rows = text.lines().filter_map(|line| {
            let (of, row) = line.split_once(": ")?;
            (of == protocol).then_some(row)
        });
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let at = names.split(' ').position(|found| found == name).expect("the counter");
        values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
    }

    /// What a command prints in one end's namespace.
    pub(crate) fn output(&self, end: usize, command: &[&str]) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.names[end]])
            .args(command)
            .output()
            .expect("ip");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("iproute2");
    assert!(status.success(), "{program} {}", arguments.join(" "));
}
