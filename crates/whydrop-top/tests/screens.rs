//! What is drawn, against kept screens. `KEEP_SCREENS=1 cargo test -p whydrop-top` keeps what is
//! drawn now; look at the difference before you commit it.
#![expect(clippy::unwrap_used, reason = "a test fails so")]

use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use whydrop_model::{
    Attach, CallSite, Class, Confidence, DropTotal, Endpoint, EvidenceItem, EvidenceKind, Exemplar,
    Finding, HostFacts, Inlined, LayerState, LayerVerdict, Ledger, Marks, NetnsRef, ProcessRef,
    REPORT_SCHEMA, Remedy, Report, ReportWindow, Severity, Site, SourceLine, TracerFacts, Verdict,
};
use whydrop_top::{Flow, Lap, Looks, Screen};

const UNICODE: Looks = Looks { colour: true, unicode: true };

fn finding(cause: &str, variant: Option<&str>, class: Class, packets: u64) -> Finding {
    Finding {
        cause: cause.into(),
        variant: variant.map(Into::into),
        class,
        layer: "udp".into(),
        severity: Severity::Warning,
        confidence: Confidence::Confirmed,
        packets,
        site: Site {
            netns: Some(NetnsRef { inode: Some(7), name: Some("blue".into()) }),
            device: None,
            socket: Some("udp 0.0.0.0:5000".into()),
            process: Some(ProcessRef { pid: 42, comm: "server\x1b[2J".into() }),
            object: None,
        },
        summary:
            "server (pid 42) reads UDP 0.0.0.0:5000 too slowly: its buffer of 8192 bytes stays \
                  full"
                .into(),
        evidence: vec![EvidenceItem::new(EvidenceKind::Counter, "Udp.RcvbufErrors", packets)],
        remedies: vec![Remedy {
            summary: "Read faster".into(),
            commands: vec!["ip netns exec blue ss -lunpm".into()],
            useless: vec!["a larger buffer: it only adds delay".into()],
        }],
        follows: None,
    }
}

/// A lap in which so many packets died of either cause.
fn lap(slow: u64, closed: u64) -> Lap {
    let layer = |layer, packets: u64| LayerVerdict {
        layer,
        state: if packets > 0 { LayerState::Loss } else { LayerState::Clean },
        packets,
        note: String::new(),
    };
    let mut findings = vec![
        finding("udp-receive-buffer-full", Some("slow-reader"), Class::Fault, slow),
        finding("udp-port-closed", Some("no-listener"), Class::Peer, closed),
    ];
    findings[1].site.socket = None;
    findings[1].site.process = None;
    findings[1].site.object = Some("UDP port 9".into());
    findings.retain(|finding| finding.packets > 0);
    let total = |reason: &str, symbol: &str, packets| DropTotal {
        reason: reason.into(),
        site: Some(CallSite { symbol: symbol.into(), offset: 4, module: None }),
        netns: Some(7),
        ifindex: 2,
        device: Some("v0".into()),
        l3: 0x0800,
        l4: Some(17),
        marks: Marks::default(),
        packets,
        bytes: packets * 100,
        inferred: false,
    };
    let totals = vec![
        total("SOCKET_RCVBUFF", "udp_queue_rcv_one_skb", slow),
        total("NO_SOCKET", "__udp4_lib_rcv", closed),
    ];
    Lap {
        report: Report {
            schema: REPORT_SCHEMA.into(),
            host: HostFacts { kernel: "6.18.0".into(), hostname: "host".into(), cpus: 2 },
            window: ReportWindow { start: String::new(), seconds: 2.0 },
            verdict: Verdict::Loss,
            findings,
            ledger: Ledger {
                lost: slow + closed,
                explained: slow + closed,
                benign: 3,
                ..Ledger::default()
            },
            tracer: TracerFacts {
                attach: Attach::TpBtf,
                events: slow + closed + 3,
                sampled: 9,
                lost: 0,
            },
            not_checked: Vec::new(),
            layers: vec![layer("nic", 0), layer("ip", 0), layer("udp", slow + closed)],
        },
        totals,
        exemplars: vec![exemplar()],
        namespaces: [(7, "blue".to_owned())].into(),
        quiet: Duration::ZERO,
    }
}

