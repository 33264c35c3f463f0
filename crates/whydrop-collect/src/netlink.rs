//! Netlink framing: a socket that asks and dumps, and readers for headers and attributes.
//!
//! Knows no message type; what a payload means is the business of the collector that asked for it.
//! Bytes become numbers by copy, and every reader ends on bytes it does not understand instead of
//! trusting a length, because the same code must hold for kernels not yet written.

use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::error::Why;

/// Bytes of `struct nlmsghdr` (`include/uapi/linux/netlink.h`).
const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// Type bits of an attribute without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The kernel fills at most 32 KiB per answer of a dump; twice that leaves room for one message
/// that is longer.
const BUFFER: usize = 64 * 1024;
/// Longest time for one dump; the kernel answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a dump is started anew because the table changed while it was read.
const ATTEMPTS: u32 = 3;

/// Which kernel subsystem answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: devices.
    Route,
    /// `NETLINK_SOCK_DIAG`: sockets.
    SockDiag,
    /// `NETLINK_GENERIC`: families that register by name.
    Generic,
    /// `NETLINK_NETFILTER`: rules and connection tracking.
    Netfilter,
    /// `NETLINK_XFRM`: IPsec.
    Xfrm,
}

/// Why a dump gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The kernel answered with an error.
    Refused(Errno),
    /// No end of the dump arrived in time.
    NoAnswer,
    /// A message was longer than the buffer, or messages were lost.
    Overrun,
    /// The answer is not netlink.
    Malformed,
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Self {
        match failure {
            // `netlink_net_capable()`: what netlink hides, it hides from those without this one.
            Failure::Refused(Errno::PERM) => {
                Self::new("not permitted; needs CAP_NET_ADMIN or root")
            }
            Failure::Refused(error) => error.into(),
            Failure::NoAnswer => Self::new("no answer from the kernel within 2 s"),
            Failure::Overrun => Self::new("the kernel's answer did not fit"),
            Failure::Malformed => Self::new("the kernel's answer was not understood"),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Why::from(*self).0)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Room for one answer, shared by all sockets of a thread.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Room for any answer.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; BUFFER])
    }
}

/// The answer to a dump.
#[derive(Debug, PartialEq, Eq)]
pub struct Dump<T> {
    /// What was taken of it.
    pub items: Vec<T>,
    /// The table changed during each attempt: an item may be missing or doubled.
    pub interrupted: bool,
}

/// A netlink socket of the network namespace in which the calling thread was when it opened it. It
/// keeps that namespace alive.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    /// Items after which a dump is given up.
    most: usize,
}

