/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading a packet that may be in any state: which namespace it is in, and what
 * it is. Nothing here trusts a pointer before it has proved itself.
 */
#ifndef WHYDROP_READ_H
#define WHYDROP_READ_H

#include "kernel.h"
#include "wire.h"

/*
 * Reads a member. In the BTF-typed program (`typed` is a constant) the verifier
 * lets us follow the pointer, which costs a load, and a fault reads as 0; in the
 * others the helper must do it.
 */
#define GET(typed, pointer, member)                                                   \
	({                                                                            \
		typeof((pointer)->member) got;                                        \
		if (typed)                                                            \
			got = (pointer)->member;                                      \
		else                                                                  \
			bpf_probe_read_kernel(&got, sizeof(got), &(pointer)->member); \
		got;                                                                  \
	})

/*
 * True if the value can be a kernel address: those have the top bit set, which
 * dev_scratch never has. In assembly, because the verifier lets nobody compute
 * with a pointer but does allow to compare it.
 */
static __always_inline int kernel_address(const void *pointer)
{
	int yes;

	asm("%[yes] = 1\n"
	    "if %[pointer] s< 0 goto +1\n"
	    "%[yes] = 0\n"
	    : [yes] "=&r"(yes)
	    : [pointer] "r"(pointer));
	return yes;
}

/*
 * True if the pointer is not NULL. In assembly, because before 6.14 the verifier
 * believes that rx_sk is never NULL and removes an ordinary test.
 */
static __always_inline int present(const void *pointer)
{
	int yes;

	asm("%[yes] = 1\n"
	    "if %[pointer] > 0 goto +1\n"
	    "%[yes] = 0\n"
	    : [yes] "=&r"(yes)
	    : [pointer] "r"(pointer));
	return yes;
}

/*
 * The namespace's inode number, if this is a namespace: its loopback device must
 * point back at it. What a stale or reused pointer leads to does not.
 */
static __always_inline __u32 netns_inum(struct net *net, const int typed)
{
	struct net_device *loopback;

	if (!kernel_address(net))
		return 0;
	loopback = GET(typed, net, loopback_dev);
	if (!kernel_address(loopback) || GET(typed, loopback, nd_net.net) != net)
		return 0;
	return GET(typed, net, ns.inum);
}

static __always_inline __u32 dev_netns(struct net_device *dev, const int typed)
{
	return kernel_address(dev) ? netns_inum(GET(typed, dev, nd_net.net), typed) : 0;
}

/* The plain test is for the verifier, which takes its word for NULL from no other. */
static __always_inline __u32 sock_netns(struct sock *sk)
{
	if (!sk || !kernel_address(sk))
		return 0;
	return netns_inum(GET(0, sk, __sk_common.skc_net.net), 0);
}

/* Inode of the socket's file; 0 if it has none, or is less than a struct sock. */
static __always_inline __u64 inode_of_socket(struct sock *sk, __u8 state)
{
	struct socket *socket;
	struct inode *inode;
	struct file *file;

	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return 0;
	socket = GET(0, sk, sk_socket);
	file = socket ? GET(0, socket, file) : NULL;
	inode = file ? GET(0, file, f_inode) : NULL;
	return inode ? GET(0, inode, i_ino) : 0;
}

/* Where a packet's headers are, as offsets from skb->head. */
struct headers {
	__u32 network; /* not below tail if there is none */
	__u32 tail;    /* end of the linear part */
	__u32 mac;     /* MAC_HEADER_UNSET if there is none, or no room for one */
};

static __always_inline struct headers headers_of(struct sk_buff *skb, const int typed)
{
	struct headers at = {
		.network = GET(typed, skb, network_header),
		.tail = GET(typed, skb, tail),
		.mac = GET(typed, skb, mac_header),
	};

	/* Devices without a link layer begin both headers at the same place. */
	if (at.mac + ETH_HLEN > at.tail ||
	    (at.network && at.mac + ETH_HLEN > at.network && at.mac <= at.network))
		at.mac = MAC_HEADER_UNSET;
	/* Dropped before the kernel had looked for it: behind the Ethernet header. */
	if (!at.network)
		at.network = at.mac == MAC_HEADER_UNSET ? at.tail : at.mac + ETH_HLEN;
	return at;
}

/* Length from the network header on, whatever has been pulled off in front of the data. */
static __always_inline __u32 length_of(struct sk_buff *skb, __u32 network, const int typed)
{
	__u32 data = (__u64)GET(typed, skb, data) - (__u64)GET(typed, skb, head);

	return GET(typed, skb, len) + data - network;
}

