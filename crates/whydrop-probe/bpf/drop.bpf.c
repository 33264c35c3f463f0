// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts every packet that the kernel drops, and shows a few of each kind.
 *
 * Three programs for one tracepoint, skb:kfree_skb, of which user space attaches
 * the first that the kernel takes. They share drop(), which runs for every drop
 * on the host, often millions a second: it counts under a key and returns. All
 * that costs more is left to show(), at the rate that the key's token bucket
 * allows.
 *
 * Counts are per CPU and not atomic: the kernel does not run a program of these
 * types again on a CPU where it is already running (raw tracepoints: since 6.1;
 * classic ones: always, and not while any other such program runs either). It
 * counts the refusals as recursion_misses (classic ones: since 6.7), which user
 * space reports as lost. Before 6.1 a drop in an interrupt that hits the moment
 * of counting another one can cost one count.
 */
#include "filter.h"
#include "kernel.h"
#include "read.h"
#include "show.h"
#include "table.h"
#include "wire.h"

/* Set before the programs are loaded, constant to the verifier from then on. */
const volatile __u8 has_reason = 0;    /* the tracepoint has a third argument */
const volatile __u8 has_rx_sk = 0;     /* and a fourth */
const volatile __u8 stacks = 1;	       /* exemplars carry the kernel stack */
const volatile __u32 more = 0;	       /* bytes beyond PACKET_BYTES, multiple of 8 */
const volatile __u32 wakeup_bytes = 0; /* wake the reader when so much waits */

/* When the latest exemplar was made. CPUs may race for it; that is a wake-up more or less. */
volatile __u64 shown_ns SEC(".data.shown") = 0;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, REMAINDERS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct total);
} remainders SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, 1 << 20);
} exemplars SEC(".maps");

/*
 * Sends one drop in detail. A function of its own, so that the ordinary path
 * keeps its registers to itself.
 */
static __noinline int show(void *ctx, struct sk_buff *skb, const struct key *key,
			   struct sock *rx_sk)
{
	struct net_device *dev = GET(0, skb, dev);
	struct sock *sk = rx_sk;
	struct exemplar *to;
	__u64 fixed = stacks ? sizeof(*to) : __builtin_offsetof(struct exemplar, stack);
	__u64 wakeup = BPF_RB_NO_WAKEUP, before = shown_ns;

	to = bpf_ringbuf_reserve(&exemplars, fixed + more, 0);
	if (!to) {
		count(COUNTER_RING_FULL);
		return 0;
	}
	count(COUNTER_SAMPLED);
	to->key = *key;
	to->time_ns = bpf_ktime_get_ns();
	shown_ns = to->time_ns;
	to->len = GET(0, skb, len);
	to->more_bytes = 0;
	to->reserved = 0;
	to->socket_inode = 0;
	to->socket_family = 0;
	to->socket_port = 0;
	to->socket_state = 0;
	to->socket_kind = SOCKET_NONE;
	to->packet_bytes = 0;
	to->mac_bytes = 0;
	to->vlan = 0;
	to->device[0] = 0;
	to->stack_bytes = 0;
	if (dev_netns(dev, 0))
		bpf_probe_read_kernel(to->device, sizeof(to->device), &dev->name);
	if (!(key->marks & MARK_RX_SK))
		sk = GET(0, skb, sk);
	if (sk && kernel_address(sk))
		show_socket(to, sk);
	show_packet(to, skb);
	if (more)
		show_more(to, (__u8 *)to + fixed, more, skb);
	if (stacks) {
		long bytes = bpf_get_stack(ctx, to->stack, sizeof(to->stack), 0);

		if (bytes > 0)
			to->stack_bytes = bytes;
	}
	if (before + REST_NS <= to->time_ns ||
	    bpf_ringbuf_query(&exemplars, BPF_RB_AVAIL_DATA) >= wakeup_bytes)
		wakeup = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(to, wakeup);
	return 0;
}

static __always_inline struct total *remainder_of(__u32 reason)
{
	__u32 subsystem = reason >> 16, number = reason & 0xffff, index = REMAINDER_OTHER;

	if (reason < REMAINDER_CORE)
		index = reason;
	else if (subsystem && subsystem <= REMAINDER_SUBSYSTEMS && number < REMAINDER_PER_SUBSYSTEM)
		index = REMAINDER_CORE + (subsystem - 1) * REMAINDER_PER_SUBSYSTEM + number;
	return bpf_map_lookup_elem(&remainders, &index);
}

