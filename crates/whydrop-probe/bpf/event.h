/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One event: what its key takes from a socket, a device or a packet, and filling
 * in an exemplar. Everything is read through the helper.
 */
#ifndef WHYDROP_EVENT_H
#define WHYDROP_EVENT_H

#include "kernel.h"
#include "read.h"
#include "wire.h"

/*
 * From here on the usual settings let clients have their ports
 * (ip_local_port_range): on a TCP connection such a port tells nothing.
 */
#define FIRST_CLIENT_PORT 32768

/* What a tracepoint handed over; NULL for what it did not. */
struct event {
	struct slot wanted; /* only its key is used */
	struct sock *sk;
	struct sock *ends; /* knows the addresses; may be a struct request_sock */
	struct sk_buff *skb;
	struct net_device *dev;
	struct neighbour *neigh;
	const char *trap;
	__u64 incoming; /* the packet went from the peer to the socket */
};

/* Network header and what of the packet is linear; 0 if it has none (yet). */
static __always_inline __u32 linear_from(struct sk_buff *skb, __u32 header)
{
	__u32 tail = GET(0, skb, tail);

	return header && header < tail ? tail - header : 0;
}

/* The socket's part of the key; returns its state. `l4` is 0 where the socket tells. */
static __noinline int key_from_socket(struct event *event, struct sock *sk, __u8 l4)
{
	struct event_key *key = &event->wanted.event;
	__u8 state;

	if (!sk || !kernel_address(sk))
		return 0;
	event->sk = sk;
	event->ends = sk;
	key->netns = netns_inum(GET(0, sk, __sk_common.skc_net.net), 0);
	key->family = GET(0, sk, __sk_common.skc_family);
	state = GET(0, sk, __sk_common.skc_state);
	if (key->family != AF_INET && key->family != AF_INET6)
		return state;
	if (!l4)
		l4 = GET(0, sk, sk_protocol);
	key->l4 = l4;
	key->port = GET(0, sk, __sk_common.skc_num);
	if (l4 == IPPROTO_TCP && state != TCP_LISTEN && key->port >= FIRST_CLIENT_PORT)
		key->port = 0;
	return state;
}

/* The device's part of the key, with the namespace it is in. */
static __noinline int key_from_device(struct event *event, struct net_device *dev)
{
	struct event_key *key = &event->wanted.event;
	__u32 netns;

	if (!dev)
		return 0;
	netns = dev_netns(dev, 0);
	if (!netns)
		return 0;
	event->dev = dev;
	key->netns = netns;
	key->ifindex = GET(0, dev, ifindex);
	return 0;
}

/* A received packet's part of the key. Without a socket, the port it was for too. */
static __noinline int key_from_packet(struct event *event, struct sk_buff *skb)
{
	struct event_key *key = &event->wanted.event;
	__u32 transport;
	__u16 l3, port;

	if (!skb || !kernel_address(skb))
		return 0;
	event->skb = skb;
	key_from_device(event, GET(0, skb, dev));
	/* Of the namespace that the socket told. */
	if (!key->ifindex && key->netns)
		key->ifindex = GET(0, skb, skb_iif);
	if (event->sk)
		return 0;
	l3 = GET(0, skb, protocol);
	if (l3 == __builtin_bswap16(ETH_P_IP))
		key->family = AF_INET;
	else if (l3 == __builtin_bswap16(ETH_P_IPV6))
		key->family = AF_INET6;
	transport = GET(0, skb, transport_header);
	if (key->l4 == IPPROTO_TCP && linear_from(skb, transport) >= 4 &&
	    !bpf_probe_read_kernel(&port, 2, GET(0, skb, head) + transport + 2))
		key->port = __builtin_bswap16(port);
	return 0;
}

/* Both addresses and ports, as a socket knows them. */
static __always_inline void show_ends(struct event_exemplar *to, struct sock *sk, int incoming)
{
	void *own = incoming ? to->destination : to->source;
	void *peer = incoming ? to->source : to->destination;
	__u16 own_port = GET(0, sk, __sk_common.skc_num);
	__u16 peer_port = __builtin_bswap16(GET(0, sk, __sk_common.skc_dport));

	to->ends_family = GET(0, sk, __sk_common.skc_family);
	if (to->ends_family != AF_INET && to->ends_family != AF_INET6)
		return;
	to->ends = ENDS_SOCKET;
	to->source_port = incoming ? peer_port : own_port;
	to->destination_port = incoming ? own_port : peer_port;
	if (to->ends_family == AF_INET) {
		bpf_probe_read_kernel(own, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_probe_read_kernel(peer, 4, &sk->__sk_common.skc_daddr);
	} else {
		bpf_probe_read_kernel(own, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(peer, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

static __always_inline void show_neighbour(struct event_exemplar *to, struct neighbour *neigh)
{
	__u32 bytes = to->key.family == AF_INET ? 4 : 16;

	to->ends = ENDS_NEIGHBOUR;
	to->ends_family = to->key.family;
	bpf_probe_read_kernel(to->destination, bytes, &neigh->primary_key);
}

static __always_inline void show_bytes(struct event_exemplar *to, struct sk_buff *skb)
{
	__u32 network = GET(0, skb, network_header);
	__u32 bytes = linear_from(skb, network);

	to->l3 = __builtin_bswap16(GET(0, skb, protocol));
	if (bytes > EVENT_PACKET_BYTES)
		bytes = EVENT_PACKET_BYTES;
	if (bytes && !bpf_probe_read_kernel(to->packet, bytes, GET(0, skb, head) + network))
		to->packet_bytes = bytes;
}

/*
 * Fills in all but the time and the key. Not inlined, so that the object's BTF
 * describes struct event_exemplar.
 */
static __noinline int show_event(struct event_exemplar *to, struct event *event)
{
	struct net_device *dev = event->dev;
	struct neighbour *neigh = event->neigh;
	struct sk_buff *skb = event->skb;
	struct sock *sk = event->sk, *ends = event->ends;

	if (dev)
		bpf_probe_read_kernel(to->device, sizeof(to->device), &dev->name);
	if (event->trap)
		bpf_probe_read_kernel_str(to->trap, sizeof(to->trap), event->trap);
	if (sk) {
		to->has_socket = 1;
		to->socket_state = GET(0, sk, __sk_common.skc_state);
		to->socket_port = GET(0, sk, __sk_common.skc_num);
		to->socket_inode = inode_of_socket(sk, to->socket_state);
	}
	if (neigh)
		show_neighbour(to, neigh);
	else if (ends)
		show_ends(to, ends, event->incoming);
	if (skb)
		show_bytes(to, skb);
	return 0;
}

#endif
