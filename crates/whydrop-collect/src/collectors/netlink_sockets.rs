//! Netlink sockets, from `/proc/net/netlink` (`net/netlink/af_netlink.c`): a program that falls
//! behind with the kernel's news (routes, connections, logs) loses some of them and gets ENOBUFS.

use whydrop_model::{Socket, SocketProtocol};

use crate::collector::{Collector, Place, Read};
use crate::error::Why;
use crate::netlink;
use crate::socket_table;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "netlink_sockets", what: "netlink sockets", read: Read::Sockets(list) };

fn list(
    place: &mut Place<'_>,
    diag: &mut netlink::Socket,
    each: &mut dyn FnMut(Socket),
) -> Result<(), Why> {
    // The observer's own is nothing of the host.
    let own = diag.inode();
    parse(&place.table("netlink")?.unwrap_or_default(), &mut |socket| {
        if Some(socket.inode) != own {
            each(socket);
        }
    });
    Ok(())
}

pub(crate) fn parse(text: &str, each: &mut dyn FnMut(Socket)) {
    socket_table::for_each(text, |line| {
        // Port 0 is the kernel's own end.
        let Some(_) = line.number::<u32>("Pid").filter(|port| *port != 0) else { return };
        let Some(inode) = line.number("Inode") else { return };
        let mut socket = Socket::new(SocketProtocol::Netlink);
        socket.number = line.number("Eth").unwrap_or(0);
        socket.recv_queue = line.number("Rmem").unwrap_or(0);
        socket.drops.after = line.number("Drops").unwrap_or(0);
        socket.inode = inode;
        each(socket);
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_recorded_table_without_the_kernels_own_sockets() {
        let path = fixture::roots("linux-6.18").proc.join("thread-self/net/netlink");
        let mut found = Vec::new();
        parse(&fs::read_to_string(path).unwrap(), &mut |socket| found.push(socket));
        let told: Vec<_> =
            found.iter().map(|it| (it.number, it.recv_queue, it.drops.after, it.inode)).collect();
        assert_eq!(told, [(0, 4608, 4, 1_907_513), (4, 0, 0, 1_907_485)]);
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,80}", line in "[ 0-9a-f]{0,60}") {
            parse(&text, &mut |_| {});
            parse(&format!("sk Eth Pid Rmem Drops Inode\n{line}\n"), &mut |_| {});
        }
    }
}
