//! The program behind a tun, tap or macvtap device.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{macvtap, say, tun_ioctl};
use crate::part::tun::{TunDevice, TunMode, TunRead, TunWrite};
use crate::part::{Message, Read, Tally};

/// `IFF_*` of `include/uapi/linux/if_tun.h`.
const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// Reads until killed.
pub(super) fn read(plan: &TunRead) -> io::Result<()> {
    let mut file = open(&plan.open)?;
    if matches!(plan.read, Read::AfterStall { .. }) {
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
    }
    say(&Message::Ready)?;
    let mut buffer = vec![0; plan.room];
    // True if there may be more.
    let mut take = || match file.read(&mut buffer) {
        // With too little room the packet is lost, and the next one is there to be read.
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    };
    match plan.read {
        Read::None => loop {
            thread::park();
        },
        Read::All => loop {
            take()?;
        },
        Read::Every { millis } => loop {
            thread::sleep(Duration::from_millis(millis));
            take()?;
        },
        Read::AfterStall { millis } => loop {
            thread::sleep(Duration::from_millis(millis));
            while take()? {}
        },
    }
}

/// Writes all packets.
pub(super) fn write(plan: &TunWrite) -> io::Result<Tally> {
    let mut file = open(&plan.open)?;
    let mut tally = Tally::default();
    for _ in 0..plan.count {
        // The device takes a packet whole or not at all.
        match file.write_all(&plan.data.0) {
            Ok(()) => tally.done += 1,
            Err(_) => tally.failed += 1,
        }
    }
    Ok(tally)
}

fn open(device: &TunDevice) -> io::Result<File> {
    let mode = match device.mode {
        TunMode::Tun => IFF_TUN,
        TunMode::Tap => IFF_TAP,
        TunMode::Macvtap => return macvtap::open(&device.device),
    };
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let header = if device.vnet_header { IFF_VNET_HDR } else { 0 };
    tun_ioctl::attach(file.as_fd(), &device.device, mode | IFF_NO_PI | header)?;
    Ok(file)
}
