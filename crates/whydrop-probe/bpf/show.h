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
	return 0;
}

/* The packet's part of an exemplar: its headers, as far as they are linear. */
static __always_inline void show_packet(struct exemplar *to, struct sk_buff *skb)
{
	unsigned char *head = GET(0, skb, head);
	__u32 tail = GET(0, skb, tail);
	__u32 network = GET(0, skb, network_header);
	__u32 mac = GET(0, skb, mac_header);

	if (network && network < tail) {
		__u32 bytes = tail - network;

		if (bytes > PACKET_BYTES)
			bytes = PACKET_BYTES;
		if (!bpf_probe_read_kernel(to->packet, bytes, head + network))
			to->packet_bytes = bytes;
	}
	if (GET(0, skb, vlan_proto))
		to->vlan = GET(0, skb, vlan_tci) & VLAN_ID;
	/* Devices without a link layer begin both headers at the same place. */
	if (mac != MAC_HEADER_UNSET && (mac + ETH_HLEN <= network || mac > network) &&
	    mac + ETH_HLEN <= tail && !bpf_probe_read_kernel(to->mac, ETH_HLEN, head + mac))
		to->mac_bytes = ETH_HLEN;
}

#endif