fn exemplar() -> Exemplar {
    let end =
        |address: &str, port| Endpoint { address: address.parse().unwrap(), port: Some(port) };
    let flow = serde_json::json!({
        "source": end("192.0.2.1", 40_000),
        "destination": end("192.0.2.2", 9),
        "protocol": 17,
    });
    let frame = |symbol: &str| CallSite { symbol: symbol.into(), offset: 16, module: None };
    let exemplar = serde_json::json!({
        "at_ns": 1,
        "reason": "NO_SOCKET",
        "site": CallSite { symbol: "__udp4_lib_rcv".into(), offset: 4, module: None },
        "netns": 7,
        "ifindex": 2,
        "device": "v0",
        "len": 128,
        "l3": 0x0800,
        "flow": flow,
        "socket": null,
        "stack": [frame("__udp4_lib_rcv"), frame("ip_local_deliver_finish")],
    });
    serde_json::from_value(exemplar).unwrap()
}

fn explain(name: &str) -> Option<String> {
    (name == "udp-receive-buffer-full" || name == "NO_SOCKET")
        .then(|| format!("{name}: one line about it\n\n## What it is\n\nA page."))
}

fn screen() -> Screen {
    let mut screen = Screen::new(UNICODE, explain);
    for (slow, closed) in [(10, 0), (20, 4000), (40, 4000), (80, 4000), (160, 4000), (320, 0)] {
        screen.take(lap(slow, closed));
    }
    screen
}

fn press(screen: &mut Screen, keys: &[KeyCode]) {
    for &key in keys {
        assert_eq!(screen.key(KeyEvent::new(key, KeyModifiers::NONE)), Flow::Continue);
    }
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[track_caller]
fn same_as_kept(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    if env::var_os("KEEP_SCREENS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, kept, "{name} is drawn differently:\n{shown}");
}

#[test]
fn causes() {
    same_as_kept("causes-80x24", &drawn(&screen(), 80, 24));
    same_as_kept("causes-160x50", &drawn(&screen(), 160, 50));
    let mut ascii = Screen::new(Looks { colour: false, unicode: false }, explain);
    ascii.take(lap(5, 0));
    same_as_kept("causes-ascii", &drawn(&ascii, 120, 12));
}

#[test]
fn kinds_detail_and_help() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Enter]);
    same_as_kept("cause-in-full", &drawn(&screen, 80, 24));
    press(&mut screen, &[KeyCode::Esc, KeyCode::Tab]);
    same_as_kept("kinds-80x24", &drawn(&screen, 80, 24));
    press(&mut screen, &[KeyCode::Enter]);
    same_as_kept("kind-in-full", &drawn(&screen, 80, 24));
    press(&mut screen, &[KeyCode::Char('h')]);
    same_as_kept("help", &drawn(&screen, 80, 24));
}

#[test]
fn lines_of_source_are_asked_for_once_a_stack_is_looked_at() {
    let mut screen = screen();
    assert_eq!(screen.asks_for(), None);
    press(&mut screen, &[KeyCode::Tab]);
    assert_eq!(screen.asks_for(), None);
    press(&mut screen, &[KeyCode::Enter]);
    let mut stack = screen.asks_for().unwrap();
    assert_eq!(screen.asks_for(), None);
    let line = |file: &str, line| Some(SourceLine { file: file.into(), line });
    stack[0].line = line("net/ipv4/udp.c", 2451);
    let drop = Inlined { symbol: "kfree_skb".into(), line: line("include/linux/skbuff.h", 1262) };
    stack[0].inlined = vec![drop];
    screen.learn(stack);
    // A later drop of the kind has the same call sites.
    screen.take(lap(1, 1));
    assert_eq!(screen.asks_for(), None);
    let shown = drawn(&screen, 80, 24);
    for words in [
        "stack     kfree_skb (inlined) include/linux/skbuff.h:1262\n",
        "          __udp4_lib_rcv+0x10 net/ipv4/udp.c:2451\n",
    ] {
        assert!(shown.contains(words), "{words:?} in\n{shown}");
    }
}

