// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What scenarios attach to devices: XDP and tc programs that lose packets, each
 * in a section of its own. They touch IPv4 and IPv6 packets only, so that
 * neighbours can still ask for each other by ARP.
 */
typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))

/* enum xdp_action of include/uapi/linux/bpf.h */
#define XDP_ABORTED 0
#define XDP_DROP 1
#define XDP_PASS 2
#define XDP_NO_SUCH_ACTION 77
/* include/uapi/linux/pkt_cls.h */
#define TC_ACT_OK 0

/* The start of either structure, as far as it is used here. */
struct xdp_md {
	__u32 data;
	__u32 data_end;
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol; /* network order */
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
};

static long (*const bpf_clone_redirect)(void *skb, __u32 ifindex, __u64 flags) = (void *)13;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;

/* No device has this index: those of a namespace are counted up from 1. */
#define NOWHERE 1000000

/* More than fit into the backlog of a CPU (net.core.netdev_max_backlog is 1000). */
#define CLONES 1500

static inline __attribute__((always_inline)) int is_ip(struct xdp_md *packet)
{
	const __u8 *byte = (void *)(long)packet->data;
	const void *end = (void *)(long)packet->data_end;

	if ((const void *)(byte + 14) > end)
		return 0;
	return (byte[12] == 0x08 && byte[13] == 0x00) || (byte[12] == 0x86 && byte[13] == 0xdd);
}

static inline __attribute__((always_inline)) int is_ip_skb(struct __sk_buff *skb)
{
	return skb->protocol == __builtin_bswap16(0x0800) ||
	       skb->protocol == __builtin_bswap16(0x86dd);
}

SEC("xdp/drop") int xdp_drop(struct xdp_md *packet)
{
	return is_ip(packet) ? XDP_DROP : XDP_PASS;
}

SEC("xdp/aborted") int xdp_aborted(struct xdp_md *packet)
{
	return is_ip(packet) ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp/unknown") int xdp_unknown(struct xdp_md *packet)
{
	return is_ip(packet) ? XDP_NO_SUCH_ACTION : XDP_PASS;
}

SEC("xdp/redirect") int xdp_redirect(struct xdp_md *packet)
{
	return is_ip(packet) ? bpf_redirect(NOWHERE, 0) : XDP_PASS;
}

SEC("xdp/pass") int xdp_pass(struct xdp_md *packet)
{
	return XDP_PASS;
}

SEC("tc/redirect") int tc_redirect(struct __sk_buff *skb)
{
	return is_ip_skb(skb) ? bpf_redirect(NOWHERE, 0) : TC_ACT_OK;
}

/* Many copies of each packet to the device after this one, all at once. */
SEC("tc/clone") int tc_clone(struct __sk_buff *skb)
{
	__u32 number;

	if (is_ip_skb(skb))
		for (number = 0; number < CLONES; number++)
			bpf_clone_redirect(skb, skb->ifindex + 1, 0);
	return TC_ACT_OK;
}

char terms[] SEC("license") = "Dual BSD/GPL";
