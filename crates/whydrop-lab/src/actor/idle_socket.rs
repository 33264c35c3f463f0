//! Sockets that hear what passes, and as a rule do not read it.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::thread;

use nix::sys::socket::{NetlinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};

use super::say;
use crate::part::{IdleSocket, Message, SocketKind};

/// `AF_NETLINK` (`include/linux/socket.h`).
const AF_NETLINK: i32 = 16;
/// `NETLINK_ROUTE` and its group of IPv4 addresses (`include/uapi/linux/rtnetlink.h`).
const NETLINK_ROUTE: i32 = 0;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;

/// Holds the socket until killed.
pub(super) fn hold(plan: &IdleSocket) -> io::Result<()> {
    let mut socket = open(plan)?;
    if let Some(rcvbuf) = plan.rcvbuf {
        socket.set_recv_buffer_size(rcvbuf as usize)?;
    }
    say(&Message::Ready)?;
    if !plan.read {
        loop {
            thread::park();
        }
    }
    let mut buffer = vec![0; 1 << 16];
    loop {
        // What it hears is nobody's concern, only that it is taken.
        let _ = socket.read(&mut buffer)?;
    }
}

fn open(plan: &IdleSocket) -> io::Result<Socket> {
    let raw = |domain, protocol: u8| {
        Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))
    };
    match plan.kind {
        SocketKind::Raw(protocol) if plan.ipv6 => raw(Domain::IPV6, protocol),
        SocketKind::Raw(protocol) => raw(Domain::IPV4, protocol),
        SocketKind::Packet(ethertype) => {
            // In network byte order.
            let protocol = Protocol::from(i32::from(ethertype.to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
        }
        SocketKind::Addresses => {
            let protocol = Some(Protocol::from(NETLINK_ROUTE));
            let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, protocol)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_IPV4_IFADDR))?;
            Ok(socket)
        }
    }
}
