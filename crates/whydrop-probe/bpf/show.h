/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Filling in an exemplar. Runs for few drops, so everything is read through the
 * helper, whatever the program's type.
 */
#ifndef WHYDROP_SHOW_H
#define WHYDROP_SHOW_H

#include "kernel.h"
#include "read.h"
#include "wire.h"

/*
 * The socket's part of an exemplar. Not inlined, so that the object's BTF
 * describes struct exemplar: it has the types of parameters, not those of local
 * variables.
 */
static __noinline int show_socket(struct exemplar *to, struct sock *sk)
{
	to->socket_kind = to->key.marks & MARK_RX_SK ? SOCKET_RECEIVER : SOCKET_OWNER;
	to->socket_family = GET(0, sk, __sk_common.skc_family);
	to->socket_state = GET(0, sk, __sk_common.skc_state);
	if (to->socket_family == AF_INET || to->socket_family == AF_INET6)
		to->socket_port = GET(0, sk, __sk_common.skc_num);
	to->socket_inode = inode_of_socket(sk, to->socket_state);
	if (to->socket_state != TCP_TIME_WAIT && to->socket_state != TCP_NEW_SYN_RECV &&
	    GET(0, sk, sk_filter))
		to->socket_kind |= SOCKET_FILTERED;
	return 0;
}

/* The packet's part of an exemplar: its headers, as far as they are linear. */
static __always_inline void show_packet(struct exemplar *to, struct sk_buff *skb)
{
	unsigned char *head = GET(0, skb, head);
	struct headers at = headers_of(skb, 0);

	to->packet_len = length_of(skb, at.network, 0);
	if (at.network < at.tail) {
		__u32 bytes = at.tail - at.network;

		if (bytes > PACKET_BYTES)
			bytes = PACKET_BYTES;
		if (!bpf_probe_read_kernel(to->packet, bytes, head + at.network))
			to->packet_bytes = bytes;
	}
	if (GET(0, skb, vlan_proto))
		to->vlan = GET(0, skb, vlan_tci) & VLAN_ID;
	if (at.mac != MAC_HEADER_UNSET && !bpf_probe_read_kernel(to->mac, ETH_HLEN, head + at.mac))
		to->mac_bytes = ETH_HLEN;
}

/*
 * What follows those headers, behind the record: `to` has room for `most` bytes,
 * which the verifier must see to be a constant.
 */
static __always_inline void show_more(struct exemplar *record, __u8 *to, __u32 most,
				      struct sk_buff *skb)
{
	struct headers at = headers_of(skb, 0);
	__u32 from = at.network + PACKET_BYTES, bytes = at.tail - from;

	if (from >= at.tail)
		return;
	if (bytes > most)
		bytes = most;
	if (!bpf_probe_read_kernel(to, bytes, GET(0, skb, head) + from))
		record->more_bytes = bytes;
}

#endif