/* What is copied of a packet for each drop: the usual headers, TCP flags included. */
#define START_BYTES 56

/* The beginning of a packet, copied once for all that asks for it. */
struct start {
	__u64 words[START_BYTES / 8]; /* from the network header on */
	unsigned char *network;	      /* where that is */
};

/*
 * A struct of the kernel that begins with START_BYTES of whole words, by its
 * number in the kernel's BTF; 0 where there is no bpf_rdonly_cast().
 */
const volatile __u32 words_type = 0;

/*
 * bpf_rdonly_cast() of kernel/bpf/helpers.c (6.2): the same address, but to the
 * verifier a pointer to that struct, so that words are read by plain loads, of
 * which a fault reads as 0. It has no name in this object, because loaders do not
 * agree on how functions of the kernel are called: src/patch.rs writes the call
 * over the mark, `r0 = 0x5eedca57`.
 */
static __always_inline const __u64 *as_words(const void *address)
{
	register const void *a asm("r1") = address;
	register __u64 b asm("r2") = words_type;
	register const __u64 *words asm("r0");

	asm volatile("%[words] = 0x5eedca57\n"
		     : [words] "=r"(words), "+r"(a), "+r"(b)
		     :
		     : "r3", "r4", "r5");
	return words;
}

/*
 * Copies the beginning of a packet whose headers lie between these offsets from
 * skb->head, and returns how many bytes there are from the network header on; 0
 * if there are none or they cannot be read. The size is fixed because that is
 * fastest: behind the linear part lies skb_shared_info, so nothing foreign is
 * touched, and nobody looks at what lies beyond the bytes that there are. One
 * call of the helper costs more than all loads together.
 */
static __always_inline __u32 copy_start(struct start *to, struct sk_buff *skb, __u32 network,
					__u32 tail, const int typed)
{
	to->network = GET(typed, skb, head) + network;
	if (network >= tail) {
		__builtin_memset(to->words, 0, START_BYTES);
		return 0;
	}
	if (typed && words_type) {
		const volatile __u64 *words = as_words(to->network);
		__u32 n;

#pragma unroll
		for (n = 0; n < START_BYTES / 8; n++)
			to->words[n] = words[n];
		return tail - network;
	}
	return bpf_probe_read_kernel(to->words, START_BYTES, to->network) ? 0 : tail - network;
}

/*
 * The beginning of a packet and how much of it there is, in place where the kernel
 * can be asked to, which spares the copy: what is looked at is less.
 */
static __always_inline const __u64 *look_at_start(struct start *to, __u32 *linear,
						  struct sk_buff *skb, __u32 network,
						  const int typed)
{
	__u32 tail = GET(typed, skb, tail);

	if (typed && words_type) {
		to->network = GET(typed, skb, head) + network;
		*linear = network < tail ? tail - network : 0;
		return as_words(to->network);
	}
	*linear = copy_start(to, skb, network, tail, typed);
	return to->words;
}

/*
 * l4 and marks of an IP packet, as in the key's third word, of its beginning and of
 * where that is. As few words are read as will do: in place each costs a check of its
 * address too.
 */
static __always_inline __u64 l4_and_marks(const __u64 *words, const unsigned char *network,
					  __u32 linear, __u16 l3)
{
	__u8 flags = 0, l4, marks = MARK_L4;
	__u64 first;

	if (linear < (l3 == ETH_P_IP ? 20 : 40))
		return 0;
	first = words[0];
	if (l3 == ETH_P_IP) {
		__u32 destination, length = (first & 15) * 4;

		if ((first & 0xf0) != 0x40)
			return 0;
		l4 = words[1] >> 8;
		destination = words[2];
		if ((destination & 0xf0) == 0xe0 || destination == 0xffffffff)
			marks |= MARK_MULTICAST;
		if (l4 == IPPROTO_TCP && linear >= length + 14 &&
		    !(__builtin_bswap16(first >> 48) & IP_OFFSET)) {
			if (length == 20)
				flags = words[4] >> 8;
			else
				bpf_probe_read_kernel(&flags, 1, network + length + 13);
		}
	} else {
		if ((first & 0xf0) != 0x60)
			return 0;
		l4 = first >> 48;
		if ((words[3] & 0xff) == 0xff)
			marks |= MARK_MULTICAST;
		if (l4 == IPPROTO_TCP && linear >= 54)
			flags = words[6] >> 40;
	}
	if ((flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN)
		marks |= MARK_SYN;
	return (__u64)marks << 56 | (__u64)l4 << 48;
}

#endif
