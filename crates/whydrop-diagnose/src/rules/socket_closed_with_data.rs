//! A socket was closed with data unread, or belongs to no network at all.
//!
//! Local sockets (AF_UNIX, netlink, vsock) use skbs too; their ends are not packet loss.

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct SocketClosedWithData;

const ID: &str = "socket-closed-with-data";

const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "udp_destruct_common"),
    drops("SOCKET_CLOSE", "*"),
    drops("UNIX_*", "*"),
    drops("NOT_SPECIFIED", "unix_*"),
    drops("NOT_SPECIFIED", "netlink_*"),
    drops("NOT_SPECIFIED", "virtio_transport_recv_pkt"),
    drops("NOT_SPECIFIED", "skb_rbtree_purge"),
    drops("NOT_SPECIFIED", "tun_queue_purge"),
    drops("QUEUE_PURGE", "skb_queue_purge_reason"),
    // Before 6.6, without a reason.
    drops("QUEUE_PURGE", "skb_queue_purge"),
    drops("QUEUE_PURGE", "inet_sock_destruct"),
    drops("QUEUE_PURGE", "tcp_disconnect"),
    drops("QUEUE_PURGE", "mptcp_destroy_common"),
];

impl Rule for SocketClosedWithData {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
    }
}
