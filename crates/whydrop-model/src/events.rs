//! What tracepoints other than `skb:kfree_skb` said: signs of loss that no dropped packet shows, or
//! shows without its cause.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Flow, SocketRef};

/// Everything that the other tracepoints said in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventEvidence {
    /// Tracepoints that were listened to, as `tcp:tcp_send_reset`.
    #[serde(default)]
    pub attached: Vec<String>,
    /// Tracepoints that this kernel does not have.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Events kept in detail, as exemplars.
    #[serde(default)]
    pub sampled: u64,
    /// Events counted but not kept in detail: their key had used up its rate, or there were enough.
    #[serde(default)]
    pub suppressed: u64,
    /// Events counted but not kept in detail: the ring buffer was full.
    #[serde(default)]
    pub ring_full: u64,
    /// Events counted by tracepoint only: its part of the table of totals was full.
    #[serde(default)]
    pub spilled: u64,
    /// Events that could not be counted (`recursion_misses` of the programs).
    #[serde(default)]
    pub lost: u64,
    /// Totals per key, the most frequent first.
    #[serde(default)]
    pub totals: Vec<EventTotal>,
    /// Detailed events, oldest first.
    #[serde(default)]
    pub exemplars: Vec<EventExemplar>,
}

impl EventEvidence {
    /// Makes the sums those of the totals and exemplars at hand.
    pub fn settle(&mut self) {
        let events: u64 = self.totals.iter().map(|total| total.packets).sum();
        self.sampled = self.exemplars.len() as u64;
        let not_kept = events.saturating_sub(self.sampled);
        self.ring_full = self.ring_full.min(not_kept);
        self.suppressed = not_kept - self.ring_full;
    }

    /// Leaves out what happened in other namespaces than these.
    pub fn confine(&mut self, inside: impl Fn(Option<u64>) -> bool) {
        self.totals.retain(|total| inside(total.netns));
        self.exemplars.retain(|exemplar| inside(exemplar.netns));
        self.settle();
    }

    /// Gives devices their names, by namespace and index, where they have none.
    pub fn name_devices(&mut self, name: impl Fn(Option<u64>, u32) -> Option<String>) {
        for total in &mut self.totals {
            total.device = total.device.take().or_else(|| name(total.netns, total.ifindex));
        }
        for exemplar in &mut self.exemplars {
            let named = || name(exemplar.netns, exemplar.ifindex);
            exemplar.device = exemplar.device.take().or_else(named);
        }
    }
}

/// How often something happened, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTotal {
    /// Tracepoint, as `tcp:tcp_send_reset`.
    pub event: String,
    /// What the tracepoint says about the cause; empty if it says nothing, or if the total spilled.
    ///
    /// | event | code |
    /// |---|---|
    /// | `tcp:tcp_retransmit_skb` | state of the connection (`SYN_SENT`: nobody answers), and after a space the error, or `NET_XMIT_DROP`, if the segment could not even be sent |
    /// | `tcp:tcp_send_reset` | `enum sk_rst_reason` without `SK_RST_REASON_` (6.10) |
    /// | `tcp:tcp_receive_reset` | state of the connection before |
    /// | `sock:sock_exceed_buf_limit` | `SEND` or `RECV` |
    /// | `udp:udp_fail_queue_rcv_skb`, `xdp:xdp_redirect_err` | error, as `ENOMEM` |
    /// | `xdp:xdp_exception` | `enum xdp_action` without `XDP_` |
    /// | `net:net_dev_xmit_timeout` | number of the queue |
    /// | `napi:napi_poll` | the budget |
    /// | `qdisc:qdisc_drop` | `enum qdisc_drop_reason` (7.0) |
    /// | `devlink:devlink_trap_report` | name of the trap |
    ///
    /// `neigh:neigh_timer_handler` is counted only where a neighbour was given up, and
    /// `napi:napi_poll` only where the budget was used up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Inode of the network namespace; `None` if the event did not tell.
    pub netns: Option<u64>,
    /// Interface index within that namespace; 0 if the event did not tell. With `napi:napi_poll` 0
    /// is the per-CPU backlog, or a driver that polls for several devices.
    #[serde(default)]
    pub ifindex: u32,
    /// Interface name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Address family (`AF_INET` 2, ...); 0 if the event did not tell.
    #[serde(default)]
    pub family: u16,
    /// IP protocol number; `None` if not IP or not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l4: Option<u8>,
    /// Own port; 0 if there is none, or if it is that of a TCP connection and at or above 32768,
    /// where clients usually get theirs from.
    #[serde(default)]
    pub port: u16,
    /// How often: packets, but polls of `napi:napi_poll` and neighbours of
    /// `neigh:neigh_timer_handler`.
    pub packets: u64,
}

/// One event in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventExemplar {
    /// Nanoseconds since the window opened.
    pub at_ns: u64,
    /// Tracepoint, as in [`EventTotal`].
    pub event: String,
    /// As in [`EventTotal`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Inode of the network namespace; `None` if the event did not tell.
    pub netns: Option<u64>,
    /// Interface index within that namespace; 0 if the event did not tell.
    #[serde(default)]
    pub ifindex: u32,
    /// Interface name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Addresses and ports of the packet. For `tcp:tcp_send_reset` the packet is the one answered
    /// with a reset, or, where there is none, the reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Address of the neighbour, for `neigh:` events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbour: Option<IpAddr>,
    /// The socket concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketRef>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(netns: Option<u64>, ifindex: u32, packets: u64) -> EventTotal {
        EventTotal {
            event: "tcp:tcp_send_reset".into(),
            code: "NO_SOCKET".into(),
            netns,
            ifindex,
            device: None,
            family: 2,
            l4: Some(6),
            port: 80,
            packets,
        }
    }

    #[test]
    fn sums_are_those_of_what_is_inside() {
        let totals = vec![total(Some(1), 2, 10), total(Some(2), 2, 5), total(None, 0, 1)];
        let mut evidence = EventEvidence { ring_full: 12, totals, ..EventEvidence::default() };
        evidence.settle();
        assert_eq!((evidence.suppressed, evidence.ring_full), (4, 12));
        evidence.confine(|netns| netns == Some(1));
        assert_eq!(evidence.totals.len(), 1);
        assert_eq!((evidence.suppressed, evidence.ring_full), (0, 10));
    }

    #[test]
    fn devices_are_named_by_namespace() {
        let totals = vec![total(Some(1), 2, 1), total(Some(2), 2, 1)];
        let mut evidence = EventEvidence { totals, ..EventEvidence::default() };
        evidence.name_devices(|netns, ifindex| {
            (netns == Some(1) && ifindex == 2).then(|| "eth0".to_owned())
        });
        assert_eq!(evidence.totals[0].device.as_deref(), Some("eth0"));
        assert_eq!(evidence.totals[1].device, None);
    }
}
