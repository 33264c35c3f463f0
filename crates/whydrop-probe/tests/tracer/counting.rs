//! Every drop is counted, once, under the right key.

use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::thread::gettid;
use whydrop_model::{Attach, Marks};
use whydrop_probe::{Options, RawDrop, Reader, Tracer};

use crate::pair::{A, ADDRESSES, B, NOBODY, Pair};
use crate::{MOUNT_TRACEFS, PATIENCE, packets, passed_elsewhere, totals, trace, turn, wait_until};

/// 20 bytes of IP header, 8 of UDP, 18 of payload.
const DATAGRAM: u64 = 46;

fn counts_exactly(only: Attach) {
    const SENT: u64 = 1000;
    let pair = Pair::new();
    let (inode, ifindex) = (pair.inode(B), pair.ifindex(B));
    let options = Options { only: Some(only), ..Options::default() };
    let evidence = trace(
        &options,
        || pair.send(&format!("{NOBODY}:9"), SENT),
        |counts| packets(counts, |key| u64::from(key.netns) == inode) >= SENT,
    );
    assert_eq!(evidence.attach, only);
    let found = totals(&evidence, "OTHERHOST", inode);
    let [total] = *found else { panic!("{found:?}") };
    assert_eq!(total.site.as_ref().map(|site| site.symbol.as_str()), Some("ip_rcv_core"));
    assert_eq!((total.ifindex, total.device.as_deref()), (ifindex, Some("veth0")));
    assert_eq!((total.l3, total.l4, total.marks), (0x0800, Some(17), Marks::default()));
    assert_eq!((total.packets, total.bytes), (SENT, SENT * DATAGRAM));
    let exemplar = evidence.exemplars.iter().find(|exemplar| exemplar.netns == Some(inode));
    let stack = &exemplar.expect("an exemplar").stack;
    let first = stack.first().map(|frame| &frame.site);
    assert_eq!(first, total.site.as_ref(), "the stack begins at the site");
    assert!(stack.iter().any(|frame| frame.site.symbol == "udp_sendmsg"), "{stack:?}");
}

#[test]
fn tp_btf_counts_exactly() {
    let Some(_turn) = turn() else { return };
    counts_exactly(Attach::TpBtf);
}

#[test]
fn raw_tp_counts_exactly() {
    let Some(_turn) = turn() else { return };
    counts_exactly(Attach::RawTp);
}

#[test]
fn tp_counts_exactly() {
    let Some(_turn) = turn() else { return };
    if !passed_elsewhere("counting::tp_counts_exactly", MOUNT_TRACEFS) {
        counts_exactly(Attach::Tp);
    }
}

#[test]
fn a_flood_hides_nothing() {
    const FLOOD: u64 = 2_000_000;
    const QUIET: u64 = 20;
    const PORT: u16 = 4242;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let traffic = || {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| pair.send(&format!("{NOBODY}:9"), FLOOD / 2));
            }
            scope.spawn(|| pair.send(&format!("{}:{PORT}", ADDRESSES[B]), QUIET));
        });
    };
    let evidence = trace(&Options::default(), traffic, |counts| {
        packets(counts, |key| u64::from(key.netns) == inode) + counts.lost >= FLOOD + QUIET
    });
    let sum = |reason| totals(&evidence, reason, inode).iter().map(|total| total.packets).sum();
    let (flood, quiet): (u64, u64) = (sum("OTHERHOST"), sum("NO_SOCKET"));
    // A drop that the kernel did not let the program see is in `lost`, and in nothing else.
    assert!(flood <= FLOOD && quiet <= QUIET, "{flood} and {quiet}");
    assert!(flood + quiet + evidence.lost >= FLOOD + QUIET, "{flood}, {quiet}, {}", evidence.lost);
    if evidence.lost == 0 {
        assert_eq!((flood, quiet), (FLOOD, QUIET));
    }
    let of = |reason: &str| {
        let exemplars = evidence.exemplars.iter();
        exemplars
            .filter(|exemplar| exemplar.reason == reason && exemplar.netns == Some(inode))
            .collect::<Vec<_>>()
    };
    let quiet = of("NO_SOCKET");
    // The bucket of a key begins full.
    assert!(quiet.len() >= 10, "{} exemplars of the quiet one", quiet.len());
    for exemplar in quiet {
        let flow = exemplar.flow.as_ref().expect("a flow");
        assert_eq!(flow.source.address.to_string(), ADDRESSES[A]);
        assert_eq!(flow.destination.to_string(), format!("{}:{PORT}", ADDRESSES[B]));
        assert!(flow.source.port.is_some_and(|port| port != 0));
        assert_eq!((flow.protocol, exemplar.device.as_deref()), (17, Some("veth0")));
    }
    let seconds = evidence.exemplars.last().map_or(0, |last| last.at_ns / 1_000_000_000);
    let cpus = thread::available_parallelism().expect("CPUs").get() as u64;
    let most = (seconds + 2) * 10 * cpus;
    assert!(of("OTHERHOST").len() as u64 <= most, "{} in {seconds} s", of("OTHERHOST").len());
    assert_eq!(evidence.suppressed, evidence.events - evidence.sampled - evidence.ring_full);
}

