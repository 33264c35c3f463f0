//! Datagrams arrive faster than the program reads them, and its receive buffer is full.
//!
//! `SOCKET_RCVBUFF` in the UDP receive functions with `Udp.RcvbufErrors` and the socket's own drops
//! (`__udp_enqueue_schedule_skb()`, `net/ipv4/udp.c`, 6.18): three counts of the same packets. The
//! variant says what would help: a stopped reader must go on, a slow one must become faster, and only
//! for a burst that the reader catches up with is a larger buffer the cure.

use whydrop_model::{
    Confidence, EvidenceItem, EvidenceKind, Namespace, Remedy, Severity, Site, Socket,
    SocketProtocol,
};

use crate::case::{Case, Conclusion, Loss};
use crate::receive::{USUAL_LENGTH, burst, pinned, truesize};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::{command, share, traced};

/// See the module.
pub(super) struct UdpReceiveBufferFull;

const ID: &str = "udp-receive-buffer-full";
const SIGNATURES: &[Signature] =
    &[drops("SOCKET_RCVBUFF", "udp*"), drops("SOCKET_RCVBUFF", "__udp*")];
const COUNTERS: [&str; 2] = ["Udp.RcvbufErrors", "snmp6.Udp6RcvbufErrors"];

/// One socket's part of the loss.
struct Overflow<'e> {
    namespace: &'e Namespace,
    socket: &'e Socket,
    packets: u64,
    traced: u64,
    counted: u64,
    /// Mean length of the datagrams dropped, in bytes; `None` if the tracer saw none.
    length: Option<u64>,
}

impl Rule for UdpReceiveBufferFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let mut groups = traced::take(case, SIGNATURES);
        for namespace in case.namespaces() {
            let at = groups.iter().position(|group| group.netns == Some(namespace.inode));
            let group = at.map(|at| groups.swap_remove(at));
            let traced = group.as_ref().map_or(0, |group| group.packets);
            let counted = COUNTERS.map(|name| case.unbooked(namespace, name).unwrap_or(0));
            let packets = traced.max(counted.iter().sum());
            if packets == 0 {
                continue;
            }
            for (name, packets) in COUNTERS.into_iter().zip(counted) {
                case.book(namespace, name, packets);
            }
            let loss = Loss { packets, traced, counted: counted.iter().sum() };
            place(case, namespace, loss, group.and_then(|group| group.mean_length()));
        }
        // Of namespaces that are not among the evidence only the trace is known.
        for group in groups {
            unplaced(case, group.site(case, None), Loss::traced(group.packets), group.proof());
        }
    }
}

/// Gives each socket its part.
fn place(case: &mut Case<'_>, namespace: &Namespace, loss: Loss, length: Option<u64>) {
    let udp = namespace.sockets.iter().filter(|one| one.protocol == SocketProtocol::Udp);
    let weighted = udp.map(|one| (one, one.drops.delta32()));
    let parts = share::split(loss.packets, weighted);
    if parts.is_empty() {
        let name = if loss.counted > 0 { COUNTERS[0] } else { "SOCKET_RCVBUFF" };
        let proof = vec![EvidenceItem::new(EvidenceKind::Counter, name, loss.packets)];
        unplaced(case, case.site_of(Some(namespace.inode)), loss, proof);
        return;
    }
    let mut left = loss;
    for (socket, packets) in parts {
        let part =
            |of: u64| (u128::from(of) * u128::from(packets) / u128::from(left.packets)) as u64;
        let (traced, counted) = (part(left.traced), part(left.counted));
        left = Loss {
            packets: left.packets - packets,
            traced: left.traced - traced,
            counted: left.counted - counted,
        };
        conclude(case, &Overflow { namespace, socket, packets, traced, counted, length });
    }
}

