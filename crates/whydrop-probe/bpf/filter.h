/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The user's packet filter: a stretch of instructions that do nothing, over whose
 * end the loader writes the translated filter (src/patch.rs), and what the filter
 * is told of a packet (crates/whydrop-filter/src/ebpf.rs).
 */
#ifndef WHYDROP_FILTER_H
#define WHYDROP_FILTER_H

#include "kernel.h"
#include "read.h"

/* Set before the programs are loaded; while 0 all of this is dead code. */
const volatile __u8 filtered = 0;

/* Room for the filter, in instructions, behind the one that marks the place. */
#define FILTER_ROOM 2048

/*
 * True if the filter accepts the packet that begins so, of which `linear` bytes
 * are there from the network header on; `mac` is the address of its Ethernet
 * header or 0, `len` its length as an Ethernet frame. Registers that the filter
 * may use without saving are named so that the compiler keeps nothing in them.
 */
static __noinline __u64 accepts(const struct start *start, __u64 linear, __u64 len, __u64 l3,
				__u64 mac)
{
	register const struct start *a asm("r1") = start;
	register __u64 b asm("r2") = linear;
	register __u64 c asm("r3") = len;
	register __u64 d asm("r4") = l3;
	register __u64 e asm("r5") = mac;
	register __u64 verdict asm("r0");

	asm volatile("%[verdict] = 0x5eedf117\n"
		     ".rept %[room]\n"
		     ".quad 5\n" /* goto +0; as a number it has no line in the debug information */
		     ".endr\n"
		     : [verdict] "=r"(verdict), "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e)
		     : [room] "i"(FILTER_ROOM)
		     : "r6", "r7", "r8", "r9", "memory");
	return verdict;
}

/* Asks the filter about a packet, whose beginning it copies. */
static __always_inline int wanted_packet(struct start *start, __u32 *linear, struct sk_buff *skb,
					 __u16 l3, const int typed)
{
	struct headers at = headers_of(skb, typed);
	__u64 mac = at.mac == MAC_HEADER_UNSET ? 0 : (__u64)GET(typed, skb, head) + at.mac;

	*linear = copy_start(start, skb, at.network, at.tail, typed);
	return accepts(start, *linear, length_of(skb, at.network, typed) + ETH_HLEN, l3, mac);
}

#endif