/*
 * The count of a key that is not in the first slot of its first bucket: its slot,
 * or a free slot that becomes its own, or the remainder of its reason when both
 * buckets it may live in are taken.
 */
static __noinline struct total *total_elsewhere(const struct slot *wanted, __u32 index)
{
	__u32 step;

	for (step = 0; step < 2; step++) {
		__u32 place = (index + step) & bucket_mask;
		struct bucket *bucket = bpf_map_lookup_elem(&totals, &place);
		struct slot *slot;

		if (!bucket)
			break;
		slot = slot_in(bucket, wanted);
		if (slot)
			return &slot->total;
	}
	return remainder_of(wanted->key.reason);
}

static __always_inline struct total *total_of(const struct slot *wanted)
{
	__u32 index = hash_of(wanted), place = index & bucket_mask;
	struct bucket *bucket = bpf_map_lookup_elem(&totals, &place);

	if (bucket && likely(bucket->slot[0].word[0] == wanted->word[0] &&
			     bucket->slot[0].word[1] == wanted->word[1] &&
			     bucket->slot[0].word[2] == wanted->word[2]))
		return &bucket->slot[0].total;
	return total_elsewhere(wanted, index);
}

/* Counts one drop under its key, and shows it if the key's rate allows. */
static __always_inline int drop(void *ctx, struct sk_buff *skb, __u64 location, __u32 reason,
				struct sock *rx_sk, const int typed)
{
	__u16 l3 = __builtin_bswap16(GET(typed, skb, protocol));
	__u32 network = GET(typed, skb, network_header);
	__u32 netns, ifindex = 0, linear = 0, len;
	struct net_device *dev;
	struct total *total;
	struct start start;
	struct slot wanted;
	__u64 marks = 0;

	if (filtered && !wanted_packet(&start, &linear, skb, l3, typed))
		return 0;
	if (network && (l3 == ETH_P_IP || l3 == ETH_P_IPV6)) {
		const __u64 *words = start.words;

		if (!filtered)
			words = look_at_start(&start, &linear, skb, network, typed);
		marks = l4_and_marks(words, start.network, linear, l3);
	}
	dev = GET(typed, skb, dev);
	netns = dev_netns(dev, typed);
	if (likely(netns)) {
		ifindex = GET(typed, dev, ifindex);
	} else {
		netns = sock_netns(rx_sk);
		if (!netns)
			netns = sock_netns(GET(typed, skb, sk));
		if (netns)
			ifindex = GET(typed, skb, skb_iif);
	}
	len = GET(typed, skb, len);
	if (!len)
		marks |= (__u64)MARK_EMPTY << 56;
	if (present(rx_sk))
		marks |= (__u64)MARK_RX_SK << 56;

	wanted.word[0] = location;
	wanted.word[1] = reason | (__u64)netns << 32;
	wanted.word[2] = ifindex | (__u64)l3 << 32 | marks;
	total = total_of(&wanted);
	if (!total)
		return 0;
	total->packets += 1;
	total->bytes += len;
	if (likely(!take_token(total)))
		return 0;
	return show(ctx, skb, &wanted.key, rx_sk);
}

SEC("tp_btf/kfree_skb")
int drop_btf(__u64 *ctx)
{
	if (!enabled)
		return 0;
	return drop(ctx, (void *)ctx[0], ctx[1], has_reason ? ctx[2] : 0,
		    has_rx_sk ? (void *)ctx[3] : NULL, 1);
}

SEC("raw_tp/kfree_skb")
int drop_raw(__u64 *ctx)
{
	if (!enabled)
		return 0;
	return drop(ctx, (void *)ctx[0], ctx[1], has_reason ? ctx[2] : 0,
		    has_rx_sk ? (void *)ctx[3] : NULL, 0);
}

SEC("tracepoint/skb/kfree_skb")
int drop_tp(struct trace_event_raw_kfree_skb *ctx)
{
	if (!enabled)
		return 0;
	return drop(ctx, ctx->skbaddr, (__u64)ctx->location, has_reason ? ctx->reason : 0,
		    has_rx_sk ? ctx->rx_sk : NULL, 0);
}

char terms[] SEC("license") = "Dual BSD/GPL";
