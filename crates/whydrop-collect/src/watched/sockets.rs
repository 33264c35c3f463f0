//! The sockets of a watched namespace: all of them at both ends of the window, the queues of
//! unconnected UDP sockets in between.
//!
//! Asks and hands over; what is kept of the answers is the business of `sockets`.

use whydrop_model::SocketProtocol;

use super::{Hands, Watched};
use crate::collector::{Collector, Place, Read};
use crate::collectors::{
    netlink_sockets, packet_sockets, raw_sockets, tcp_sockets, udp_sockets, unix_listeners,
};
use crate::inet_diag;

/// All kinds of sockets, in the order in which they are listed.
pub(super) const KINDS: [(SocketProtocol, Collector); 6] = [
    (SocketProtocol::Tcp, tcp_sockets::COLLECTOR),
    (SocketProtocol::Udp, udp_sockets::COLLECTOR),
    (SocketProtocol::Raw, raw_sockets::COLLECTOR),
    (SocketProtocol::Packet, packet_sockets::COLLECTOR),
    (SocketProtocol::Unix, unix_listeners::COLLECTOR),
    (SocketProtocol::Netlink, netlink_sockets::COLLECTOR),
];

/// A namespace that had no unconnected UDP socket is asked for some at every so many turns only: the
/// kernel walks the sockets of all namespaces to find none.
const SELDOM: u32 = 10;

impl Watched {
    /// Lists the sockets as the window opens.
    pub(super) fn open_sockets(&mut self, hands: &mut Hands) {
        self.list_sockets(true, hands);
    }

    /// Lists the sockets as the window, or the life of the namespace, closes.
    pub(super) fn close_sockets(&mut self, hands: &mut Hands) {
        self.list_sockets(false, hands);
    }

    fn list_sockets(&mut self, opening: bool, hands: &mut Hands) {
        let label = self.label();
        let entered = self.enter(&mut hands.entrance);
        let (Ok(()), Ok(diag)) = (entered, self.diag.as_mut()) else { return };
        let Hands { roots, buffer, notes, .. } = hands;
        let mut place = Place::here(roots, buffer);
        let sockets = &mut self.sockets;
        for (protocol, collector) in KINDS {
            let Read::Sockets(list) = collector.read else { continue };
            let listed = if !opening && !sockets.is_opened(protocol) {
                continue;
            } else if self.vacant {
                Ok(())
            } else if opening {
                list(&mut place, diag, &mut |socket| sockets.open_with(socket))
            } else {
                list(&mut place, diag, &mut |socket| sockets.close_with(socket))
            };
            match (listed, opening) {
                (Ok(()), true) => sockets.opened(protocol),
                (Ok(()), false) => sockets.closed(protocol),
                (Err(why), _) => {
                    sockets.forget(protocol);
                    notes.add(collector.what, &label, &why);
                }
            }
        }
    }

    /// Looks at the receive queues of unconnected UDP sockets.
    pub(super) fn look_at_queues(&mut self, at_ms: u64, hands: &mut Hands) {
        let label = self.label();
        let Ok(diag) = self.diag.as_mut() else { return };
        let queues = &mut self.sockets.queues;
        let turn = self.pace.turns();
        if queues.alive() == 0 && self.queues_at.is_some_and(|asked| turn - asked < SELDOM) {
            return;
        }
        self.queues_at = Some(turn);
        let mut look = queues.look(at_ms);
        let mut take = |payload: &[u8]| {
            if let Some(now) = inet_diag::parse_queue(payload) {
                look.note(now, || inet_diag::parse(payload, SocketProtocol::Udp));
            }
        };
        let looked = if self.vacant {
            Ok(())
        } else {
            udp_sockets::look(diag, &mut hands.buffer, &mut take)
        };
        match looked {
            Ok(()) => self.pace.busy |= look.finish(),
            Err(why) => hands.notes.add("receive queues of UDP sockets", &label, &why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::COLLECTORS;

    #[test]
    fn every_collector_of_sockets_is_listed() {
        let mut all: Vec<&str> = COLLECTORS
            .iter()
            .filter(|collector| matches!(collector.read, Read::Sockets(_)))
            .map(|collector| collector.name)
            .collect();
        let mut listed: Vec<&str> = KINDS.iter().map(|(_, collector)| collector.name).collect();
        all.sort_unstable();
        listed.sort_unstable();
        assert_eq!(all, listed);
    }
}
