//! Asks for the rules of a table of iptables-legacy by `getsockopt` (`net/ipv4/netfilter/ip_tables.c`,
//! `net/ipv6/netfilter/ip6_tables.c`).
//!
//! Unsafe code, because the kernel writes where a pointer leads and no crate offers these options. What
//! can be asked is limited to what reads; what is answered is handed out as bytes, and what they mean is
//! the business of `nftables::legacy`. Needs CAP_NET_ADMIN in the namespace.

#![expect(unsafe_code, reason = "a socket option that no safe function offers")]

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::netlink::u32_at;
use crate::nftables::legacy::Family;

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// Bytes of a table's name (`XT_TABLE_MAXNAMELEN`).
const NAME: usize = 32;
/// Bytes of `struct ipt_getinfo` and `struct ip6t_getinfo`.
const INFO: usize = 84;
/// Where they tell the bytes of the entries.
const SIZE: usize = 80;
/// Bytes of `struct ipt_get_entries` before the entries, on 64 bits.
const HEADER: usize = 40;
/// Bytes of entries that are read: some hundred thousand rules.
const MOST: usize = 64 << 20;
/// Each time the table was changed between the two questions.
const ATTEMPTS: u32 = 3;

/// A table as the kernel hands it out.
#[derive(Debug)]
pub(crate) struct Table {
    /// `struct ipt_getinfo`.
    pub(crate) info: Vec<u8>,
    /// Entries with their counters, those of all CPUs added up.
    pub(crate) entries: Vec<u8>,
}

/// Reads a table that is in force in the namespace of the calling thread. One that is not must not be
/// asked for: the kernel would load its module.
pub(crate) fn table(family: Family, name: &str) -> Result<Table, Errno> {
    let (domain, level) = match family {
        Family::Ip => (AddressFamily::INET, libc::SOL_IP),
        Family::Ip6 => (AddressFamily::INET6, libc::SOL_IPV6),
    };
    if name.len() >= NAME {
        return Err(Errno::INVAL);
    }
    let fd = socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut attempt = 1;
    loop {
        let mut info = vec![0; INFO];
        info[..name.len()].copy_from_slice(name.as_bytes());
        get(&fd, level, GET_INFO, &mut info)?;
        let size = u32_at(&info, SIZE).unwrap_or(0);
        if size as usize > MOST {
            return Err(Errno::FBIG);
        }
        let mut entries = vec![0; HEADER + size as usize];
        entries[..name.len()].copy_from_slice(name.as_bytes());
        entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        match get(&fd, level, GET_ENTRIES, &mut entries) {
            Err(Errno::AGAIN) if attempt < ATTEMPTS => attempt += 1,
            other => {
                other?;
                return Ok(Table { info, entries: entries.split_off(HEADER) });
            }
        }
    }
}

fn get(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    room: &mut [u8],
) -> Result<(), Errno> {
    let mut length = room.len() as libc::socklen_t;
    // SAFETY: the kernel reads and writes at most `length` bytes at the pointer, which are those of
    // `room`, borrowed mutably by this function; both options refuse a length that is not exactly that
    // of their answer, and write nothing elsewhere.
    let answer = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, option, room.as_mut_ptr().cast(), &raw mut length)
    };
    if answer == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
