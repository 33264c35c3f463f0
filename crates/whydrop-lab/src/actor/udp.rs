//! UDP servers and clients that use the kernel's own sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::{say, sleep_until, work};
use crate::part::{Message, Read, Receive, Tally, UdpRequest, UdpSend};

/// Longest wait for a server that answers at once if it answers at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for any datagram.
const DATAGRAM: usize = 1 << 16;

/// Receives until killed.
pub(super) fn receive(address: SocketAddr, receive: &Receive) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(rcvbuf) = receive.rcvbuf {
        socket.set_recv_buffer_size(rcvbuf as usize)?;
    }
    if receive.refuse {
        // BPF_RET | BPF_K: keep zero bytes of every packet.
        socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    }
    socket.bind(&address.into())?;
    if let Some(peer) = receive.peer {
        socket.connect(&peer.into())?;
    }
    let socket = UdpSocket::from(socket);
    say(&Message::Ready)?;
    let mut buffer = vec![0; DATAGRAM];
    // True if there may be more.
    let mut take = || -> io::Result<bool> {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // ICMP errors for earlier echoes, whose clients are gone.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        work(receive.work_micros);
        if receive.echo {
            thread::sleep(Duration::from_millis(receive.delay_millis));
            // Whether the answer still finds the client is for the client to say.
            let _ = socket.send_to(&buffer[..length], from);
        }
        Ok(true)
    };
    match receive.read {
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
        Read::AfterStall { millis } => {
            socket.set_nonblocking(true)?;
            loop {
                thread::sleep(Duration::from_millis(millis));
                while take()? {}
            }
        }
    }
}

/// Sends without asking for an answer.
pub(super) fn send(to: SocketAddr, plan: &UdpSend) -> io::Result<Tally> {
    let sockets: Vec<_> =
        (0..plan.sources).map(|number| source(to, plan, number)).collect::<Result<_, _>>()?;
    let payload = vec![b'x'; plan.size.into()];
    let start = Instant::now();
    let mut tally = Tally::default();
    for number in 0..plan.count {
        if let Some(rate) = plan.rate {
            sleep_until(start + Duration::from_secs(1) * number / rate.max(1));
        }
        let socket = &sockets[number as usize % sockets.len()];
        let address = destination(to, number % u32::from(plan.destinations));
        let once = || {
            if plan.connected { socket.send(&payload) } else { socket.send_to(&payload, address) }
        };
        let sent = match once() {
            // The answer to an earlier datagram: this one was not tried yet.
            Err(error) if plan.connected && is_answer(&error) => once(),
            sent => sent,
        };
        match sent {
            Ok(_) => tally.done += 1,
            Err(_) => tally.failed += 1,
        }
    }
    Ok(tally)
}

/// True for what an ICMP error makes of a connected socket.
fn is_answer(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable)
}

/// The `number`th address from `to` on.
fn destination(to: SocketAddr, number: u32) -> SocketAddr {
    let ip = match to.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(number))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(number.into()))),
    };
    SocketAddr::new(ip, to.port())
}

fn source(to: SocketAddr, plan: &UdpSend, number: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any(to, plan.source_port.map_or(0, |first| first + number)))?;
    if plan.connected {
        socket.connect(to)?;
    }
    let options = socket2::SockRef::from(&socket);
    if let Some(sndbuf) = plan.sndbuf {
        options.set_send_buffer_size(sndbuf as usize)?;
        options.set_nonblocking(true)?;
    }
    if let Some(ttl) = plan.ttl {
        if to.is_ipv4() {
            options.set_ttl_v4(ttl.into())?;
        } else {
            options.set_unicast_hops_v6(ttl.into())?;
        }
    }
    if plan.dont_fragment {
        if to.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        } else {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        }
    }
    Ok(socket)
}

fn any(to: SocketAddr, port: u16) -> SocketAddr {
    let ip = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, port)
}

/// Asks and waits for the answer, time after time.
pub(super) fn request(to: SocketAddr, plan: &UdpRequest) -> io::Result<Tally> {
    let payload = vec![b'x'; plan.size.into()];
    let mut tally = Tally::default();
    for _ in 0..plan.count {
        let hasty = match plan.give_up_millis {
            Some(millis) => ask(to, &payload, Duration::from_millis(millis))?,
            None => false,
        };
        if hasty || ask(to, &payload, PATIENCE)? {
            tally.done += 1;
        } else {
            tally.pending += 1;
        }
    }
    Ok(tally)
}

/// True if an answer came in time. The socket is closed either way.
fn ask(to: SocketAddr, payload: &[u8], patience: Duration) -> io::Result<bool> {
    let socket = UdpSocket::bind(any(to, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(payload)?;
    match socket.recv(&mut vec![0; DATAGRAM]) {
        Ok(length) => Ok(length == payload.len()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_count_up() {
        let to: SocketAddr = "10.99.0.150:9000".parse().unwrap();
        assert_eq!(destination(to, 29).to_string(), "10.99.0.179:9000");
        let to: SocketAddr = "[fd99::96]:9000".parse().unwrap();
        assert_eq!(destination(to, 1).to_string(), "[fd99::97]:9000");
    }
}
