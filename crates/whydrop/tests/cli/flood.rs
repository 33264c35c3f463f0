//! `whydrop top` while millions of packets are dropped: exact, awake, and no larger than before.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::program::{Netns, pair, path};
use crate::top::{Terminal, needs_terminal, program_in};

/// Datagrams of each of the two senders, at least.
const FLOOD: u64 = 1_500_000;
/// Datagrams to a closed port, in the middle of it.
const FEW: u64 = 7;

/// The row of the flood.
const FLOODED: &str = "OTHERHOST@ip_rcv_core";

/// What a flood may add to the memory of the program. Were 100 bytes kept of each drop, it would be 300.
const MOST_MIB: u64 = 16;

/// Sends so many datagrams in a namespace, and more until it is enough; returns how many. The thread
/// stays there, and is to end afterwards.
fn send(netns: &Netns, to: &str, number: u64, enough: &AtomicBool) -> u64 {
    let file = File::open(netns.path()).expect("a namespace");
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(file.as_fd(), kind).expect("entered");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(to).expect("a route");
    let mut sent = 0;
    while sent < number || !enough.load(Ordering::Relaxed) {
        // A closed port answers, and the next call says so instead of sending.
        sent += u64::from(socket.send(&[0; 18]).is_ok());
    }
    sent
}

/// Ends the senders, also when a test fails meanwhile.
struct Enough<'f>(&'f AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Resident memory of a process in kibibytes.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number")
}

/// The total of a row of the list, without the commas.
fn total(screen: &str, row: &str) -> Option<u64> {
    let line = screen.lines().find(|line| line.contains(row))?;
    let total = line.split_whitespace().rev().nth(1)?;
    total.replace(',', "").parse().ok()
}

/// The number before a word of the second line.
fn headline(screen: &str, word: &str) -> u64 {
    let text = screen.lines().nth(1).unwrap_or_default().split(word).next().unwrap_or_default();
    let number = text.split_whitespace().last().unwrap_or_default().replace(',', "");
    number.parse().unwrap_or(0)
}

#[test]
fn a_flood_is_counted_exactly_hides_nothing_and_keeps_the_screen_awake() {
    if needs_terminal() {
        return;
    }
    let [a, b] = pair("flood");
    let command = format!("{} top --interval 0.5 --netns {}", path(), b.name());
    let terminal = Terminal::open("flood", (160, 50), &command).expect("tmux");
    terminal.until("first lap", |screen| screen.contains("nothing is lost"));
    terminal.press("Tab");
    let before = memory(program_in(b.name()));
    let (enough, at_once) = (AtomicBool::new(false), AtomicBool::new(true));
    let sent: u64 = thread::scope(|scope| {
        let _end = Enough(&enough);
        let flood = [0, 1].map(|_| scope.spawn(|| send(&a, "10.99.0.9:9", FLOOD, &enough)));
        terminal.until("flood", |screen| total(screen, FLOODED) > Some(0));
        let few = scope.spawn(|| send(&a, "10.99.0.2:4242", FEW, &at_once)).join();
        assert_eq!(few.expect("sent"), FEW);
        // Keys are answered, and the few are shown with one of them, while the flood goes on.
        terminal.press("?");
        terminal.until("help", |screen| screen.contains("freeze the screen"));
        terminal.press("Escape");
        terminal
            .until("the few", |screen| screen.contains(":4242") && total(screen, FLOODED) > None);
        enough.store(true, Ordering::Relaxed);
        flood.into_iter().map(|sender| sender.join().expect("sent")).sum()
    });
    // What the kernel did not let the program see is not in the totals, and said.
    let all =
        |screen: &str| total(screen, FLOODED).unwrap_or(0) + headline(screen, " missed") >= sent;
    let screen = terminal.until("all of the flood", all);
    assert!(total(&screen, FLOODED) <= Some(sent), "{sent} were sent\n{screen}");
    if headline(&screen, " missed") == 0 {
        assert_eq!(total(&screen, FLOODED), Some(sent), "{screen}");
        assert_eq!(total(&screen, "NO_SOCKET@__udp4_lib_rcv"), Some(FEW), "{screen}");
    }
    let more = memory(program_in(b.name())).saturating_sub(before);
    assert!(more < MOST_MIB << 10, "{more} KiB more than before the flood");
    terminal.press("q");
    terminal.until("exit status", |screen| screen.contains("status 0"));
}