#[test]
fn a_full_table_spills_and_the_sum_stays() {
    const PROTOCOLS: std::ops::Range<u8> = 140..180;
    const EACH: u64 = 25;
    const SENT: u64 = 40 * EACH;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    // Protocols that nobody handles, each a key of its own.
    let traffic = || {
        for protocol in PROTOCOLS {
            pair.send_raw(ADDRESSES[B], protocol, &[0; 18], EACH);
        }
    };
    let options = Options { buckets: Some(1), ..Options::default() };
    let evidence = trace(&options, traffic, |counts| {
        let spilled: u64 = counts.spilled.values().map(|count| count.packets).sum();
        packets(counts, |key| u64::from(key.netns) == inode) + spilled >= SENT
    });
    let kept: u64 = totals(&evidence, "IP_NOPROTO", inode).iter().map(|total| total.packets).sum();
    let spilled: u64 = evidence
        .totals
        .iter()
        .filter(|total| total.reason == "IP_NOPROTO" && total.site.is_none())
        .map(|total| total.packets)
        .sum();
    assert!(kept > 0 && spilled > 0, "{kept} kept, {spilled} spilled");
    assert_eq!(kept + spilled, SENT);
    assert!(evidence.spilled >= spilled);
}

#[test]
fn a_ring_that_nobody_reads_costs_details_and_no_count() {
    const SENT: u64 = 5_000;
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = pair.inode(B);
    let options = Options { rate: u32::MAX, ring_bytes: 4096, ..Options::default() };
    let mut tracer = Tracer::attach(&options).expect("attached");
    let mut reader = tracer.reader().expect("the first reader");
    tracer.open_window().expect("opened");
    pair.send(&format!("{}:4242", ADDRESSES[B]), SENT);
    let counted = |tracer: &Tracer| {
        packets(&tracer.counts().expect("counts"), |key| u64::from(key.netns) == inode)
    };
    wait_until(|| counted(&tracer) >= SENT);
    tracer.close_window().expect("closed");
    assert_eq!(counted(&tracer), SENT);
    let mut read = 0;
    reader.poll(Duration::ZERO, None, &mut |_| read += 1).expect("polled");
    let (evidence, _) = tracer.finish(&[], &|_| true).expect("finished");
    // Others may drop as well.
    assert!(read > 0 && evidence.ring_full > 0, "{read} read, {} not", evidence.ring_full);
    assert!(read + evidence.ring_full >= SENT, "{read} read, {} not", evidence.ring_full);
}

/// A poll that nothing ends takes as long as it may.
#[test]
fn the_first_drop_after_a_rest_wakes_the_reader() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = u32::try_from(pair.inode(B)).expect("an inode");
    let mut tracer = Tracer::attach(&Options::default()).expect("attached");
    let mut reader = tracer.reader().expect("the first reader");
    tracer.open_window().expect("opened");
    for round in 0..2 {
        let mut others = 0;
        // Drops elsewhere end a rest, too.
        while reader.poll(2 * Reader::REST, None, &mut |_| {}).expect("polled") > 0 {
            others += 1;
            assert!(others < 100, "this host never rests");
        }
        let (begins, begun) = mpsc::channel();
        let (seen, took) = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                begins.send(gettid()).expect("somebody waits");
                let (mut seen, began) = (false, Instant::now());
                while !seen && began.elapsed() < PATIENCE {
                    let keep = &mut |drop: RawDrop| seen |= drop.key.netns == inode;
                    reader.poll(PATIENCE, None, keep).expect("polled");
                }
                (seen, began.elapsed())
            });
            let thread = begun.recv().expect("a thread").as_raw_nonzero();
            let status = format!("/proc/self/task/{thread}/status");
            // What is in the ring before the reader waits, it would see without being woken.
            wait_until(|| fs::read_to_string(&status).is_ok_and(|it| it.contains("S (sleeping)")));
            pair.send(&format!("{}:4245", ADDRESSES[B]), 1);
            reading.join().expect("the reader")
        });
        assert!(seen && took < PATIENCE, "not woken in round {round}");
    }
}

