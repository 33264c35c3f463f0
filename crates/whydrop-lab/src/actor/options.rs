//! Options of TCP sockets for which there is no other safe way to set them.

use std::io;
use std::net::IpAddr;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use socket2::Socket;

/// `TCP_MD5SIG_EXT` (`include/uapi/linux/tcp.h`).
const TCP_MD5SIG_EXT: libc::c_int = 32;
/// `IPV6_MINHOPCOUNT` (`include/uapi/linux/in6.h`).
const IPV6_MINHOPCOUNT: libc::c_int = 73;
/// Address families (`include/linux/socket.h`).
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `TCP_MD5SIG_FLAG_PREFIX`: the key is for all addresses of a prefix.
const PREFIX: u8 = 1;

/// `struct tcp_md5sig` (`include/uapi/linux/tcp.h`); the address is a `struct sockaddr_storage`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Md5Signature {
    family: u16,
    rest_of_address: [u8; 126],
    flags: u8,
    prefix: u8,
    key_length: u16,
    ifindex: i32,
    key: [u8; 80],
}

#[derive(Clone)]
struct Md5Key;
#[derive(Clone)]
struct MinimumTtl;
#[derive(Clone)]
struct MinimumHopLimit;

nix::setsockopt_impl!(
    Md5Key,
    libc::IPPROTO_TCP,
    TCP_MD5SIG_EXT,
    Md5Signature,
    SetStruct<Md5Signature>
);
nix::setsockopt_impl!(MinimumTtl, libc::IPPROTO_IP, libc::IP_MINTTL, i32, SetStruct<i32>);
nix::setsockopt_impl!(MinimumHopLimit, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, i32, SetStruct<i32>);

/// Has a listener demand TCP-MD5 signatures with this key of all peers.
pub(super) fn demand_md5(listener: &Socket, address: IpAddr, key: &str) -> io::Result<()> {
    let family: u16 = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut signature = Md5Signature {
        family,
        rest_of_address: [0; 126],
        flags: PREFIX,
        prefix: 0,
        key_length: key.len() as u16,
        ifindex: 0,
        key: [0; 80],
    };
    let room = signature.key.get_mut(..key.len());
    room.ok_or_else(|| io::Error::other("a key has at most 80 bytes"))?
        .copy_from_slice(key.as_bytes());
    Ok(setsockopt(listener, Md5Key, &signature)?)
}

/// Has a listener refuse packets that came through too many routers (GTSM, RFC 5082).
pub(super) fn demand_ttl(listener: &Socket, address: IpAddr, least: u8) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(listener, MinimumTtl, &least.into())?,
        IpAddr::V6(_) => setsockopt(listener, MinimumHopLimit, &least.into())?,
    }
    Ok(())
}
