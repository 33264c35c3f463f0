//! How much receive buffer the bursts to a UDP socket need.

use whydrop_model::Socket;

/// Payload of a datagram that fills a frame of the usual MTU: the guess where none was traced.
pub(crate) const USUAL_LENGTH: u64 = 1472;

/// Most datagrams refused between two moments at which the buffer was less than half full.
pub(crate) fn burst(socket: &Socket) -> u64 {
    let half = socket.memory.map_or(0, |memory| memory.rcvbuf) / 2;
    let (mut most, mut start) = (0, socket.drops.before);
    for step in &socket.steps {
        most = most.max(step.drops.saturating_sub(start));
        if step.queued < half {
            start = step.drops;
        }
    }
    if most == 0 { socket.drops.delta32() } else { most }
}

/// The longest time, in milliseconds, from a moment at which the buffer was three quarters full until
/// it was less than half full, and whether it was ever seen to become that, or never so full: a reader
/// that is a little ahead for a moment has not caught up. `end_ms` is when the window closed.
pub(crate) fn pinned(socket: &Socket, rcvbuf: u32, end_ms: u64) -> (u64, bool) {
    let (full, half) = (rcvbuf / 4 * 3, rcvbuf / 2);
    let (mut longest, mut since, mut caught_up) = (0, None, false);
    for step in &socket.steps {
        if step.queued >= full {
            since.get_or_insert(step.at_ms);
        } else if step.queued < half
            && let Some(begun) = since.take()
        {
            longest = longest.max(step.at_ms.saturating_sub(begun));
            caught_up = true;
        }
    }
    let last = since.map_or(0, |begun| end_ms.saturating_sub(begun));
    (longest.max(last), caught_up || since.is_none())
}

/// What a packet of this length is charged to a buffer: `struct sk_buff`, and the data with its
/// headroom and `struct skb_shared_info` in the next power of two (`SKB_TRUESIZE`,
/// `include/linux/skbuff.h`; sizes of 64-bit kernels).
pub(crate) fn truesize(length: u64) -> u64 {
    256 + (length + 128 + 320).next_power_of_two()
}
