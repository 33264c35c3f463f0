//! Half-open connections (`SYN_RECV`) for each local port.
//!
//! The kernel finds them by walking the table of established connections of the whole host, so this
//! is asked only when SYNs meet a full queue; `look` decides when.

use std::collections::BTreeMap;

use crate::collector::{Collector, Read};
use crate::error::Why;
use crate::inet_diag;
use crate::netlink::{Buffer, Socket};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "half_open", what: "half-open connections", read: Read::Looks };

/// `include/net/tcp_states.h`; the kernel takes it for `TCP_NEW_SYN_RECV` too.
const TCP_SYN_RECV: u8 = 3;

/// Half-open connections by local port; a port without any is absent.
pub(crate) fn dump(socket: &mut Socket, buffer: &mut Buffer) -> Result<BTreeMap<u16, u32>, Why> {
    let mut ports = Vec::new();
    inet_diag::list_tcp(socket, buffer, inet_diag::states(&[TCP_SYN_RECV]), 0, &mut |payload| {
        ports.extend(inet_diag::port(payload));
    })?;
    Ok(count(ports))
}

fn count(ports: Vec<u16>) -> BTreeMap<u16, u32> {
    let mut counts = BTreeMap::new();
    for port in ports {
        *counts.entry(port).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_port() {
        assert_eq!(count(vec![80, 443, 80]), BTreeMap::from([(80, 2), (443, 1)]));
    }
}
