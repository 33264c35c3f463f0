//! Attaches a file to a tun or tap device by `TUNSETIFF` (`drivers/net/tun.c`).
//!
//! The only place of this crate with unsafe code: the kernel reads and writes where a pointer leads.

#![expect(unsafe_code, reason = "an ioctl that takes a pointer")]

use std::io;

use rustix::fd::BorrowedFd;
use rustix::ioctl::{Opcode, Updater, ioctl};

const TUNSETIFF: Opcode = 0x4004_54ca;
/// Bytes of a device's name with its zero byte (`include/uapi/linux/if.h`).
const IFNAMSIZ: usize = 16;

/// `struct ifreq` as this command uses it: as long as the kernel's on 64 bits, and longer than on 32.
#[repr(C)]
struct Request {
    name: [u8; IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Makes `file`, an open `/dev/net/tun`, a queue of this device with these flags (`IFF_*` of
/// `include/uapi/linux/if_tun.h`).
pub(super) fn attach(file: BorrowedFd<'_>, device: &str, flags: u16) -> io::Result<()> {
    let mut request = Request { name: [0; IFNAMSIZ], flags, rest: [0; 22] };
    let bytes = device.as_bytes();
    if bytes.is_empty() || bytes.len() >= IFNAMSIZ {
        return Err(io::Error::other(format!("`{device}` is no name of a device")));
    }
    request.name[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the command copies a struct ifreq in and out, which the request is not shorter than.
    unsafe { ioctl(file, Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
    Ok(())
}
