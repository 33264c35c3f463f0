//! Fills the table of connection tracking by telling the kernel of connections (ctnetlink,
//! `include/uapi/linux/netfilter/nfnetlink_conntrack.h`): the limit is the host's, so it has to be
//! reached and cannot be lowered for a namespace.

use std::io::{self, Read};

use socket2::{Domain, Protocol, Socket, Type};

use crate::part::{Tally, TrackFlows};

const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;
/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_NEW`.
const CT_NEW: u16 = 1 << 8;
/// `NLM_F_REQUEST | NLM_F_EXCL | NLM_F_CREATE`: the kernel answers errors only.
const FLAGS: u16 = 0x1 | 0x200 | 0x400;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;
/// `IPS_SEEN_REPLY | IPS_ASSURED`, so that early drop passes it over, and `IPS_CONFIRMED`, which a new
/// entry has anyway and no request may change.
const STATUS: u32 = 1 << 1 | 1 << 2 | 1 << 3;
/// Seconds until an entry ends by itself: longer than any scenario.
const TIMEOUT: u32 = 600;
const TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 3;
/// Messages in one call.
const BATCH: u32 = 100;

/// Enters connections until the kernel says that there is no room.
pub(super) fn fill(flows: &TrackFlows) -> io::Result<Tally> {
    let mut socket =
        Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)))?;
    socket.set_nonblocking(true)?;
    let mut batch = vec![message(0); BATCH as usize].concat();
    let length = batch.len() / BATCH as usize;
    let mut entered = 0;
    while entered < flows.most {
        for (number, message) in (entered..).zip(batch.chunks_exact_mut(length)) {
            renumber(message, number);
        }
        socket.send(&batch)?;
        // The kernel works on a message before the call returns.
        if let Some(error) = refusal(&mut socket)? {
            return if error.kind() == io::ErrorKind::OutOfMemory {
                Ok(Tally { done: entered.into(), ..Tally::default() })
            } else {
                Err(error)
            };
        }
        entered += BATCH;
    }
    let most = flows.most;
    Err(io::Error::other(format!("nf_conntrack_max is above {most}: too much to fill")))
}

/// The first error among the kernel's answers.
fn refusal(socket: &mut Socket) -> io::Result<Option<io::Error>> {
    let mut answer = [0; 8192];
    let length = match socket.read(&mut answer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = |at: usize| Some(i32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    // `struct nlmsghdr`, then `struct nlmsgerr`, whose first field is the error, negative.
    let kind = answer[..length].get(4..6).map(|it| u16::from_ne_bytes([it[0], it[1]]));
    match (kind, number(16)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(None),
        (Some(NLMSG_ERROR), Some(code)) => Ok(Some(io::Error::from_raw_os_error(-code))),
        _ => Err(io::Error::other("the kernel's answer is no error message")),
    }
}

/// The client's port and the last byte of its address. Ports come first, so that addresses stay few.
fn client(number: u32) -> (u16, u8) {
    ((number & 0x7fff) as u16 + 1024, (number >> 15) as u8 + 1)
}

/// Makes a request that of another number: there are too many to write each anew.
fn renumber(message: &mut [u8], number: u32) {
    let (port, host) = client(number);
    for at in [35, 95] {
        message[at] = host;
    }
    for at in [60, 120] {
        message[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
}

/// The request to enter a connection of this number.
fn message(number: u32) -> Vec<u8> {
    let (port, host) = client(number);
    let (client, server) = ([198, 18, 0, host], [198, 19, 0, 1]);
    let tuple = |from: [u8; 4], to: [u8; 4], source: u16, destination: u16| {
        let ip = [attribute(1, &from), attribute(2, &to)].concat();
        let ports = [
            attribute(1, &[TCP]),
            attribute(2, &source.to_be_bytes()),
            attribute(3, &destination.to_be_bytes()),
        ];
        [attribute(1 | NLA_F_NESTED, &ip), attribute(2 | NLA_F_NESTED, &ports.concat())].concat()
    };
    let state = attribute(1 | NLA_F_NESTED, &attribute(1, &[TCP_ESTABLISHED]));
    // `struct nfgenmsg`, of IPv4, and `CTA_*`.
    let body = [
        vec![2, 0, 0, 0],
        attribute(1 | NLA_F_NESTED, &tuple(client, server, port, 443)),
        attribute(2 | NLA_F_NESTED, &tuple(server, client, 443, port)),
        attribute(3, &STATUS.to_be_bytes()),
        attribute(4 | NLA_F_NESTED, &state),
        attribute(7, &TIMEOUT.to_be_bytes()),
    ]
    .concat();
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(CT_NEW.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// `struct nlattr` with its value, filled up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_connection_is_another_one() {
        let all: BTreeSet<_> = (0..100_000).map(message).collect();
        assert_eq!(all.len(), 100_000);
        let mut one = message(0);
        for number in [1, 0x7fff, 0x8000, 0x1_2345] {
            renumber(&mut one, number);
            assert_eq!(one, message(number));
        }
        assert_eq!(one.len() % 4, 0);
        assert_eq!(one[..4], (one.len() as u32).to_ne_bytes());
    }

    #[test]
    fn values_are_filled_up() {
        assert_eq!(attribute(1, &[6]), [[5, 0, 1, 0], [6, 0, 0, 0]].concat());
        assert_eq!(attribute(3, &[0, 0, 0, 6]).len(), 8);
    }
}
