//! A larger receive buffer for a UDP socket that is read in time, but not in bursts.

use whydrop_model::{Answer, Proposal, Socket, SocketOf, SocketProtocol, Target, Write};

use super::{Patient, left_out, measured, shortage};
use crate::{programs, receive};

pub(super) fn answer(patient: &Patient<'_>) -> Option<Answer> {
    let socket = socket(patient)?;
    match patient.variant() {
        "slow-reader" => Some(Answer::Capacity(shortage::of(
            patient,
            &socket.owners,
            "reading speed",
            "datagrams arrive faster than they are read, and the buffer stays full",
        ))),
        "burst" => larger_buffer(patient, socket),
        _ => None,
    }
}

fn socket<'e>(patient: &Patient<'e>) -> Option<&'e Socket> {
    let name = patient.finding.site.socket.as_deref()?.strip_prefix("udp ")?;
    let udp = patient.namespace.sockets.iter().filter(|one| one.protocol == SocketProtocol::Udp);
    udp.filter(|one| one.local.is_some_and(|local| local.to_string() == name))
        .max_by_key(|one| one.drops.delta32())
}

fn larger_buffer(patient: &Patient<'_>, socket: &Socket) -> Option<Answer> {
    let owner = socket.owners.first()?;
    let now = u64::from(socket.memory?.rcvbuf);
    let length = patient.mean_length("SOCKET_RCVBUFF");
    let burst = receive::burst(socket);
    let charged = receive::truesize(length.unwrap_or(receive::USUAL_LENGTH));
    let needed = now.saturating_add(burst.saturating_mul(charged));
    let doubled = needed.saturating_mul(2);
    let endpoint = socket.local?.to_string();
    let cap = patient.namespace.sysctl("net.core.rmem_max").and_then(|cap| u64::try_from(cap).ok());
    let too_low = cap.is_some_and(|cap| cap < needed);
    let raise = if too_low {
        format!(" (and net.core.rmem_max of the host to at least {needed}, which caps it)")
    } else {
        String::new()
    };
    let lasting = match programs::buffer_setting(owner) {
        Some((place, setting)) => format!("set {place} to {needed} and {}", setting.afterwards),
        None => format!(
            "let {} ask for SO_RCVBUF={needed}, or set ReceiveBuffer={needed} where a systemd socket unit \
             opens it",
            owner.comm
        ),
    };
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Give {} (pid {}) a receive buffer of {} bytes instead of {now} for UDP {endpoint}, on its own \
             socket",
            owner.comm, owner.pid, doubled
        ),
        writes: vec![Write {
            netns: patient.netns(),
            target: Target::ReceiveBuffer(SocketOf {
                pid: owner.pid,
                comm: owner.comm.clone(),
                inode: socket.inode,
                endpoint: endpoint.clone(),
            }),
            old: Some(now.to_string()),
            new: doubled.to_string(),
        }],
        measured: vec![
            measured("bytes of buffer", now),
            measured("most datagrams refused in one burst", burst),
            measured("bytes charged for each (truesize)", charged),
            measured("datagrams read in the window", patient.grown("Udp.InDatagrams")),
        ],
        sizing: Some(format!(
            "2 x ({now} + {burst} datagrams x {charged} bytes) = {doubled}: SO_RCVBUF={needed}, which the \
             kernel doubles"
        )),
        risk: "A full buffer is memory, and what waits at its end is read late".into(),
        weakens: None,
        interrupts: None,
        permanent: vec![format!("The buffer lives as long as the socket: {lasting}{raise}")],
        left_out: left_out(patient.finding),
    })))
}
