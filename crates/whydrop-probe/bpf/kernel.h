/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All that whydrop's programs assume about the kernel, on one page.
 *
 * Every record below names only the members that are read. Offsets and sizes
 * come from the running kernel's BTF when the object is loaded (CO-RE), so a
 * record's layout here means nothing; the names and kinds of its members do.
 * Notes say since when a member exists, or what it replaced.
 */
#ifndef WHYDROP_KERNEL_H
#define WHYDROP_KERNEL_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the key's words in drop.bpf.c are put together for little endian"
#endif

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;

#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A map is described by the types of its members, which loaders read from BTF. */
#define MAP_NUMBER(name, value) int(*name)[value]
#define MAP_TYPE(name, type) typeof(type) *name

#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_RINGBUF 27

#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_AVAIL_DATA 0

/* Helpers by their number in include/uapi/linux/bpf.h. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
/* 4.18 */
static long (*const bpf_get_stack)(void *ctx, void *to, __u32 size, __u64 flags) = (void *)67;
/* 5.5 */
static long (*const bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) =
	(void *)115;
/* 5.6; replaced by a plain load where programs are JIT-compiled */
static __u64 (*const bpf_jiffies64)(void) = (void *)118;
/* 5.8 */
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *record, __u64 flags) = (void *)132;
static __u64 (*const bpf_ringbuf_query)(void *ring, __u64 flags) = (void *)134;

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_HLEN 14
#define VLAN_ID 0x0fff
#define IPPROTO_TCP 6
#define IP_OFFSET 0x1fff /* fragment offset, host order */
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_ACK 0x10
#define AF_INET 2
#define AF_INET6 10
/* include/net/tcp_states.h: in these states a struct sock_common is all there is */
#define TCP_TIME_WAIT 6
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12

/* include/net/neighbour.h, uapi/linux/neighbour.h */
#define NUD_FAILED 0x20

/* skb_mac_header_was_set() in include/linux/skbuff.h */
#define MAC_HEADER_UNSET 0xffff

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	__u32 inum;
};

struct net {
	struct ns_common ns;
	struct net_device *loopback_dev;
};

/* Empty without CONFIG_NET_NS; the programs cannot be loaded on such a kernel. */
typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[16];
	__s32 ifindex;
	possible_net_t nd_net;
};

struct inode {
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
};

struct socket {
	struct file *file;
};

struct in6_addr {
	char any;
};

/* In an established connection these are of its own; in a listener partly empty. */
struct sock_common {
	__u32 skc_daddr;     /* network order, as all that follow */
	__u32 skc_rcv_saddr; /* own address */
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num; /* own port, host order */
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
};

struct sk_filter;

struct sock {
	struct sock_common __sk_common;
	struct sk_filter *sk_filter; /* of SO_ATTACH_FILTER and SO_ATTACH_BPF */
	struct socket *sk_socket;
	__u16 sk_protocol; /* a bit field before 5.6 */
};

struct sk_buff {
	/*
	 * Shares its place with dev_scratch (UDP receive queues) and with a
	 * pointer of rbnode (reassembly, TCP out-of-order queue).
	 */
	struct net_device *dev;
	struct sock *sk;
	__u32 len;
	__s32 skb_iif;
	__u16 protocol;
	__u16 vlan_proto; /* EtherType of the tag; not cleared with it before 6.2 */
	__u16 vlan_tci;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	__u32 tail;
	unsigned char *head;
	unsigned char *data;
};

/* Its device is NULL for the per-CPU backlog, and a dummy for some drivers. */
struct napi_struct {
	struct net_device *dev;
};

struct neigh_table {
	__s32 family;
};

struct neighbour {
	struct neigh_table *tbl;
	__u8 nud_state;
	struct net_device *dev;
	__u8 primary_key[0]; /* the address, as long as the table's family says */
};

/* With CONFIG_NET_DEVLINK. */
struct devlink_trap_metadata {
	const char *trap_name;
	struct net_device *input_dev;
};

/* An enum, because CO-RE matches kinds; since 5.17. */
enum skb_drop_reason {
	WHYDROP_ANY_REASON = 0,
};

/* What the classic tracepoint hands over; include/trace/events/skb.h. */
struct trace_event_raw_kfree_skb {
	void *skbaddr;
	void *location;
	void *rx_sk;		     /* 6.11 */
	enum skb_drop_reason reason; /* 5.17 */
};

#pragma clang attribute pop

#endif
