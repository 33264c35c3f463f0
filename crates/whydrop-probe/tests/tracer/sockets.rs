//! Which namespace and socket a drop belongs to, where `skb->dev` does not tell.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::fstat;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use whydrop_model::{DropTotal, TracerEvidence};
use whydrop_probe::{Counts, Key, Options, Resolver, VMLINUX_BTF};

use crate::pair::{A, ADDRESSES, B, Pair};
use crate::{packets, totals, trace, turn};

const UDP: Option<u8> = Some(17);

fn inode_of(socket: impl AsFd) -> u64 {
    fstat(socket).expect("a socket").st_ino
}

#[test]
fn the_receiving_socket_is_named() {
    const SENT: u64 = 400;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let receiver = pair.at(B, || {
        let receiver = UdpSocket::bind((ADDRESSES[B], 0)).expect("a socket");
        set_socket_recv_buffer_size(&receiver, 1).expect("a small buffer");
        receiver.set_nonblocking(true).expect("nonblocking");
        receiver
    });
    let port = receiver.local_addr().expect("an address").port();
    let delivered = || {
        let mut delivered = 0;
        while receiver.recv(&mut [0; 64]).is_ok() {
            delivered += 1;
        }
        delivered
    };
    let queued = Cell::new(0);
    let evidence = trace(
        &Options::default(),
        || pair.send(&format!("{}:{port}", ADDRESSES[B]), SENT),
        |counts| {
            queued.set(queued.get() + delivered());
            packets(counts, |key| u64::from(key.netns) == inode) + queued.get() >= SENT
        },
    );
    let found = totals(&evidence, "SOCKET_RCVBUFF", inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!(total.packets + queued.get(), SENT);
    assert!(total.marks.rx_sk);
    let exemplar = evidence
        .exemplars
        .iter()
        .find(|exemplar| exemplar.reason == "SOCKET_RCVBUFF" && exemplar.netns == Some(inode))
        .expect("an exemplar");
    let socket = exemplar.socket.expect("a socket");
    assert_eq!((socket.family, socket.local_port, socket.receiver), (2, port, true));
    assert_eq!(socket.inode, inode_of(&receiver));
}

/// After `tcp_v4_rcv` has found the socket, `skb->dev` is NULL.
#[test]
fn tcp_drops_take_the_namespace_of_their_socket() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let traffic = || {
        let listener = pair.at(B, || TcpListener::bind((ADDRESSES[B], 0)).expect("a listener"));
        let to = listener.local_addr().expect("an address");
        let mut client = pair.at(A, || TcpStream::connect(to).expect("connected"));
        let (mut server, _) = listener.accept().expect("accepted");
        // A socket that is shut for reading answers data with a reset.
        server.shutdown(Shutdown::Both).expect("shut down");
        client.write_all(b"too late").expect("written");
        let reset = client.read(&mut [0; 8]).and_then(|_| client.read(&mut [0; 8]));
        drop((reset, server.read(&mut [0; 8])));
    };
    let here = |key: &Key| u64::from(key.netns) == inode && key.l4 == Some(6);
    let evidence = trace(&Options::default(), traffic, |counts| packets(counts, here) >= 1);
    let found = totals(&evidence, "TCP_ABORT_ON_DATA", inode);
    let [total] = *found else { panic!("{:?}", evidence.totals) };
    assert_eq!((total.packets, total.l3), (1, 0x0800));
    assert_eq!(total.ifindex, pair.ifindex(B), "from skb_iif");
}

/// Totals at this function, in whatever namespace.
fn at_site<'a>(evidence: &'a TracerEvidence, symbol: &str) -> Vec<&'a DropTotal> {
    let totals = evidence.totals.iter();
    totals
        .filter(|total| total.site.as_ref().is_some_and(|site| site.symbol.contains(symbol)))
        .collect()
}

/// On a UDP receive queue `skb->dev` holds `dev_scratch` instead.
#[test]
fn datagrams_left_in_a_closed_socket_have_no_false_namespace() {
    const SENT: u64 = 20;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let resolver = Resolver::read(VMLINUX_BTF.as_ref());
    let inode = pair.inode(B);
    let traffic = || {
        let receiver = pair.at(B, || UdpSocket::bind((ADDRESSES[B], 0)).expect("a socket"));
        let to = receiver.local_addr().expect("an address");
        pair.send(&to.to_string(), SENT);
        let arrived = || pair.output(B, &["ss", "-Hlun", "sport", &format!(":{}", to.port())]);
        // Receive queue as `ss` shows it: memory, so more than nothing for the last one too.
        let mut last = String::new();
        crate::wait_until(|| {
            let now = arrived();
            let settled = now == last && !now.split_whitespace().any(|word| word == "0:0");
            last = now;
            settled
        });
        drop(OwnedFd::from(receiver));
    };
    let evidence = trace(&Options::default(), traffic, |counts| {
        // The namespace is what is in question: any will do here.
        let left = |key: &Key| resolver.call_site(key.location).symbol == "udp_destruct_common";
        packets(counts, left) >= SENT
    });
    let found = at_site(&evidence, "udp_destruct_common");
    let sum: u64 = found.iter().map(|total| total.packets).sum();
    assert!(sum >= SENT, "{sum} at udp_destruct_common: {:?}", evidence.totals);
    for total in found {
        assert!(total.netns.is_none_or(|netns| netns == inode), "{total:?}");
        assert_eq!((total.ifindex, total.device.as_deref()), (0, None), "{total:?}");
    }
}

