// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts what tells of loss elsewhere than at skb:kfree_skb, and shows a few of
 * each kind. One program for each tracepoint, loaded and attached on its own.
 *
 * They are raw tracepoints only. The kernel runs a BTF-typed program from the
 * same place at the same price; what it would save, the helper for reading,
 * matters where much is read a million times a second. In return user space has
 * no type to look up for each, and what the verifier believes of an argument's
 * being NULL, which changed from kernel to kernel, is of no consequence.
 *
 * Programs can interrupt each other, so each has a part of the table to itself.
 * That also keeps one that has many keys from taking the places of the others.
 */
#include "event.h"
#include "kernel.h"
#include "read.h"
#include "table.h"
#include "wire.h"

/* How many arguments each tracepoint has on this kernel; set when loaded. */
const volatile __u8 arguments[EVENTS] = {};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, EVENTS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct total);
} remainders SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, 1 << 17);
} exemplars SEC(".maps");

/*
 * The count of a key, which lives in one of two buckets of its tracepoint's part
 * of the table; if both are taken, that of all keys of the tracepoint together.
 */
static __always_inline struct total *total_of(const struct slot *wanted)
{
	__u32 event = wanted->event.event, index = hash_of(wanted), step;

	for (step = 0; step < 2; step++) {
		__u32 place = event * (bucket_mask + 1) + ((index + step) & bucket_mask);
		struct bucket *bucket = bpf_map_lookup_elem(&totals, &place);
		struct slot *slot;

		if (!bucket)
			break;
		slot = slot_in(bucket, wanted);
		if (slot)
			return &slot->total;
	}
	return bpf_map_lookup_elem(&remainders, &event);
}

