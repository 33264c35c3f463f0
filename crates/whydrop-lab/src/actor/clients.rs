//! Clients that use the kernel's own TCP.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::sleep_until;
use crate::part::{Bulk, ConnectBurst, Idle, Tally, TcpConnect};

/// Longest wait for a server that answers at once if it answers at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing, for a while.
pub(super) fn idle(idle: &Idle) -> Tally {
    thread::sleep(Duration::from_millis(idle.millis));
    Tally::default()
}

/// Opens connections in waves without waiting for them, and gives those that are open in the end.
///
/// They are for the caller to keep: a client whose last ACK was refused takes itself for connected,
/// and closing it would begin a series of FINs that are refused in turn.
pub(super) fn connect_burst(
    to: SocketAddr,
    burst: &ConnectBurst,
) -> io::Result<(Tally, Vec<Socket>)> {
    let start = Instant::now();
    let every = Duration::from_millis(burst.every_millis);
    let mut sockets = Vec::new();
    for wave in 0..burst.waves {
        sleep_until(start + every * wave);
        for _ in 0..burst.per_wave {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            // Refusals are counted at the end, with what else became of it.
            let _ = socket.connect(&to.into());
            sockets.push(socket);
        }
    }
    let last_wave = start + every * burst.waves.saturating_sub(1);
    sleep_until(last_wave + Duration::from_millis(burst.hold_millis));
    let mut tally = Tally::default();
    let mut open = Vec::new();
    for socket in sockets {
        match (socket.take_error()?, socket.peer_addr()) {
            (Some(_), _) => tally.failed += 1,
            (None, Ok(_)) => open.push(socket),
            (None, Err(_)) => tally.pending += 1,
        }
    }
    tally.done = open.len() as u64;
    Ok((tally, open))
}

/// Opens connections one after the other and closes each at once.
pub(super) fn tcp_connect(to: SocketAddr, connect: &TcpConnect) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..connect.count {
        match TcpStream::connect_timeout(&to, Duration::from_millis(connect.timeout_millis)) {
            Ok(_) => tally.done += 1,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => tally.pending += 1,
            Err(_) => tally.failed += 1,
        }
    }
    tally
}

/// One connection that carries many bytes. If it gets stuck it is given up.
pub(super) fn bulk(to: SocketAddr, bulk: &Bulk) -> io::Result<Tally> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    match transfer(&mut connection, bulk) {
        Ok(whole) => Ok(Tally { done: whole.into(), pending: 0, failed: (!whole).into() }),
        Err(error) if is_stuck(error.kind()) => Ok(Tally { pending: 1, ..Tally::default() }),
        Err(error) => Err(error),
    }
}

/// One of the two ends gave up first.
fn is_stuck(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset)
}

/// True if the server read everything and said nothing.
fn transfer(connection: &mut TcpStream, bulk: &Bulk) -> io::Result<bool> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let chunk = vec![b'x'; 1 << 18];
    let mut left = bulk.bytes;
    while left > 0 {
        let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        connection.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    connection.shutdown(Shutdown::Write)?;
    // The server closes once it has read everything.
    Ok(connection.read_to_end(&mut Vec::new())? == 0)
}