impl Socket {
    /// A socket that speaks with one part of the kernel.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn open(protocol: Protocol) -> Result<Self, Errno> {
        // `NETLINK_ROUTE` is number 0, which is also what "no protocol" means.
        let number = match protocol {
            Protocol::Route => None,
            Protocol::SockDiag => Some(netlink::SOCK_DIAG),
            Protocol::Generic => Some(netlink::GENERIC),
            Protocol::Netfilter => Some(netlink::NETFILTER),
            Protocol::Xfrm => Some(netlink::XFRM),
        };
        let fd = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            number,
        )?;
        net::sockopt::set_socket_timeout(&fd, net::sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, sequence: 0, most: usize::MAX })
    }

    /// What the kernel's tables of sockets call it.
    pub(crate) fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(&self.fd).ok().map(|data| data.st_ino)
    }

    /// For one dump of a table that may be huge: given up when so many items, or a few more, were
    /// taken. The kernel then thinks the dump still goes on, so the socket is of no further use.
    pub(crate) fn at_most(self, items: usize) -> Self {
        Self { most: items, ..self }
    }

    /// Dumps a table. `parse` gets the payload of each message; what it does not take is skipped.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        request: &[u8],
        buffer: &mut Buffer,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Dump<T>, Failure> {
        let mut attempt = 1;
        loop {
            let dump = self.exchange(kind, NLM_F_DUMP, request, buffer, &mut parse)?;
            if !dump.interrupted || attempt == ATTEMPTS || dump.items.len() >= self.most {
                return Ok(dump);
            }
            attempt += 1;
        }
    }

    /// As [`Socket::dump`], but `each` takes the messages as they come, so that a huge table needs no
    /// room. Never started anew: for tables that do not tell whether they changed meanwhile.
    pub(crate) fn walk(
        &mut self,
        kind: u16,
        request: &[u8],
        buffer: &mut Buffer,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let mut take = |payload: &[u8]| {
            each(payload);
            None::<()>
        };
        self.exchange(kind, NLM_F_DUMP, request, buffer, &mut take).map(drop)
    }

    /// Asks for one object, or for a change. The kernel answers with it and with an acknowledgement; `None` if `parse`
    /// did not take the answer.
    pub fn ask<T>(
        &mut self,
        kind: u16,
        request: &[u8],
        buffer: &mut Buffer,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let answer = self.exchange(kind, NLM_F_ACK, request, buffer, &mut parse)?;
        Ok(answer.items.into_iter().next())
    }

    fn exchange<T>(
        &mut self,
        kind: u16,
        flags: u16,
        request: &[u8],
        buffer: &mut Buffer,
        parse: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Dump<T>, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = frame(kind, NLM_F_REQUEST | flags, self.sequence, request);
        net::send(&self.fd, &message, SendFlags::empty()).map_err(Failure::Refused)?;
        let started = Instant::now();
        let mut dump = Dump { items: Vec::new(), interrupted: false };
        while started.elapsed() < PATIENCE {
            let (taken, sent, sender) =
                match net::recvfrom(&self.fd, buffer.0.as_mut_slice(), RecvFlags::TRUNC) {
                    Ok(received) => received,
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => return Err(Failure::NoAnswer),
                    Err(Errno::NOBUFS) => return Err(Failure::Overrun),
                    Err(error) => return Err(Failure::Refused(error)),
                };
            let sender = sender.and_then(|any| netlink::SocketAddrNetlink::try_from(any).ok());
            if sender.is_some_and(|address| address.pid() != 0) {
                // Only the kernel has port 0; nobody else has a say here.
                continue;
            }
            if sent > taken {
                return Err(Failure::Overrun);
            }
            let done = read_answer(&buffer.0[..taken], self.sequence, parse, &mut dump)?;
            if done || dump.items.len() >= self.most {
                return Ok(dump);
            }
        }
        Err(Failure::NoAnswer)
    }
}

/// Reads one datagram of an answer into `dump`. True when the dump is complete.
pub(crate) fn read_answer<T>(
    datagram: &[u8],
    sequence: u32,
    parse: &mut impl FnMut(&[u8]) -> Option<T>,
    dump: &mut Dump<T>,
) -> Result<bool, Failure> {
    let mut messages = Messages(datagram);
    for message in messages.by_ref() {
        if message.sequence != sequence {
            // The rest of a dump that was given up.
            continue;
        }
        dump.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        match message.kind {
            NLMSG_NOOP => {}
            NLMSG_OVERRUN => return Err(Failure::Overrun),
            NLMSG_ERROR | NLMSG_DONE => {
                // Both carry a negative errno; an old kernel's DONE may carry nothing.
                return match i32_at(message.payload, 0).unwrap_or(0) {
                    error @ -4095..0 => Err(Failure::Refused(Errno::from_raw_os_error(-error))),
                    _ => Ok(true),
                };
            }
            _ => dump.items.extend(parse(message.payload)),
        }
    }
    if messages.0.is_empty() { Ok(false) } else { Err(Failure::Malformed) }
}

/// A request: header and payload.
fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(payload);
    message
}

/// One netlink message.
#[derive(Debug)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram. Ends at the first that does not fit; the field then is what was not
/// understood, else it is empty.
#[derive(Debug)]
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let kind = u16_at(self.0, 4)?;
        let flags = u16_at(self.0, 6)?;
        let sequence = u32_at(self.0, 8)?;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, payload })
    }
}

