//! What the TCP of a namespace sent again, to whom, and how much of it local losses explain.
//!
//! Each retransmission follows from one packet that did not arrive, or whose acknowledgment did not.
//! So as many are explained as packets of TCP were dropped where this host can see it; what the peer
//! reports to have received twice (DSACK, RFC 2883) was not lost at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use whydrop_model::{DropTotal, Endpoint, EventExemplar, Namespace};

use crate::case::Case;
use crate::{UNEXPLAINED, causes, is_loss, rules};

/// The tracepoint that names the connections.
const EVENT: &str = "tcp:tcp_retransmit_skb";
/// Payload of a full segment with timestamps over Ethernet: what a dropped packet that offload has
/// not cut up yet is cut into.
const SEGMENT: u64 = 1448;
/// IP protocols that can carry TCP inside: IPIP, IPv6 in IPv4, GRE, ESP, AH.
const TUNNELS: [u8; 5] = [4, 41, 47, 50, 51];
/// UDP ports of tunnels: VXLAN (IANA's and Linux's own), GENEVE, `WireGuard`.
const TUNNEL_PORTS: [u16; 4] = [4789, 8472, 6081, 51820];
/// Fields of `rtnl_link_stats64` that tell of frames lost in or below the driver.
const LINK_LOSSES: [&str; 6] = [
    "tx_dropped",
    "tx_errors",
    "rx_missed_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_over_errors",
];

/// The retransmissions of a namespace.
pub(crate) struct Retransmits<'e> {
    pub(crate) namespace: &'e Namespace,
    /// SYNs of its own connections.
    pub(crate) syns: u64,
    /// Segments of connections that were open, without those that could not even be sent.
    pub(crate) data: u64,
    /// Those that the peer had already.
    pub(crate) unneeded: u64,
    /// Packets of TCP lost where this host can see it, at most.
    pub(crate) local: u64,
    /// Namespaces whose losses may be behind them: those joined to it by devices.
    pub(crate) reach: BTreeSet<u64>,
}

impl<'e> Retransmits<'e> {
    /// Those of a namespace; `None` if there are none, or its counters could not be read.
    pub(crate) fn of(case: &Case<'e>, namespace: &'e Namespace) -> Option<Self> {
        let grown = |name: &str| namespace.delta(name).unwrap_or(0);
        let all = namespace.delta("Tcp.RetransSegs").filter(|all| *all > 0)?;
        // The counter holds SYNs and SYN-ACKs; the tracepoint is for SYNs only. SYN-ACKs that nobody
        // answers are those of a flood as often as not.
        let opening = grown("TcpExt.TCPSynRetrans");
        let evidence = &case.evidence().events;
        let attached = evidence.attached.iter().any(|name| name == EVENT);
        let here = evidence.totals.iter().filter(|total| total.netns == Some(namespace.inode));
        let syns = here.filter(|total| total.event == EVENT && total.code.starts_with("SYN_SENT"));
        let syns: u64 = syns.map(|total| total.packets).sum();
        let reach = reach(case.namespaces(), namespace.inode);
        let mut found = Self {
            namespace,
            syns: if attached { syns.min(opening) } else { opening },
            data: all.saturating_sub(opening + grown("TcpExt.TCPRetransFail")),
            unneeded: namespace
                .delta("TcpExt.TCPDSACKRecvSegs")
                .unwrap_or_else(|| grown("TcpExt.TCPDSACKRecv")),
            local: 0,
            reach,
        };
        found.local = found.local(case);
        Some(found)
    }

    /// Retransmissions seen in detail: SYNs, or all others.
    fn seen(
        &self,
        case: &Case<'e>,
        syns: bool,
    ) -> impl Iterator<Item = &'e EventExemplar> + use<'e> {
        let inode = self.namespace.inode;
        let all = case.evidence().events.exemplars.iter();
        all.filter(move |one| {
            one.event == EVENT
                && one.netns == Some(inode)
                && one.code.starts_with("SYN_SENT") == syns
        })
    }