fn conclude(case: &mut Case<'_>, overflow: &Overflow<'_>) {
    let Overflow { namespace, socket, packets, traced, counted, .. } = *overflow;
    let process = socket.process();
    let owner = process.as_ref().map_or("the program (not visible to this user)".into(), |one| {
        format!("{} (pid {})", one.comm, one.pid)
    });
    let local = socket.local.map_or("?".into(), |local| local.to_string());
    let rcvbuf = socket.memory.map_or(0, |memory| memory.rcvbuf);
    let full = rcvbuf > 0 && u64::from(socket.peak()) * 4 >= u64::from(rcvbuf) * 3;
    let variant = variant(case, socket, rcvbuf);
    let (summary, remedy) = match variant {
        "stopped" => (
            format!("{owner} is stopped and reads nothing from UDP {local}; its buffer is full"),
            resume(socket),
        ),
        "slow-reader" => (
            format!(
                "{owner} reads UDP {local} too slowly: its buffer of {rcvbuf} bytes stays full"
            ),
            read_faster(&owner),
        ),
        _ => (
            format!(
                "Bursts overflow the buffer of {rcvbuf} bytes with which {owner} reads UDP {local}"
            ),
            enlarge(namespace, &owner, rcvbuf, burst(socket), overflow.length),
        ),
    };
    let conclusion = Conclusion {
        variant: Some(variant),
        severity: Severity::Critical,
        confidence: if full { Confidence::Confirmed } else { Confidence::Likely },
        loss: Loss { packets, traced, counted },
        site: Site {
            socket: Some(format!("udp {local}")),
            object: Some(match variant {
                "burst" => format!("SO_RCVBUF of UDP {local}"),
                _ => format!("program that reads UDP {local}"),
            }),
            process,
            ..case.site_of(Some(namespace.inode))
        },
        summary,
        evidence: proof(overflow, &local, rcvbuf),
        remedies: vec![remedy],
    };
    case.conclude(ID, conclusion);
}

