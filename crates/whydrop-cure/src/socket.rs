//! Sockets of running processes, borrowed: `pidfd_getfd()` gives a second descriptor of the same
//! socket, so what is set by it is set for the process as well. Needs what tracing the process needs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use whydrop_model::SocketOf;

use crate::error::words;

/// The backlog of a listener: `sk_max_ack_backlog`.
pub(crate) fn backlog(of: &SocketOf) -> Result<String, String> {
    match whydrop_collect::listen_backlog(of.inode) {
        Ok(Some(backlog)) => Ok(backlog.to_string()),
        Ok(None) => Err(gone(of)),
        Err(error) => Err(error.to_string()),
    }
}

/// Calls `listen()` on the process's own socket. On a socket that listens already it only sets the
/// backlog, capped by `net.core.somaxconn` of the socket's namespace (`inet_listen()`,
/// `net/ipv4/af_inet.c`, 6.18).
pub(crate) fn listen(of: &SocketOf, value: &str) -> Result<(), String> {
    let backlog = value.parse().map_err(|_| format!("{value} is no backlog"))?;
    // A socket that is no longer listening must not be made to.
    self::backlog(of)?;
    rustix::net::listen(borrow(of)?, backlog).map_err(|error| words(&error.into()))
}

/// The receive buffer of a socket: `sk_rcvbuf`.
pub(crate) fn receive_buffer(of: &SocketOf) -> Result<String, String> {
    let size = sockopt::socket_recv_buffer_size(borrow(of)?);
    let size = size.map_err(|error| words(&error.into()))?;
    // Only even sizes can be set, and what cannot be restored exactly is not touched.
    (size % 2 == 0).then(|| size.to_string()).ok_or_else(|| {
        format!("its size is {size}, which is odd and could not be restored exactly")
    })
}

/// Sets the receive buffer beyond what `net.core.rmem_max` lets the process ask for itself.
pub(crate) fn set_receive_buffer(of: &SocketOf, value: &str) -> Result<(), String> {
    let size: usize = value.parse().map_err(|_| format!("{value} is no size"))?;
    // The kernel doubles what is asked for.
    sockopt::set_socket_recv_buffer_size_force(borrow(of)?, size / 2)
        .map_err(|error| words(&error.into()))
}

/// True if the process no longer has the socket open, for certain.
pub(crate) fn is_gone(of: &SocketOf) -> bool {
    matches!(descriptor(of), Ok(None))
}

fn borrow(of: &SocketOf) -> Result<OwnedFd, String> {
    let number = descriptor(of)?.ok_or_else(|| gone(of))?;
    let pid = i32::try_from(of.pid).ok().and_then(Pid::from_raw).ok_or_else(|| gone(of))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone(of))?;
    let socket = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).map_err(refused)?;
    // The process may have closed it and opened something else in between.
    match fstat(&socket) {
        Ok(found) if found.st_ino == of.inode => Ok(socket),
        _ => Err(gone(of)),
    }
}

/// The number by which the process knows the socket; `None` if it has ended or closed it.
fn descriptor(of: &SocketOf) -> Result<Option<i32>, String> {
    let wanted = format!("socket:[{}]", of.inode);
    let hidden = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let entries = match fs::read_dir(format!("/proc/{}/fd", of.pid)) {
        Ok(entries) => entries,
        Err(error) if hidden(&error) => return Err(refused(Errno::ACCESS)),
        Err(_) => return Ok(None),
    };
    for entry in entries.flatten() {
        match fs::read_link(entry.path()) {
            Ok(link) if link.as_os_str() == wanted.as_str() => {
                return Ok(entry.file_name().to_str().and_then(|number| number.parse().ok()));
            }
            Err(error) if hidden(&error) => return Err(refused(Errno::ACCESS)),
            // Another file, or one closed meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// That it is, in words.
pub(crate) fn gone(of: &SocketOf) -> String {
    format!("{} (pid {}) has ended or closed it", of.comm, of.pid)
}

fn refused(error: Errno) -> String {
    match error {
        Errno::PERM | Errno::ACCESS => {
            "the kernel does not let whydrop borrow the program's socket (needs root; Yama's ptrace_scope \
             or a security module may forbid it): set it in the program's own configuration"
                .into()
        }
        Errno::NOSYS => {
            "this kernel has no pidfd_getfd() (5.6): set it in the program's own configuration".into()
        }
        other => words(&other.into()),
    }
}