    /// The peers of those seen in detail, most frequent first.
    pub(crate) fn peers(&self, case: &Case<'e>, syns: bool) -> Vec<(Endpoint, usize)> {
        let mut counts: BTreeMap<(IpAddr, Option<u16>), usize> = BTreeMap::new();
        for flow in self.seen(case, syns).filter_map(|one| one.flow.as_ref()) {
            *counts.entry((flow.destination.address, flow.destination.port)).or_default() += 1;
        }
        let mut peers: Vec<_> = counts
            .into_iter()
            .map(|((address, port), count)| (Endpoint { address, port }, count))
            .collect();
        peers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        peers
    }

    /// Packets that may be behind the retransmissions, as far as this host can tell: more rather than
    /// less, for what is booked here is not said of the path.
    fn local(&self, case: &Case<'_>) -> u64 {
        let peers = self.peers(case, true).into_iter().chain(self.peers(case, false));
        let peers: BTreeSet<IpAddr> = peers.map(|(peer, _)| peer.address).collect();
        let near = |inode: Option<u64>| inode.is_none_or(|inode| self.reach.contains(&inode));
        let totals = case.evidence().tracer.totals.iter();
        let traced = totals
            .filter(|total| near(total.netns) && !rules::is_routine(total))
            .filter(|total| may_be_behind(case, total, &peers))
            .map(|total| total.packets.max(total.bytes.div_ceil(SEGMENT)));
        // Losses that only counters saw; what the tracer saw of the same cause is among the above.
        let counted = case.entries().iter().filter(|entry| {
            let cause = causes::find(&entry.cause);
            let lost = cause.is_some_and(|cause| is_loss(cause.class) && cause.layer != "udp");
            let inode = entry.site.netns.as_ref().and_then(|netns| netns.inode);
            (lost || entry.cause == UNEXPLAINED) && near(inode)
        });
        let counted = counted.map(|entry| entry.packets.saturating_sub(entry.traced));
        let links = self.namespace.links.iter().flat_map(|link| {
            LINK_LOSSES.iter().filter_map(|field| Some(link.stats.get(*field)?.delta()))
        });
        traced.chain(counted).chain(links).sum()
    }
}

/// True if a drop can have made one of these peers' connections retransmit: TCP, or a tunnel that may
/// hold it, unless its flows are seen and all of them are others'.
fn may_be_behind(case: &Case<'_>, total: &DropTotal, peers: &BTreeSet<IpAddr>) -> bool {
    let evidence = case.evidence();
    match total.l4 {
        Some(6) | None if matches!(total.l3, 0x0800 | 0x86dd) => {
            let of_others = |flow: &whydrop_model::Flow| {
                !peers.contains(&flow.source.address) && !peers.contains(&flow.destination.address)
            };
            peers.is_empty() || !evidence.shows(total, of_others)
        }
        Some(17) => evidence.shows(total, |flow| {
            flow.destination.port.is_some_and(|port| TUNNEL_PORTS.contains(&port))
        }),
        Some(protocol) => TUNNELS.contains(&protocol),
        None => false,
    }
}

/// The namespaces that can be reached from one through devices whose other end is known.
pub(crate) fn reach(namespaces: &[Namespace], from: u64) -> BTreeSet<u64> {
    let joined: Vec<(u64, u64)> = namespaces
        .iter()
        .flat_map(|one| one.links.iter().map(move |link| (one.inode, link)))
        .filter_map(|(inode, link)| Some((inode, link.lower?.netns?)))
        .collect();
    let mut reach = BTreeSet::from([from]);
    loop {
        let known = reach.len();
        for (a, b) in &joined {
            if reach.contains(a) || reach.contains(b) {
                reach.extend([*a, *b]);
            }
        }
        if reach.len() == known {
            return reach;
        }
    }
}
