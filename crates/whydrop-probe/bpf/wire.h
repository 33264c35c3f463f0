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

/*
 * Tracepoints other than skb:kfree_skb, one program each; src/events/catalogue.rs
 * says more about each number.
 */
#define EVENT_TCP_RETRANSMIT_SKB 1
#define EVENT_TCP_RETRANSMIT_SYNACK 2
#define EVENT_TCP_SEND_RESET 3
#define EVENT_TCP_RECEIVE_RESET 4
#define EVENT_SOCK_RCVQUEUE_FULL 5
#define EVENT_SOCK_EXCEED_BUF_LIMIT 6
#define EVENT_UDP_FAIL_QUEUE_RCV_SKB 7
#define EVENT_XDP_EXCEPTION 8
#define EVENT_XDP_REDIRECT_ERR 9
#define EVENT_NEIGH_EVENT_SEND_DEAD 10
#define EVENT_NEIGH_TIMER_HANDLER 11
#define EVENT_NET_DEV_XMIT_TIMEOUT 12
#define EVENT_NAPI_POLL 13
#define EVENT_QDISC_DROP 14
#define EVENT_DEVLINK_TRAP_REPORT 15
#define EVENTS 16 /* with the 0 that none has */

/* Events with equal keys are counted together. */
struct event_key {
	__u32 event; /* EVENT_*: never 0 in use */
	__u32 code;  /* what it means depends on the event */
	__u32 netns; /* inode number; 0 if unknown */
	__u32 ifindex;
	__u16 port;   /* own port, host order; 0 if it says nothing */
	__u16 family; /* AF_*; 0 if unknown */
	__u8 l4;      /* IP protocol; 0 if unknown */
	__u8 padding[3];
};
_Static_assert(sizeof(struct event_key) == 24, "event_key");

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
		struct event_key event;
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

/* An exemplar wakes the reader if none was made for so long. */
#define REST_NS 250000000

/* Whose socket an exemplar shows. */
#define SOCKET_NONE 0
#define SOCKET_OWNER 1	  /* skb->sk */
#define SOCKET_RECEIVER 2 /* rx_sk */
#define SOCKET_FILTERED 0x80 /* or'ed to either: it has a filter of its own */

#define PACKET_BYTES 96
#define STACK_FRAMES 32
/* Most that may follow the bytes in packet. */
#define MORE_BYTES 8192

/* One drop in detail. Bytes beyond the lengths given are stale. */
struct exemplar {
	struct key key;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 socket_inode;
	__u32 len;
	__u32 packet_len;  /* from the network header on */
	__u32 stack_bytes;
	__u16 more_bytes;  /* valid in more */
	__u16 reserved;
	__u16 socket_family;
	__u16 socket_port;
	__u8 socket_state;
	__u8 socket_kind;
	__u8 packet_bytes; /* valid in packet */
	__u8 mac_bytes;	   /* valid in mac: 0 or 14 */
	char device[16];   /* empty if unknown */
	__u8 mac[14];
	__u16 vlan; /* id of its tag; 0 if it has none */
	__u8 packet[PACKET_BYTES]; /* from the network header on */
	__u64 stack[STACK_FRAMES]; /* innermost first; absent without stacks */
	/* Then what follows the bytes in packet, if more was asked for. */
};
_Static_assert(sizeof(struct exemplar) == 448, "exemplar");

/* What the addresses of a shown event are. */
#define ENDS_NONE 0
#define ENDS_SOCKET 1	 /* of the packet, as its socket knows them */
#define ENDS_NEIGHBOUR 2 /* destination only: the neighbour */

#define EVENT_PACKET_BYTES 64

/* One event in detail. Bytes beyond the lengths given are stale. */
struct event_exemplar {
	struct event_key key;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 socket_inode;
	__u16 socket_port;
	__u16 source_port; /* both host order */
	__u16 destination_port;
	__u16 l3; /* EtherType of packet, host order */
	__u8 socket_state;
	__u8 has_socket;
	__u8 ends;
	__u8 ends_family;  /* AF_* of the addresses */
	__u8 packet_bytes; /* valid in packet */
	__u8 padding[3];
	char device[16]; /* empty if unknown */
	char trap[40];	 /* name of a devlink trap; empty for other events */
	__u8 source[16]; /* with AF_INET 4 of them */
	__u8 destination[16];
	__u8 packet[EVENT_PACKET_BYTES]; /* from the network header on */
};
_Static_assert(sizeof(struct event_exemplar) == 208, "event_exemplar");

#endif
