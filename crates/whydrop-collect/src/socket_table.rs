//! The tables of sockets in `/proc/net` (`udp`, `raw`, `packet`, `netlink`): a line of names, then a
//! line for each socket. They stand in for `sock_diag` where a kernel is built without a part of it.
//!
//! Columns are found by name. They tell no cookie and no buffer size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whydrop_model::{Endpoint, Socket, SocketProtocol, SocketState};

/// Names that share one word in the lines below: `tx_queue:rx_queue` and `tr:tm->when`.
const SHARED: [(&str, &str); 2] = [("tx_queue", "rx_queue"), ("tr", "tm->when")];

/// A line of a table.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    names: &'a [&'a str],
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// The word under a name.
    pub(crate) fn word(&self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.words.get(at).copied()
    }

    /// The decimal number under a name.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.word(name)?.parse().ok()
    }

    /// The hexadecimal number under a name.
    pub(crate) fn hex(&self, name: &str) -> Option<u32> {
        u32::from_str_radix(self.word(name)?, 16).ok()
    }
}

/// Calls `each` with every line but the first.
pub(crate) fn for_each(text: &str, mut each: impl FnMut(&Line<'_>)) {
    let mut lines = text.lines();
    let mut names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    for (first, second) in SHARED {
        names.dedup_by(|next, before| *next == second && *before == first);
    }
    for line in lines {
        each(&Line { names: &names, words: line.split_ascii_whitespace().collect() });
    }
}

/// Calls `each` with every socket of `/proc/net/udp`, `raw` or one of their IPv6 twins
/// (`net/ipv4/udp.c`, `net/ipv4/raw.c`).
pub(crate) fn internet(text: &str, protocol: SocketProtocol, each: &mut dyn FnMut(Socket)) {
    for_each(text, |line| {
        if let Some(socket) = internet_socket(line, protocol) {
            each(socket);
        }
    });
}

fn internet_socket(line: &Line<'_>, protocol: SocketProtocol) -> Option<Socket> {
    let (local, local_port) = endpoint(line.word("local_address")?)?;
    // The tables of IPv4 call it so, those of IPv6 otherwise.
    let (remote, remote_port) =
        endpoint(line.word("rem_address").or_else(|| line.word("remote_address"))?)?;
    // The first of the two shared names is the one that is kept.
    let (sent, received) = line.word("tx_queue")?.split_once(':')?;
    let port = |port| (protocol != SocketProtocol::Raw).then_some(port);
    let mut socket = Socket::new(protocol);
    socket.state = SocketState::from_number(u8::try_from(line.hex("st")?).ok()?);
    socket.local = Some(Endpoint { address: local, port: port(local_port) });
    if !remote.is_unspecified() {
        socket.remote = Some(Endpoint { address: remote, port: port(remote_port) });
    }
    if protocol == SocketProtocol::Raw {
        socket.number = local_port;
    }
    socket.send_queue = u32::from_str_radix(sent, 16).ok()?;
    socket.recv_queue = u32::from_str_radix(received, 16).ok()?;
    socket.uid = line.number("uid");
    socket.inode = line.number("inode")?;
    socket.drops.after = line.number("drops").unwrap_or(0);
    Some(socket)
}

/// `0100007F:14E9`: the address as 32-bit numbers in the byte order of this machine, the port as a
/// number.
fn endpoint(word: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = word.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let quad = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(quad(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&quad(at)?);
            }
            let address = Ipv6Addr::from(bytes);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn table(name: &str) -> String {
        let path = fixture::roots("linux-6.18").proc.join("thread-self/net").join(name);
        fs::read_to_string(path).unwrap()
    }

    fn sockets(text: &str, protocol: SocketProtocol) -> Vec<Socket> {
        let mut all = Vec::new();
        internet(text, protocol, &mut |socket| all.push(socket));
        all
    }

    #[test]
    fn recorded_tables() {
        let udp = sockets(&table("udp"), SocketProtocol::Udp);
        assert_eq!(udp.len(), 2);
        let full = &udp[1];
        assert_eq!(full.local.unwrap().to_string(), "127.0.0.1:5353");
        assert_eq!((full.state, full.remote), (SocketState::Close, None));
        assert_eq!((full.recv_queue, full.send_queue, full.drops.after), (4160, 0, 15));
        assert_eq!((full.uid, full.inode, full.cookie), (Some(0), 1_907_486, 0));

        let raw = sockets(&table("raw"), SocketProtocol::Raw);
        assert_eq!((raw.len(), raw[0].number, raw[0].recv_queue), (1, 1, 4992));
        assert_eq!(raw[0].local.unwrap().port, None);
        assert_eq!(sockets(&table("udp6"), SocketProtocol::Udp), []);
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "sl local_address new remote_address st tx_queue rx_queue inode\n\
            1: 00000000000000000000000001000000:0035 x 0000000000000000FFFF00000100007F:14E9 01 1:2 7\n";
        let [socket] = &sockets(text, SocketProtocol::Udp)[..] else { panic!("one") };
        assert_eq!(socket.local.unwrap().to_string(), "[::1]:53");
        assert_eq!(socket.remote.unwrap().to_string(), "127.0.0.1:5353");
        assert_eq!((socket.send_queue, socket.recv_queue, socket.inode), (1, 2, 7));
        assert_eq!((socket.uid, socket.drops.after), (None, 0));
    }

    #[test]
    fn lines_that_are_cut_are_skipped() {
        let whole = table("udp");
        for length in (0..whole.len()).filter(|length| whole.is_char_boundary(*length)) {
            assert!(sockets(&whole[..length], SocketProtocol::Udp).len() <= 2);
        }
        assert_eq!(sockets("noise\nnoise\n", SocketProtocol::Udp), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}", word in "[0-9A-F:]{0,50}") {
            sockets(&text, SocketProtocol::Raw);
            endpoint(&word);
            let line = format!("local_address rem_address st tx_queue rx_queue inode\n{word} {word} 1 {word} 1");
            sockets(&line, SocketProtocol::Udp);
        }
    }
}