#[test]
fn nothing_yet_and_too_small() {
    let empty = Screen::new(UNICODE, explain);
    same_as_kept("empty", &drawn(&empty, 80, 12));
    assert!(drawn(&screen(), 40, 10).starts_with("whydrop top needs 60 x 12"));
    assert_eq!(drawn(&screen(), 1, 1), "w\n");
}

#[test]
fn a_frozen_screen_stays_and_the_count_goes_on() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char(' ')]);
    let frozen = drawn(&screen, 80, 24);
    assert!(frozen.contains("FROZEN") && frozen.contains("16,630 lost"), "{frozen}");
    screen.take(lap(70, 0));
    assert_eq!(drawn(&screen, 80, 24), frozen);
    press(&mut screen, &[KeyCode::Char(' ')]);
    assert!(drawn(&screen, 80, 24).contains("16,700 lost"));
}

#[test]
fn a_quiet_time_is_shown_as_laps_of_nothing_and_counts_once() {
    let (mut rested, mut looked) = (screen(), screen());
    rested.rest(Duration::from_secs(2));
    looked.take(Lap { exemplars: Vec::new(), ..nothing() });
    let head = |screen: &Screen| drawn(screen, 80, 24).lines().take(2).collect::<String>();
    assert_eq!(head(&rested), head(&looked));
    assert!(head(&rested).contains("(0/s)"), "{}", head(&rested));
    let mut whole = lap(9, 0);
    whole.report.window.seconds = 4.0;
    whole.quiet = Duration::from_secs(2);
    rested.take(whole);
    looked.take(lap(9, 0));
    assert_eq!(head(&rested), head(&looked), "the rate is that of the time that was not quiet");
}

/// A lap in which nothing was lost.
fn nothing() -> Lap {
    let mut lap = lap(0, 0);
    lap.report.ledger.benign = 0;
    lap.report.tracer.events = 0;
    lap.totals.clear();
    lap
}

#[test]
fn the_filter_hides_and_the_order_changes() {
    let mut screen = screen();
    let typed: Vec<KeyCode> = "/CLOSED".chars().map(KeyCode::Char).collect();
    press(&mut screen, &typed);
    let shown = drawn(&screen, 80, 24);
    assert!(shown.contains("udp-port-closed") && !shown.contains("receive-buffer"), "{shown}");
    assert!(shown.contains("filter: CLOSED_"));
    press(&mut screen, &[KeyCode::Esc]);
    let first = |screen: &Screen| drawn(screen, 80, 24).lines().nth(4).unwrap().to_owned();
    assert!(first(&screen).contains("receive-buffer"), "faults first: {}", first(&screen));
    press(&mut screen, &[KeyCode::Tab]);
    assert!(first(&screen).contains("NO_SOCKET"), "the most first: {}", first(&screen));
    press(&mut screen, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert!(first(&screen).contains("SOCKET_RCVBUFF"), "now: {}", first(&screen));
}

#[test]
fn what_comes_again_is_counted_from_zero_after_r() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Down, KeyCode::Down, KeyCode::Char('r')]);
    assert!(drawn(&screen, 80, 24).contains("looking for the first time"));
    screen.take(lap(3, 0));
    assert!(drawn(&screen, 80, 24).contains("3 lost (1.5/s)"));
}

#[test]
fn q_and_control_c_leave() {
    let mut screen = screen();
    let key = |code, modifiers| KeyEvent::new(code, modifiers);
    assert_eq!(screen.key(key(KeyCode::Char('q'), KeyModifiers::NONE)), Flow::Quit);
    press(&mut screen, &[KeyCode::Char('/')]);
    assert_eq!(screen.key(key(KeyCode::Char('q'), KeyModifiers::NONE)), Flow::Continue);
    assert_eq!(screen.key(key(KeyCode::Char('c'), KeyModifiers::CONTROL)), Flow::Quit);
}