/// The attributes in a payload, as type and value. Ends at the first that does not fit.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Appends an attribute to a request.
pub fn push_attribute(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    request.extend((value.len() as u16 + 4).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(align(request.len()), 0);
}

/// Lengths are rounded up to four bytes.
fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The number at an offset, in the byte order of this machine; `None` behind the end.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

/// As [`u16_at`].
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

/// As [`u16_at`].
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes_at(bytes, at).map(i32::from_ne_bytes)
}

/// A name that the kernel ends with a zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEQUENCE: u32 = 7;

    fn read(datagram: &[u8]) -> Result<(bool, Dump<Vec<u8>>), Failure> {
        let mut dump = Dump { items: Vec::new(), interrupted: false };
        let mut keep = |payload: &[u8]| Some(payload.to_vec());
        read_answer(datagram, SEQUENCE, &mut keep, &mut dump).map(|done| (done, dump))
    }

    fn error(kind: u16, number: i32) -> Vec<u8> {
        frame(kind, 0, SEQUENCE, &number.to_ne_bytes())
    }

    #[test]
    fn a_dump_is_collected_until_done() {
        let mut datagram = frame(20, 2, SEQUENCE, &[1, 2, 3, 4]);
        datagram.extend(frame(20, 2, SEQUENCE - 1, &[9, 9, 9, 9]));
        datagram.extend(frame(20, 2 | NLM_F_DUMP_INTR, SEQUENCE, &[5, 6, 7, 8]));
        let (done, dump) = read(&datagram).unwrap();
        assert!(!done && dump.interrupted);
        assert_eq!(dump.items, [[1, 2, 3, 4], [5, 6, 7, 8]]);
        datagram.extend(error(NLMSG_DONE, 0));
        assert!(read(&datagram).unwrap().0);
    }

    #[test]
    fn errors_of_the_kernel_are_told() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            assert_eq!(read(&error(kind, -1)).unwrap_err(), Failure::Refused(Errno::PERM));
        }
        assert_eq!(read(&error(NLMSG_OVERRUN, 0)).unwrap_err(), Failure::Overrun);
        assert!(read(&error(NLMSG_ERROR, i32::MIN)).unwrap().0);
    }

    #[test]
    fn a_cut_datagram_is_malformed_at_every_length() {
        let mut datagram = frame(20, 2, SEQUENCE, &[1; 20]);
        let whole = datagram.len();
        datagram.extend(frame(20, 2, SEQUENCE, &[2; 8]));
        for length in 0..datagram.len() {
            let answer = read(&datagram[..length]);
            if length == 0 || length == whole {
                assert!(!answer.unwrap().0);
            } else {
                assert_eq!(answer.unwrap_err(), Failure::Malformed, "{length} bytes");
            }
        }
    }

    #[test]
    fn attributes_are_read_with_padding_and_flags_off() {
        let bytes = [5, 0, 3, 0x80, 42, 0, 0, 0, 8, 0, 4, 0, 1, 2, 3, 4];
        let all: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(all, [(3, &[42][..]), (4, &[1, 2, 3, 4][..])]);
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(Attributes(&[0; 64]).count(), 0, "no endless loop on zeros");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
            prop_assert!(Attributes(&bytes).count() <= bytes.len() / 4);
            prop_assert!(Messages(&bytes).count() <= bytes.len() / HEADER);
        }

        #[test]
        fn hostile_lengths_never_panic_or_loop(
            lengths in prop::collection::vec(0_u32..80, 1..40),
            kind in 0_u16..30,
        ) {
            let mut datagram = Vec::new();
            for length in lengths {
                let mut message = frame(kind, 0, SEQUENCE, &[7; 20]);
                message[..4].copy_from_slice(&length.to_ne_bytes());
                datagram.extend(message);
            }
            let _ = read(&datagram);
        }
    }
}
