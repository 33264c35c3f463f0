//! A raw or packet socket that is the only one to want a packet is full, and the packet is lost.
//!
//! For a raw socket the packet then looks as if nobody handled its protocol: `IP_NOPROTO` in
//! `ip_local_deliver_finish()` (`net/ipv4/ip_input.c`, 6.18), with `InUnknownProtos`; the socket's own
//! drops tell. A packet socket says `PACKET_SOCK_ERROR` in `packet_rcv()` (`net/packet/af_packet.c`)
//! where nobody else wants the frame either; else it only misses a copy, which is another cause.

use whydrop_model::{Confidence, DropTotal, Namespace, Remedy, Severity, Socket, SocketProtocol};

use crate::case::{self, Case, Claim, Conclusion, Loss};
use crate::rule::Rule;
use crate::{command, hearers, share, traced};

/// See the module.
pub(super) struct RawSocketBufferFull;

const ID: &str = "raw-socket-buffer-full";

impl Rule for RawSocketBufferFull {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for namespace in case.namespaces() {
            for (socket, lost) in hearers::losing(namespace, SocketProtocol::Raw) {
                let claims = case.claim_up_to(lost, |total| is_raw(total, namespace, socket));
                let traced = case::packets(&claims);
                let loss = Loss { packets: lost, traced, counted: lost };
                conclude(case, namespace, Some(socket), ("raw", loss), claims);
            }
            let frames = case.claim(|total| {
                total.reason == "PACKET_SOCK_ERROR" && total.netns == Some(namespace.inode)
            });
            let lost = case::packets(&frames);
            if lost > 0 {
                // A capture of all frames is never the only one to want them.
                let sockets = hearers::losing(namespace, SocketProtocol::Packet)
                    .filter(|(socket, _)| socket.number != hearers::ALL_FRAMES);
                let parts = share::split(lost, sockets);
                let most = parts.iter().max_by_key(|(_, part)| *part).map(|(socket, _)| *socket);
                conclude(case, namespace, most, ("packet", Loss::traced(lost)), frames);
            }
        }
    }
}

/// True for packets that this socket should have had.
fn is_raw(total: &DropTotal, namespace: &Namespace, socket: &Socket) -> bool {
    let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
    let refused = total.reason == "IP_NOPROTO" || symbol.contains("raw");
    let of_family =
        socket.local.is_none_or(|local| local.address.is_ipv6() == (total.l3 == 0x86dd));
    refused
        && of_family
        && total.netns == Some(namespace.inode)
        && total.l4.map(u16::from) == Some(socket.number)
}

fn conclude(
    case: &mut Case<'_>,
    namespace: &Namespace,
    socket: Option<&Socket>,
    (variant, loss): (&'static str, Loss),
    claims: Vec<Claim<'_>>,
) {
    let groups = traced::gather(case, claims);
    let mut evidence: Vec<_> = groups.iter().flat_map(traced::Group::proof).collect();
    evidence.extend(socket.map(hearers::proof).unwrap_or_default());
    let owner = socket.map_or("A program".into(), hearers::owner);
    let name = socket.map_or(format!("{variant} socket"), hearers::name);
    let site = match socket {
        Some(socket) => hearers::site(case, namespace, socket),
        None => case.site_of(Some(namespace.inode)),
    };
    let look = if variant == "raw" { "ss -wanmp" } else { "ss -0anmp" };
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant),
            severity: Severity::Critical,
            confidence: if socket.is_some() { Confidence::Confirmed } else { Confidence::Likely },
            loss,
            site,
            summary: format!(
                "{owner} does not read its {name} socket fast enough, and nobody else takes those packets"
            ),
            evidence,
            remedies: vec![Remedy {
                summary: format!(
                    "Let {owner} run and read; for bursts a larger SO_RCVBUF, which net.core.rmem_max of the \
                     host's own namespace must allow; then start it again"
                ),
                commands: command::within(namespace, look).into_iter().collect(),
                useless: vec![
                    "loading a protocol module: the protocol has its handler, and that is full".into(),
                ],
            }],
        },
    );
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Pair, Socket, SocketProtocol};

    use crate::{Thresholds, diagnose, sample};

    fn socket(protocol: SocketProtocol, number: u16, drops: u64) -> Socket {
        Socket { number, drops: Pair { before: 0, after: drops }, ..Socket::new(protocol) }
    }

    #[test]
    fn a_full_raw_socket_is_no_unknown_protocol() {
        let mut evidence = sample::evidence();
        let mut total = sample::total("IP_NOPROTO", "ip_local_deliver_finish", 60);
        total.l4 = Some(253);
        evidence.tracer.totals = vec![total];
        evidence.namespaces[0].sockets = vec![socket(SocketProtocol::Raw, 253, 53)];
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> =
            report.findings.iter().map(|one| (one.cause.as_str(), one.packets)).collect();
        assert_eq!(told, [("raw-socket-buffer-full", 53), ("unknown-ip-protocol", 7)]);
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (60, 0));
    }

    #[test]
    fn a_capture_that_misses_copies_loses_nothing() {
        let mut evidence = sample::evidence();
        evidence.namespaces[0].sockets = vec![socket(SocketProtocol::Packet, 3, 40)];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "capture-socket-full");
        assert_eq!(report.ledger.lost, 0);
    }

    #[test]
    fn a_daemon_that_alone_wants_its_frames_loses_them() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total("PACKET_SOCK_ERROR", "packet_rcv", 30)];
        evidence.namespaces[0].sockets =
            vec![socket(SocketProtocol::Packet, 0x88cc, 30), socket(SocketProtocol::Packet, 3, 9)];
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> = report
            .findings
            .iter()
            .map(|one| (one.cause.as_str(), one.packets, one.site.socket.as_deref()))
            .collect();
        let daemon = ("raw-socket-buffer-full", 30, Some("packet 0x88cc"));
        assert_eq!(told, [daemon, ("capture-socket-full", 0, Some("packet, all frames"))]);
    }
}
