//! Asks the driver of a device by `SIOCETHTOOL` (`net/ethtool/ioctl.c`).
//!
//! The only place of this crate with unsafe code: the kernel writes its answer where a pointer leads.
//! What can be asked is limited to commands that read, and what is answered is handed out as bytes;
//! what they mean is the business of the collector.

#![expect(unsafe_code, reason = "an ioctl that takes a pointer inside of its argument")]

use std::ffi::c_void;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::netlink::u32_at;

const SIOCETHTOOL: Opcode = 0x8946;
/// Bytes of a device's name with its zero byte (`include/uapi/linux/if.h`).
const IFNAMSIZ: usize = 16;

/// Bytes of one string (`ETH_GSTRING_LEN`).
pub(crate) const STRING: usize = 32;
/// Most strings or statistics that are asked for; the largest drivers have some thousands.
const MOST: usize = 32 * 1024;
/// The kernel tells how many strings or statistics there are, and at the next call writes as many as
/// there are by then. So there is room for so many times what it told.
const SPARE: usize = 4;
/// Room at first: enough for all answers of a fixed length and for most of the others.
const ROOM: usize = 64 * 1024;
/// Bytes cleared before each call: the longest fixed answer is `struct ethtool_drvinfo` with 196.
const CLEARED: usize = 256;

/// Commands of `include/uapi/linux/ethtool.h` that only read. Each answers with a structure of a fixed
/// length below [`CLEARED`], to which `Features` and `LinkSettings` add masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Get {
    /// `struct ethtool_drvinfo`.
    DriverInfo = 0x03,
    /// `struct ethtool_coalesce`.
    Coalesce = 0x0e,
    /// `struct ethtool_ringparam`.
    Ring = 0x10,
    /// `struct ethtool_pauseparam`.
    Pause = 0x12,
    /// `struct ethtool_gfeatures`.
    Features = 0x3a,
    /// `struct ethtool_channels`.
    Channels = 0x3c,
    /// `struct ethtool_link_settings`.
    LinkSettings = 0x4c,
}

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;

/// Sets of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Strings {
    /// Names of the driver's statistics.
    Statistics = 1,
    /// Names of the offloads, the same for every device.
    Features = 4,
}

/// A socket through which devices of one namespace are asked: that in which the calling thread was
/// when it opened it.
#[derive(Debug)]
pub(crate) struct Ethtool {
    fd: OwnedFd,
    /// Where the kernel writes.
    room: Vec<u8>,
}

/// `struct ifreq` as this command uses it: longer than the kernel's on no machine, and not shorter.
#[repr(C)]
struct Request {
    name: [u8; IFNAMSIZ],
    data: *mut c_void,
    rest: [u8; 16],
}

impl Ethtool {
    pub(crate) fn open() -> Result<Self, Errno> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self { fd, room: vec![0; ROOM] })
    }

    /// Asks a device by its name. `words` follow the command in the request. The answer begins with
    /// the command and is as long as `get` says; what follows it means nothing.
    ///
    /// # Errors
    ///
    /// What the kernel said: `OPNOTSUPP` if the driver has no answer, `NODEV` if the device is gone.
    pub(crate) fn get(&mut self, device: &str, get: Get, words: &[u32]) -> Result<&[u8], Errno> {
        self.call(device, get as u32, words)
    }

    /// A set of strings; `None` if the device has none.
    pub(crate) fn strings(
        &mut self,
        device: &str,
        set: Strings,
    ) -> Result<Option<Vec<&[u8]>>, Errno> {
        let Some(count) = self.count(device, set)? else { return Ok(None) };
        let answer = self.call(device, ETHTOOL_GSTRINGS, &[set as u32, count])?;
        let length = u32_at(answer, 8).unwrap_or(0).min(count) as usize;
        Ok(Some(answer[12..].chunks_exact(STRING).take(length).collect()))
    }

    /// The driver's statistics, in the order of their names: each has eight bytes. `None` if the
    /// device has none.
    pub(crate) fn statistics(&mut self, device: &str) -> Result<Option<&[u8]>, Errno> {
        let Some(count) = self.count(device, Strings::Statistics)? else { return Ok(None) };
        // A kernel that finds another number by now writes none (6.19) or as many as it finds.
        let answer = self.call(device, ETHTOOL_GSTATS, &[count])?;
        let length = u32_at(answer, 4).unwrap_or(0).min(count) as usize;
        Ok(answer.get(8..8 + length * 8))
    }

    /// How many strings a set has; `None` for none.
    fn count(&mut self, device: &str, set: Strings) -> Result<Option<u32>, Errno> {
        let mask = 1_u64 << (set as u32);
        let bytes = mask.to_ne_bytes();
        let halves = [u32_at(&bytes, 0).unwrap_or(0), u32_at(&bytes, 4).unwrap_or(0)];
        let answer = self.call(device, ETHTOOL_GSSET_INFO, &[0, halves[0], halves[1]])?;
        let known = answer.get(8..16) == Some(&bytes[..]);
        let count = u32_at(answer, 16).filter(|&count| known && count > 0);
        let Some(count) = count else { return Ok(None) };
        if count as usize > MOST {
            return Err(Errno::TOOBIG);
        }
        let needed = SPARE * count as usize * STRING;
        if self.room.len() < needed {
            self.room.resize(needed, 0);
        }
        Ok(Some(count))
    }

    fn call(&mut self, device: &str, command: u32, words: &[u32]) -> Result<&[u8], Errno> {
        let mut request =
            Request { name: [0; IFNAMSIZ], data: std::ptr::null_mut(), rest: [0; 16] };
        if device.len() >= IFNAMSIZ {
            return Err(Errno::NODEV);
        }
        request.name[..device.len()].copy_from_slice(device.as_bytes());
        self.room[..CLEARED].fill(0);
        for (at, word) in std::iter::once(&command).chain(words).enumerate() {
            self.room[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        request.data = self.room.as_mut_ptr().cast();
        // SAFETY: SIOCETHTOOL copies a `struct ifreq`, which `Request` is, and reads and writes at
        // `data`, which is `room`, borrowed mutably by this function. Only the commands of this file
        // can get here. What they write:
        // - those of `Get` a structure of less than CLEARED bytes; Features and LinkSettings add masks
        //   whose length is the kernel's own, some hundred bytes whatever the request says;
        // - the others a header and as many strings or numbers as the driver has at that moment.
        //   There is room for SPARE times what it had a moment ago: a driver has some for each queue,
        //   and its queues are not multiplied so within the microseconds in between.
        unsafe { ioctl(&self.fd, Updater::<SIOCETHTOOL, Request>::new(&mut request))? };
        Ok(&self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there() {
        let mut ethtool = Ethtool::open().unwrap();
        let refused = [Errno::NODEV, Errno::OPNOTSUPP];
        for device in ["", "no-such-device", "a name that is too long for a device"] {
            let error = ethtool.get(device, Get::Ring, &[]).unwrap_err();
            assert!(refused.contains(&error), "{device}: {error}");
            assert!(ethtool.statistics(device).is_err(), "{device}");
        }
    }

    #[test]
    fn loopback_has_offloads_and_no_statistics() {
        let mut ethtool = Ethtool::open().unwrap();
        let names = ethtool.strings("lo", Strings::Features).unwrap().unwrap();
        assert!(names.iter().any(|name| name.starts_with(b"rx-gro\0")), "{} names", names.len());
        assert!(matches!(ethtool.statistics("lo"), Ok(None) | Err(Errno::OPNOTSUPP)));
    }
}