/// In a reassembly queue `skb->dev` is a pointer of the tree that holds the fragments.
#[test]
fn fragments_never_completed_have_no_false_namespace() {
    const FRAGMENTS: u16 = 12;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    pair.output(B, &["sysctl", "-qw", "net.ipv4.ipfrag_time=1"]);
    let resolver = Resolver::read(VMLINUX_BTF.as_ref());
    let traffic = || {
        for number in 0..FRAGMENTS {
            // Gaps between them, so that each has a place of its own in the tree.
            pair.send_fragment(ADDRESSES[B], 77, number * 16, &[0; 64]);
        }
    };
    let evidence = trace(&Options::default(), traffic, |counts| {
        let expired = packets(counts, |key| resolver.reason(key.reason) == "FRAG_REASM_TIMEOUT");
        expired >= u64::from(FRAGMENTS)
    });
    let found: Vec<_> =
        evidence.totals.iter().filter(|total| total.reason == "FRAG_REASM_TIMEOUT").collect();
    let sum: u64 = found.iter().map(|total| total.packets).sum();
    assert!(sum >= u64::from(FRAGMENTS), "{sum}: {:?}", evidence.totals);
    for total in found {
        assert!(total.netns.is_none_or(|netns| netns == inode), "{total:?}");
    }
}

/// In TCP's queue of segments out of order it is such a pointer too, and one that leads somewhere:
/// the queue is pruned from its end, where a node may have children.
#[test]
fn segments_pruned_out_of_order_have_no_false_namespace() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let pruned = |counts: &Counts, resolver: &Resolver| {
        packets(counts, |key| resolver.reason(key.reason) == "TCP_OFO_QUEUE_PRUNE")
    };
    let resolver = Resolver::read(VMLINUX_BTF.as_ref());
    let listener = pair.at(B, || {
        let listener = TcpListener::bind((ADDRESSES[B], 0)).expect("a listener");
        set_socket_recv_buffer_size(&listener, 1).expect("a small buffer");
        listener
    });
    let to = listener.local_addr().expect("an address");
    // Small segments, of which every other is lost, so that none of the rest can be merged.
    pair.output(A, &["ip", "link", "set", "veth0", "gso_max_segs", "1"]);
    let route = ["ip", "route", "replace", "10.99.0.0/24", "dev", "veth0", "advmss", "100"];
    pair.output(B, &route);
    let chain = "add table ip t; add chain ip t c { type filter hook input priority 0; }; ";
    let rule =
        format!("add rule ip t c tcp dport {} ip length > 60 numgen inc mod 2 0 drop", to.port());
    pair.output(B, &["nft", &format!("{chain}{rule}")]);
    let streams = RefCell::new(Vec::new());
    let traffic = || {
        for _ in 0..8 {
            let client = pair.at(A, || TcpStream::connect(to).expect("connected"));
            (&client).write_all(&[0; 3000]).expect("written");
            streams.borrow_mut().push((client, listener.accept().expect("accepted")));
        }
    };
    let evidence = trace(&Options::default(), traffic, |counts| pruned(counts, &resolver) >= 4);
    let found: Vec<_> =
        evidence.totals.iter().filter(|total| total.reason == "TCP_OFO_QUEUE_PRUNE").collect();
    assert!(!found.is_empty(), "{:?}", evidence.totals);
    for total in found {
        // The socket tells what the packet cannot.
        assert_eq!((total.netns, total.ifindex), (Some(inode), pair.ifindex(B)), "{total:?}");
    }
    let exemplars = evidence.exemplars.iter();
    for exemplar in exemplars.filter(|exemplar| exemplar.reason == "TCP_OFO_QUEUE_PRUNE") {
        assert_eq!(exemplar.device, None, "{exemplar:?}");
    }
}

/// The own namespace is found too, in case all of the above only ever saw others.
#[test]
fn the_namespace_of_this_process_has_its_inode() {
    let Some(_turn) = turn() else { return };
    let own = inode_of(File::open("/proc/self/ns/net").expect("the namespace"));
    let closed = {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.local_addr().expect("an address")
    };
    let traffic = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(&[0; 8], closed).expect("sent");
    };
    let here = |key: &Key| u64::from(key.netns) == own && key.l4 == UDP;
    let evidence = trace(&Options::default(), traffic, |counts| packets(counts, here) >= 1);
    let found = totals(&evidence, "NO_SOCKET", own);
    assert!(found.iter().any(|total| total.ifindex == 1), "{found:?}");
}
