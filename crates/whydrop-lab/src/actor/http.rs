//! Both ends of HTTP, over the kernel's own TCP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use super::sleep_until;
use crate::part::Tally;
use crate::part::http::{Abort, HttpAbort, HttpKeepAlive, HttpShort};

/// Longest wait for an end that answers at once if it answers at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes in the body of an ordinary answer.
const BODY: usize = 3;

/// One request per connection, several connections at a time.
pub(super) fn short(to: SocketAddr, http: &HttpShort) -> Tally {
    let start = Instant::now();
    let begun = AtomicU32::new(0);
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..http.concurrency {
            scope.spawn(|| {
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if number >= http.connections {
                        break;
                    }
                    if let Some(rate) = http.rate {
                        sleep_until(start + Duration::from_secs(1) * number / rate.max(1));
                    }
                    if ask_once(to).is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    tally(done.into_inner(), http.connections)
}

/// Many requests on every connection.
pub(super) fn keep_alive(to: SocketAddr, http: &HttpKeepAlive) -> Tally {
    let done = AtomicU32::new(0);
    let converse = || -> io::Result<()> {
        let connection = connect(to)?;
        let mut answers = BufReader::new(&connection);
        for _ in 0..http.requests {
            ask(&connection, "keep-alive")?;
            hear(&mut answers)?;
            done.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(http.pause_millis));
        }
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..http.connections {
            // What was not done is counted.
            scope.spawn(converse);
        }
    });
    tally(done.into_inner(), http.connections.saturating_mul(http.requests))
}

/// Clients that go away in the middle.
pub(super) fn abort(to: SocketAddr, plan: &HttpAbort) -> Tally {
    let gone = (0..plan.connections).filter(|_| abort_one(to, plan.when).is_ok()).count();
    tally(u32::try_from(gone).unwrap_or(u32::MAX), plan.connections)
}

fn abort_one(to: SocketAddr, when: Abort) -> io::Result<()> {
    let mut connection = connect(to)?;
    ask(&connection, "close")?;
    match when {
        // Closing it, when this function ends, then means to throw away what was not sent.
        Abort::BeforeAnswer => SockRef::from(&connection).set_linger(Some(Duration::ZERO)),
        Abort::AnswerUnread => connection.peek(&mut [0]).map(|_| ()),
        Abort::MidAnswer => connection.read_exact(&mut [0; 1000]),
    }
}

fn tally(done: u32, of: u32) -> Tally {
    Tally { done: done.into(), pending: 0, failed: (of - done).into() }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn ask(mut connection: &TcpStream, option: &str) -> io::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nConnection: {option}\r\n\r\n");
    connection.write_all(request.as_bytes())
}

fn ask_once(to: SocketAddr) -> io::Result<()> {
    let mut connection = connect(to)?;
    ask(&connection, "close")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(not_http()) }
}

/// Reads one answer with the ordinary body.
fn hear(answers: &mut impl BufRead) -> io::Result<()> {
    let mut head = answers.lines();
    let first = head.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    if !first.starts_with("HTTP/1.1 200 ") {
        return Err(not_http());
    }
    for line in head {
        if line?.is_empty() {
            return answers.read_exact(&mut [0; BODY]);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn not_http() -> io::Error {
    io::Error::other("not an HTTP answer")
}

/// Answers one request with a body of so many bytes, and no further one.
pub(super) fn answer(connection: &Socket, body: u32) -> io::Result<()> {
    serve(connection, body as usize, true)
}

/// Answers requests for as long as there are any, on a thread of its own.
pub(super) fn answer_all(connection: Socket) {
    // Ends with the connection. What goes wrong with it is for the client to report.
    thread::spawn(move || serve(&connection, BODY, false));
}

fn serve(connection: &Socket, body: usize, once: bool) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let option = if once { "close" } else { "keep-alive" };
    let head = format!("HTTP/1.1 200 OK\r\nConnection: {option}\r\nContent-Length: {body}\r\n\r\n");
    let answer = [head.as_bytes(), &vec![b'x'; body]].concat();
    let mut writer = connection;
    for line in BufReader::new(connection).lines() {
        if line?.is_empty() {
            writer.write_all(&answer)?;
            if once {
                break;
            }
        }
    }
    Ok(())
}