/* Nobody is woken: the reader comes by itself, for the drops. */
static __always_inline int show(struct event *event)
{
	struct event_exemplar *to = bpf_ringbuf_reserve(&exemplars, sizeof(*to), 0);

	if (!to) {
		count(COUNTER_RING_FULL);
		return 0;
	}
	count(COUNTER_SAMPLED);
	__builtin_memset(to, 0, __builtin_offsetof(struct event_exemplar, packet));
	to->key = event->wanted.event;
	to->time_ns = bpf_ktime_get_ns();
	show_event(to, event);
	bpf_ringbuf_submit(to, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Counts one event under its key, and shows it if the key's rate allows. The copy
 * is for the verifier: it makes it forget on which of many ways the event came to
 * be what it is, so that it follows what comes next only once.
 */
static __noinline int happened(const struct event *event)
{
	struct total *total;
	struct event copy;

	bpf_probe_read_kernel(&copy, sizeof(copy), event);
	total = total_of(&copy.wanted);
	if (!total)
		return 0;
	total->packets += 1;
	return take_token(total) ? show(&copy) : 0;
}

/*
 * A program, which only asks whether there is anything to do, and the function
 * that does it.
 */
#define ON_IF(condition, name, number)                                              \
	static __always_inline void on_##name(__u64 *ctx, struct event *event);     \
	static __noinline int saw_##name(__u64 *ctx)                                \
	{                                                                           \
		struct event event = {.wanted.event.event = number};                \
                                                                                    \
		on_##name(ctx, &event);                                             \
		return event.wanted.event.event ? happened(&event) : 0;             \
	}                                                                           \
	SEC("raw_tp/" #name) int name(__u64 *ctx)                                   \
	{                                                                           \
		return (condition) && enabled ? saw_##name(ctx) : 0;                \
	}                                                                           \
	static __always_inline void on_##name(__u64 *ctx, struct event *event)

#define ON(name, number) ON_IF(1, name, number)

/* Code: state of the connection, above it what sending the packet returned. */
ON(tcp_retransmit_skb, EVENT_TCP_RETRANSMIT_SKB)
{
	struct event_key *key = &event->wanted.event;
	__u32 returned = arguments[EVENT_TCP_RETRANSMIT_SKB] >= 3 ? ctx[2] : 0;

	key->code = key_from_socket(event, (void *)ctx[0], IPPROTO_TCP) | returned << 16;
}

ON(tcp_retransmit_synack, EVENT_TCP_RETRANSMIT_SYNACK)
{
	key_from_socket(event, (void *)ctx[0], IPPROTO_TCP);
	event->ends = (void *)ctx[1];
}

/*
 * Code: enum sk_rst_reason. The packet is the one that is answered with a reset;
 * there is none when a socket is closed with data unread. There may be no socket.
 */
ON(tcp_send_reset, EVENT_TCP_SEND_RESET)
{
	struct event_key *key = &event->wanted.event;

	key->l4 = IPPROTO_TCP;
	if (arguments[EVENT_TCP_SEND_RESET] >= 3)
		key->code = ctx[2];
	key_from_socket(event, (void *)ctx[0], IPPROTO_TCP);
	key_from_packet(event, (void *)ctx[1]);
}

/* Code: state of the connection before. */
ON(tcp_receive_reset, EVENT_TCP_RECEIVE_RESET)
{
	event->wanted.event.code = key_from_socket(event, (void *)ctx[0], IPPROTO_TCP);
	event->incoming = 1;
}

ON(sock_rcvqueue_full, EVENT_SOCK_RCVQUEUE_FULL)
{
	key_from_socket(event, (void *)ctx[0], 0);
	key_from_packet(event, (void *)ctx[1]);
}

/* Code: SK_MEM_SEND or SK_MEM_RECV. */
ON(sock_exceed_buf_limit, EVENT_SOCK_EXCEED_BUF_LIMIT)
{
	key_from_socket(event, (void *)ctx[0], 0);
	event->wanted.event.code = ctx[3];
	event->incoming = ctx[3];
}

/* Code: the error. */
ON(udp_fail_queue_rcv_skb, EVENT_UDP_FAIL_QUEUE_RCV_SKB)
{
	key_from_socket(event, (void *)ctx[1], 0);
	if (arguments[EVENT_UDP_FAIL_QUEUE_RCV_SKB] >= 3)
		key_from_packet(event, (void *)ctx[2]);
	event->wanted.event.code = -(__u32)ctx[0];
	event->incoming = 1;
}

/* Code: enum xdp_action. */
ON(xdp_exception, EVENT_XDP_EXCEPTION)
{
	key_from_device(event, (void *)ctx[0]);
	event->wanted.event.code = ctx[2];
}

/* Code: the error. */
ON(xdp_redirect_err, EVENT_XDP_REDIRECT_ERR)
{
	key_from_device(event, (void *)ctx[0]);
	event->wanted.event.code = -(__u32)ctx[3];
}

static __always_inline void key_from_neighbour(struct event *event, struct neighbour *neigh)
{
	struct neigh_table *table = GET(0, neigh, tbl);

	event->neigh = neigh;
	event->wanted.event.family = GET(0, table, family);
	key_from_device(event, GET(0, neigh, dev));
}

ON(neigh_event_send_dead, EVENT_NEIGH_EVENT_SEND_DEAD)
{
	key_from_neighbour(event, (void *)ctx[0]);
}

/* Counts only if the neighbour has just been given up. */
ON(neigh_timer_handler, EVENT_NEIGH_TIMER_HANDLER)
{
	struct neighbour *neigh = (void *)ctx[0];

	if (GET(0, neigh, nud_state) == NUD_FAILED)
		key_from_neighbour(event, neigh);
	else
		event->wanted.event.event = 0;
}

/* Code: the queue. */
ON(net_dev_xmit_timeout, EVENT_NET_DEV_XMIT_TIMEOUT)
{
	key_from_device(event, (void *)ctx[0]);
	event->wanted.event.code = ctx[1];
}

/*
 * Counts only polls that used up their budget. Code: the budget. Netpoll comes
 * with a budget of 0.
 */
ON_IF((__u32)ctx[1] == (__u32)ctx[2] && (__u32)ctx[2], napi_poll, EVENT_NAPI_POLL)
{
	struct napi_struct *napi = (void *)ctx[0];

	key_from_device(event, GET(0, napi, dev));
	event->wanted.event.code = ctx[2];
}

/* Code: enum qdisc_drop_reason. */
ON(qdisc_drop, EVENT_QDISC_DROP)
{
	key_from_packet(event, (void *)ctx[3]);
	key_from_device(event, (void *)ctx[2]);
	event->wanted.event.code = ctx[4];
}

/*
 * Code: where the trap's name is, which is as good as the name; the exemplar of
 * each key shows it.
 */
ON(devlink_trap_report, EVENT_DEVLINK_TRAP_REPORT)
{
	struct devlink_trap_metadata *trap = (void *)ctx[2];

	key_from_packet(event, (void *)ctx[1]);
	key_from_device(event, GET(0, trap, input_dev));
	event->trap = GET(0, trap, trap_name);
	event->wanted.event.code = (__u64)event->trap;
}

char terms[] SEC("license") = "Dual BSD/GPL";