#[test]
fn only_the_window_counts() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    let inode = u32::try_from(pair.inode(B)).expect("an inode");
    let to = format!("{}:4244", ADDRESSES[B]);
    let dropped = || pair.no_ports(B);
    let mut tracer = whydrop_probe::Tracer::attach(&Options::default()).expect("attached");
    let count = |tracer: &whydrop_probe::Tracer| {
        packets(&tracer.counts().expect("counts"), |key| key.netns == inode)
    };
    let send = |number: u64| {
        let before = dropped();
        pair.send(&to, number);
        crate::wait_until(|| dropped() == before + number);
    };
    send(100);
    assert_eq!(count(&tracer), 0, "not open yet");
    tracer.open_window().expect("opened");
    send(200);
    assert_eq!(count(&tracer), 200);
    tracer.close_window().expect("closed");
    send(400);
    assert_eq!(count(&tracer), 200, "closed");
}

#[test]
fn marks_and_ipv6() {
    let Some(_turn) = turn() else { return };
    let pair = Pair::new();
    pair.with_ipv6();
    let inode = pair.inode(B);
    let traffic = || {
        pair.send("239.1.1.1:9", 7);
        pair.send("255.255.255.255:9", 6);
        pair.send("[fd99::77]:9", 5);
        pair.connect(&format!("{}:4243", ADDRESSES[B]));
        pair.connect("[fd99::2]:4243");
    };
    let evidence = trace(&Options::default(), traffic, |counts| {
        let here = |key: &whydrop_probe::Key| u64::from(key.netns) == inode;
        packets(counts, |key| here(key) && key.marks.multicast && key.l4 == Some(17)) >= 13
            && packets(counts, |key| here(key) && key.l3 == 0x86dd && key.l4 == Some(17)) >= 5
            && packets(counts, |key| here(key) && key.marks.syn) >= 2
    });
    let here: Vec<_> = evidence.totals.iter().filter(|total| total.netns == Some(inode)).collect();
    let sum = |fits: &dyn Fn(&whydrop_model::DropTotal) -> bool| {
        here.iter().filter(|total| fits(total)).map(|total| total.packets).sum::<u64>()
    };
    let udp = Some(17);
    assert_eq!(sum(&|total| total.marks.multicast && total.l3 == 0x0800 && total.l4 == udp), 13);
    assert_eq!(sum(&|total| !total.marks.multicast && total.l3 == 0x86dd && total.l4 == udp), 5);
    for l3 in [0x0800, 0x86dd] {
        let syn = sum(&|total| total.l3 == l3 && total.marks.syn && total.l4 == Some(6));
        assert_eq!(syn, 1, "SYN of {l3:#x}");
    }
    assert_eq!(sum(&|total| total.marks.syn && total.reason != "NO_SOCKET"), 0);
    let six = evidence.exemplars.iter().find(|exemplar| {
        exemplar.l3 == 0x86dd && exemplar.flow.as_ref().is_some_and(|flow| flow.protocol == 17)
    });
    let flow = six.and_then(|exemplar| exemplar.flow.as_ref()).expect("an IPv6 exemplar");
    assert_eq!(flow.destination.to_string(), "[fd99::77]:9");
}

/// `r0 = ethertype == value`, as `bpf/filter.h` wants it.
fn only_ethertype(value: u64) -> Box<[u64]> {
    [0xb7, 0x55 | 4 << 8 | 1 << 16 | value << 32, 0xb7 | 1 << 32].into()
}

fn a_filter_counts_only_what_it_accepts(only: Attach) {
    const SENT: u64 = 100;
    let pair = Pair::new();
    let inode = pair.inode(B);
    for (ethertype, expected) in [(0x0800, SENT), (0x86dd, 0)] {
        let filter = Some(only_ethertype(ethertype));
        let options = Options { only: Some(only), filter, ..Options::default() };
        // What is not counted cannot be waited for; all of it is dropped while it is sent.
        let evidence = trace(
            &options,
            || pair.send(&format!("{NOBODY}:9"), SENT),
            |counts| packets(counts, |key| u64::from(key.netns) == inode) >= expected,
        );
        let found = totals(&evidence, "OTHERHOST", inode);
        let counted: u64 = found.iter().map(|total| total.packets).sum();
        assert_eq!(counted, expected, "{ethertype:#x}");
    }
}

#[test]
fn tp_btf_filters() {
    let Some(_turn) = turn() else { return };
    a_filter_counts_only_what_it_accepts(Attach::TpBtf);
}

#[test]
fn raw_tp_filters() {
    let Some(_turn) = turn() else { return };
    a_filter_counts_only_what_it_accepts(Attach::RawTp);
}

#[test]
fn tp_filters() {
    let Some(_turn) = turn() else { return };
    if !passed_elsewhere("counting::tp_filters", MOUNT_TRACEFS) {
        a_filter_counts_only_what_it_accepts(Attach::Tp);
    }
}
