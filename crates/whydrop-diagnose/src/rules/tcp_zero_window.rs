//! The local program reads a TCP connection too slowly, and the window is closed: flow control.
//!
//! `TCPToZeroWindowAdv` counts windows that closed (`tcp_select_window()`, `net/ipv4/tcp_output.c`,
//! 6.18); a connection whose receive buffer is still full when the observation ends says whose. Without
//! such a connection the reader caught up, and there is nothing to tell. Where data was thrown away as
//! well, another cause tells it.

use std::collections::BTreeMap;

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site, Socket,
    SocketProtocol,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;

/// See the module.
pub(super) struct TcpZeroWindow;

const ID: &str = "tcp-zero-window";
const COUNTERS: [&str; 2] = ["TcpExt.TCPToZeroWindowAdv", "TcpExt.TCPWantZeroWindowAdv"];

impl Rule for TcpZeroWindow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            let closed = COUNTERS.iter().any(|name| namespace.delta(name).unwrap_or(0) > 0);
            if !closed {
                continue;
            }
            // One finding for a program, however many connections it leaves unread.
            let mut programs: BTreeMap<(String, u32), Vec<&Socket>> = BTreeMap::new();
            for socket in namespace.sockets.iter().filter(|socket| is_full(socket)) {
                let local = socket.local.map_or("?".into(), |local| local.to_string());
                let pid = socket.process().map_or(0, |process| process.pid);
                programs.entry((local, pid)).or_default().push(socket);
            }
            for ((local, _), sockets) in programs {
                conclude(case, namespace, &local, &sockets);
            }
        }
    }
}

/// At least three quarters of the buffer are taken: the window closes before the last bytes are.
fn is_full(socket: &Socket) -> bool {
    let full = |memory: whydrop_model::SocketMemory| {
        memory.rcvbuf > 0 && u64::from(memory.rmem_alloc) * 4 >= u64::from(memory.rcvbuf) * 3
    };
    socket.protocol == SocketProtocol::Tcp
        && socket.recv_queue > 0
        && socket.memory.is_some_and(full)
}

fn conclude(case: &mut Case<'_>, namespace: &Namespace, local: &str, sockets: &[&Socket]) {
    let process = sockets.first().and_then(|socket| socket.process());
    let owner = process.as_ref().map_or("The program (not visible to this user)".into(), |one| {
        format!("{} (pid {})", one.comm, one.pid)
    });
    let stopped = sockets
        .iter()
        .any(|socket| socket.owners.first().is_some_and(|one| matches!(one.state, 'T' | 't')));
    let (waiting, connections) = (
        sockets.iter().map(|socket| u64::from(socket.recv_queue)).sum::<u64>(),
        sockets.len() as u64,
    );
    let mut evidence: Vec<_> = COUNTERS
        .iter()
        .filter_map(|name| Some((*name, namespace.delta(name).filter(|grown| *grown > 0)?)))
        .map(|(name, grown)| EvidenceItem::new(EvidenceKind::Counter, name, grown))
        .collect();
    let state = |name: String, value: u64| EvidenceItem::new(EvidenceKind::State, name, value);
    evidence.push(state(format!("connections of {local} with a full receive buffer"), connections));
    evidence.push(state("bytes that wait in them to be read".into(), waiting));
    let pid = process.as_ref().map_or(0, |process| process.pid);
    let mut commands: Vec<_> = command::within(namespace, "ss -tnmp").into_iter().collect();
    if stopped {
        commands.insert(0, format!("kill -CONT {pid}"));
    } else if pid > 0 {
        commands.push(format!("cat /proc/{pid}/stack"));
    }
    let why =
        if stopped { "is stopped and reads nothing" } else { "does not read what it received" };
    case.conclude(
        ID,
        Conclusion {
            variant: None,
            severity: Severity::Notice,
            confidence: Confidence::Confirmed,
            loss: Loss::default(),
            site: Site {
                socket: Some(format!("tcp {local}")),
                object: Some(format!("program that reads tcp {local}")),
                process,
                ..case.site_of(Some(namespace.inode))
            },
            summary: format!(
                "{owner} {why} on {local}: the window is closed and the peer waits; nothing is lost"
            ),
            evidence,
            remedies: vec![Remedy {
                summary:
                    "Make the program read: find what its reader waits for (disk, a lock, its CPU \
                          quota, a service behind it)"
                        .into(),
                commands,
                useless: vec![
                    "a larger net.ipv4.tcp_rmem or SO_RCVBUF: it fills as well, a little later"
                        .into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Class, Evidence, Process, Socket, SocketMemory, SocketProtocol};

    use crate::{Thresholds, diagnose, sample};

    fn unread(rmem_alloc: u32) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.TCPToZeroWindowAdv", 1);
        evidence.namespaces[0].sockets.push(Socket {
            recv_queue: 9000,
            memory: Some(SocketMemory { rcvbuf: 10_000, rmem_alloc, ..SocketMemory::default() }),
            owners: vec![Process { pid: 77, comm: "slow".into(), ..Process::default() }],
            ..Socket::new(SocketProtocol::Tcp)
        });
        evidence
    }

    #[test]
    fn a_full_buffer_behind_a_closed_window_names_the_program() {
        let report = diagnose(&unread(9900), &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.class), ("tcp-zero-window", Class::Info));
        assert_eq!(finding.site.process.as_ref().map(|one| one.pid), Some(77));
        assert_eq!(report.ledger.lost, 0);
    }

    #[test]
    fn a_reader_that_caught_up_is_none() {
        assert!(diagnose(&unread(100), &Thresholds::default()).findings.is_empty());
        let mut busy = unread(9900);
        sample::count(&mut busy, "TcpExt.TCPToZeroWindowAdv", 0);
        assert!(diagnose(&busy, &Thresholds::default()).findings.is_empty());
    }
}
