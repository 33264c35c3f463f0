//! A TCP server that treats its accept queue as told, badly if need be.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::{http, options, say, work};
use crate::part::{Accept, Message, Respond, Serve};

/// Longest wait for a client that has connected to say something.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens until killed.
pub(super) fn serve(address: SocketAddr, serve: &Serve) -> io::Result<()> {
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    listener.set_reuse_address(true)?;
    if let Some(rcvbuf) = serve.rcvbuf {
        listener.set_recv_buffer_size(rcvbuf as usize)?;
    }
    if let Some(key) = &serve.md5_key {
        options::demand_md5(&listener, address.ip(), key)?;
    }
    if let Some(least) = serve.min_ttl {
        options::demand_ttl(&listener, address.ip(), least)?;
    }
    listener.bind(&address.into())?;
    let backlog = i32::from(serve.backlog);
    listener.listen(backlog)?;
    if serve.relisten {
        relisten_when_told(listener.try_clone()?, backlog);
    }
    say(&Message::Ready)?;
    // Connections are kept: closing them would be an answer.
    let mut kept = Vec::new();
    let mut take = |most: usize| accept(&listener, most, serve, &mut kept);
    match serve.accept {
        Accept::None => loop {
            thread::park();
        },
        Accept::All => loop {
            take(1)?;
        },
        Accept::Every { millis, batch } => {
            listener.set_nonblocking(true)?;
            pace(millis, || take(batch as usize))
        }
        Accept::AfterStall { millis } => {
            listener.set_nonblocking(true)?;
            pace(millis, || take(usize::MAX))
        }
    }
}

/// Does `work` every `millis`, for ever.
fn pace(millis: u64, mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        thread::sleep(Duration::from_millis(millis));
        work()?;
    }
}

/// Accepts up to `most` connections, fewer if the listener would block.
fn accept(listener: &Socket, most: usize, serve: &Serve, kept: &mut Vec<Socket>) -> io::Result<()> {
    for _ in 0..most {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The client gave up while it waited in the queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        work(serve.work_micros);
        // What goes wrong with one client is for that client to report.
        let _ = match serve.respond {
            Respond::None => {
                kept.push(connection);
                Ok(())
            }
            Respond::Http => http::answer(&connection, 3),
            Respond::HttpBody(bytes) => http::answer(&connection, bytes),
            Respond::HttpKeepAlive => {
                http::answer_all(connection);
                Ok(())
            }
            Respond::Discard => read_to_end(&connection),
            Respond::Close => Ok(()),
            Respond::CloseUnread => wait_for_data(&connection),
            Respond::Send(bytes) => {
                let sent = send(&connection, bytes);
                kept.push(connection);
                sent
            }
        };
    }
    Ok(())
}

/// A connection that got stuck is reset: else the other kernel goes on sending what is left of it long
/// after it was given up.
fn read_to_end(mut connection: &Socket) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return connection.set_linger(Some(Duration::ZERO));
            }
            Err(error) => return Err(error),
        }
    }
}

fn wait_for_data(connection: &Socket) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.peek(&mut [MaybeUninit::uninit()]).map(|_| ())
}

fn send(mut connection: &Socket, bytes: u32) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.write_all(&vec![b'x'; bytes as usize])
}

fn relisten_when_told(listener: Socket, backlog: i32) {
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if line == "relisten" {
                let said = match listener.listen(backlog) {
                    Ok(()) => Message::Relistened,
                    Err(error) => Message::Failed(error.to_string()),
                };
                let _ = say(&said);
            }
        }
    });
}
