/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What crosses from the kernel side to user space. src/wire.rs is its twin; a
 * test compares both through the compiled object's BTF.
 */
#ifndef WHYDROP_WIRE_H
#define WHYDROP_WIRE_H

/* Marks of a key. */
#define MARK_SYN 0x01	    /* TCP with SYN and without ACK */
#define MARK_MULTICAST 0x02 /* to a multicast address or the limited broadcast */
#define MARK_EMPTY 0x04	    /* skb->len == 0 */
#define MARK_RX_SK 0x08	    /* the kernel named the receiving socket */
#define MARK_L4 0x10	    /* l4 is known */

/* Drops with equal keys are counted together. */
struct key {
	__u64 location; /* never 0 in use */
	__u32 reason;
	__u32 netns;   /* inode number; 0 if unknown */
	__u32 ifindex; /* 0 if unknown */
	__u16 l3;      /* EtherType, host order */
	__u8 l4;       /* IP protocol, valid with MARK_L4 */
	__u8 marks;
};
_Static_assert(sizeof(struct key) == 24, "key");

/* A count, and the token bucket of its exemplars. */
struct total {
	__u64 packets;
	__u64 bytes;
	__u64 refilled_ns;
	__u32 looked_jiffies;
	__u32 tokens;
};
_Static_assert(sizeof(struct total) == 32, "total");

struct slot {
	union {
		struct key key;
		__u64 word[3];
	};
	struct total total;
};
_Static_assert(sizeof(struct slot) == 56, "slot");

/* One element of the table: slots are claimed in order and never given back. */
#define BUCKET_SLOTS 8
struct bucket {
	struct slot slot[BUCKET_SLOTS];
};
_Static_assert(sizeof(struct bucket) == 448, "bucket");

/*
 * Where a drop goes that finds no slot: core reasons by number, then the
 * reasons of each subsystem, then one place for all others.
 */
#define REMAINDER_CORE 256
#define REMAINDER_SUBSYSTEMS 4
#define REMAINDER_PER_SUBSYSTEM 64
#define REMAINDER_OTHER (REMAINDER_CORE + REMAINDER_SUBSYSTEMS * REMAINDER_PER_SUBSYSTEM)
#define REMAINDERS (REMAINDER_OTHER + 1)

/* Elements of the counters map. */
#define COUNTER_SAMPLED 0
#define COUNTER_RING_FULL 1
#define COUNTERS 2

/* Whose socket an exemplar shows. */
#define SOCKET_NONE 0
#define SOCKET_OWNER 1	  /* skb->sk */
#define SOCKET_RECEIVER 2 /* rx_sk */

#define PACKET_BYTES 96
#define STACK_FRAMES 32

/* One drop in detail. Bytes beyond the lengths given are stale. */
struct exemplar {
	struct key key;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 socket_inode;
	__u32 len;
	__u32 stack_bytes;
	__u16 socket_family;
	__u16 socket_port;
	__u8 socket_state;
	__u8 socket_kind;
	__u8 packet_bytes; /* valid in packet */
	__u8 mac_bytes;	   /* valid in mac: 0 or 14 */
	char device[16];   /* empty if unknown */
	__u8 mac[16];
	__u8 packet[PACKET_BYTES]; /* from the network header on */
	__u64 stack[STACK_FRAMES]; /* innermost first; absent without stacks */
};
_Static_assert(sizeof(struct exemplar) == 440, "exemplar");

#endif