/// What kind of shortage it is. The buffer counts as full from three quarters on: one datagram of
/// unlucky size does not fit into the rest.
fn variant(case: &Case<'_>, socket: &Socket, rcvbuf: u32) -> &'static str {
    if socket.owners.first().is_some_and(|one| matches!(one.state, 'T' | 't')) {
        return "stopped";
    }
    let end = case.evidence().window.length().as_millis() as u64;
    let (pinned, caught_up) = pinned(socket, rcvbuf, end);
    let long = u128::from(pinned) >= case.thresholds().pinned().as_millis();
    // Only a reader that was seen to catch up was hit by a burst.
    if rcvbuf > 0 && (long || !caught_up) { "slow-reader" } else { "burst" }
}

fn proof(overflow: &Overflow<'_>, local: &str, rcvbuf: u32) -> Vec<EvidenceItem> {
    use EvidenceKind::{Counter, State, Tracer};
    let Overflow { namespace, socket, traced, .. } = overflow;
    let mut proof = Vec::new();
    for name in COUNTERS {
        if let Some(grown) = namespace.delta(name).filter(|grown| *grown > 0) {
            proof.push(EvidenceItem::new(Counter, name, grown));
        }
    }
    proof.push(EvidenceItem::new(Counter, format!("drops of UDP {local}"), socket.drops.delta32()));
    proof.push(EvidenceItem::new(
        State,
        format!("receive buffer of UDP {local}, most seen against its size, in bytes"),
        format!("{} of {rcvbuf}", socket.peak()),
    ));
    if *traced > 0 {
        proof.push(EvidenceItem::new(Tracer, "SOCKET_RCVBUFF", *traced));
    }
    proof
}

fn enlarge(
    namespace: &Namespace,
    owner: &str,
    rcvbuf: u32,
    burst: u64,
    length: Option<u64>,
) -> Remedy {
    let charged = truesize(length.unwrap_or(USUAL_LENGTH));
    let needed = u64::from(rcvbuf).saturating_add(burst.saturating_mul(charged));
    // SO_RCVBUF is doubled by the kernel, so asking for what is needed leaves as much again.
    let maximum = namespace.sysctl("net.core.rmem_max").and_then(|max| u64::try_from(max).ok());
    let raise = maximum
        .filter(|max| *max < needed)
        .and_then(|_| command::within(namespace, &format!("sysctl -w net.core.rmem_max={needed}")));
    Remedy {
        summary: format!(
            "Let {owner} ask for SO_RCVBUF={needed} (now {rcvbuf}, plus the worst burst of {burst} \
             datagrams at {charged} bytes each; the kernel doubles it) and open its socket again"
        ),
        commands: raise.into_iter().chain(command::within(namespace, "ss -ulnmp")).collect(),
        useless: vec![
            "net.core.rmem_max alone: it only bounds what a program asks for".into(),
            "net.core.netdev_max_backlog: the packets reached the socket".into(),
        ],
    }
}

fn read_faster(owner: &str) -> Remedy {
    Remedy {
        summary: format!(
            "Make {owner} read faster: more reading threads or sockets (SO_REUSEPORT), recvmmsg(), less \
             work between two reads, more CPU"
        ),
        commands: Vec::new(),
        useless: vec![
            "a larger buffer: datagrams arrive faster than they are read, so any buffer fills; it only \
             adds delay"
                .into(),
        ],
    }
}

fn resume(socket: &Socket) -> Remedy {
    let pid = socket.owners.first().map_or(0, |one| one.pid);
    Remedy {
        summary:
            "Let the program run again, and find out who stopped it: a debugger, SIGSTOP, job \
                  control"
                .into(),
        commands: vec![format!("kill -CONT {pid}")],
        useless: vec!["a larger buffer: nobody reads from it".into()],
    }
}

/// Losses that no socket shows: it is gone, or could not be read.
fn unplaced(case: &mut Case<'_>, site: Site, loss: Loss, evidence: Vec<EvidenceItem>) {
    let conclusion = Conclusion {
        variant: None,
        severity: Severity::Critical,
        confidence: Confidence::Likely,
        loss,
        site,
        summary:
            "The receive buffer of a UDP socket is full, but no socket that can be read shows \
                  drops: it was closed within the window or is not readable"
                .into(),
        evidence,
        remedies: vec![Remedy {
            summary: "Run again while the program runs, as root, to see which socket it is".into(),
            commands: Vec::new(),
            useless: Vec::new(),
        }],
    };
    case.conclude(ID, conclusion);
}

#[cfg(test)]
mod tests {
    use whydrop_model::{
        Confidence, Endpoint, Evidence, Pair, Process, QueueStep, Socket, SocketMemory,
        SocketProtocol,
    };

    use crate::{Thresholds, diagnose, sample};

    fn overflow(course: &[(u64, u32, u64)], state: char) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Udp.RcvbufErrors", 40);
        let mut total = sample::total("SOCKET_RCVBUFF", "udp_queue_rcv_one_skb", 38);
        total.bytes = 38 * 64;
        evidence.tracer.totals = vec![total];
        evidence.namespaces[0].sockets.push(Socket {
            local: Some(Endpoint {
                address: "0.0.0.0".parse().expect("an address"),
                port: Some(9000),
            }),
            drops: Pair { before: 0, after: 40 },
            memory: Some(SocketMemory { rcvbuf: 8000, ..SocketMemory::default() }),
            steps: course
                .iter()
                .map(|&(at_ms, queued, drops)| QueueStep { at_ms, queued, drops })
                .collect(),
            owners: vec![Process { pid: 77, comm: "reader".into(), state, ..Process::default() }],
            ..Socket::new(SocketProtocol::Udp)
        });
        evidence
    }

    #[test]
    fn the_three_counts_are_one_loss() {
        let evidence = overflow(&[(0, 0, 0), (100, 7900, 40), (300, 0, 40)], 'S');
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!(finding.variant.as_deref(), Some("burst"));
        assert_eq!((finding.packets, finding.confidence), (40, Confidence::Confirmed));
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
        assert_eq!(report.ledger.entries[0].traced, 38);
        // 8000 bytes of buffer, and forty datagrams of 64 bytes at 768 bytes each.
        assert!(finding.remedies[0].summary.contains("SO_RCVBUF=38720"), "{finding:?}");
    }

    #[test]
    fn the_reader_decides_the_variant() {
        let variant = |evidence: &Evidence| {
            diagnose(evidence, &Thresholds::default()).findings[0].variant.clone()
        };
        let slow = overflow(&[(0, 0, 0), (100, 7900, 10), (2000, 7000, 40)], 'S');
        assert_eq!(variant(&slow).as_deref(), Some("slow-reader"));
        // The window ends in the second burst; the reader had caught up with the first.
        let mut cut = overflow(&[(0, 0, 0), (100, 7900, 10), (300, 0, 10), (2000, 7900, 40)], 'S');
        cut.window.seconds = 2.5;
        assert_eq!(variant(&cut).as_deref(), Some("burst"));
        let stopped = overflow(&[(0, 7900, 0), (100, 7900, 40)], 'T');
        assert_eq!(variant(&stopped).as_deref(), Some("stopped"));
    }

    #[test]
    fn a_loss_without_its_socket_is_still_accounted_for() {
        let mut evidence = overflow(&[], 'S');
        evidence.namespaces[0].sockets.clear();
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].confidence, Confidence::Likely);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (40, 0));
    }
}
