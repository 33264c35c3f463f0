/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting under a key, with a token bucket for each: the table of totals and
 * what goes with it.
 */
#ifndef WHYDROP_TABLE_H
#define WHYDROP_TABLE_H

#include "kernel.h"
#include "wire.h"

/* Set before the programs are loaded, constant to the verifier from then on. */
const volatile __u32 rate = 10;	      /* exemplars per second, key and CPU */
const volatile __u32 bucket_mask = 0; /* buckets that a key may hash to - 1 */

/* The window: nothing is counted while this is 0. */
volatile __u32 enabled = 0;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 1); /* set when loaded */
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct bucket);
} totals SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, COUNTERS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} counters SEC(".maps");

/* Atomic, because several programs may share the counters. */
static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/*
 * True if one more exemplar may be shown. The clock is read once per jiffy at
 * most, and only when the bucket is empty: a flood reads jiffies and goes.
 */
static __always_inline int take_token(struct total *total)
{
	__u64 now, elapsed, fresh;
	__u32 jiffies;

	if (!rate)
		return 0;
	if (!total->tokens) {
		jiffies = bpf_jiffies64();
		if (likely(jiffies == total->looked_jiffies))
			return 0;
		total->looked_jiffies = jiffies;
		now = bpf_ktime_get_ns();
		elapsed = now - total->refilled_ns;
		if (elapsed > 1000000000)
			elapsed = 1000000000;
		fresh = elapsed * rate / 1000000000;
		if (!fresh)
			return 0;
		total->tokens = fresh;
		total->refilled_ns = now;
	}
	total->tokens -= 1;
	return 1;
}

/*
 * The same pointer, but to the verifier one that may point anywhere into the
 * bucket. It would otherwise follow each slot to the end of the program, and take
 * several times as long to load it. In assembly, because the compiler knows better.
 */
static __always_inline struct slot *somewhere_in(struct bucket *bucket, struct slot *slot)
{
	asm volatile("%[slot] -= %[bucket]\n"
		     "if %[slot] > %[last] goto +2\n"
		     "%[slot] += %[bucket]\n"
		     "goto +1\n"
		     "%[slot] = 0\n"
		     : [slot] "+&r"(slot)
		     : [bucket] "r"(bucket), [last] "i"(sizeof(*bucket) - sizeof(*slot)));
	return slot;
}

/* The slot of a key in this bucket, or a free one that becomes its own; NULL if neither. */
static __always_inline struct slot *slot_in(struct bucket *bucket, const struct slot *wanted)
{
	struct slot *slot = NULL;
	__u32 n;

#pragma unroll
	for (n = 0; n < BUCKET_SLOTS; n++) {
		slot = &bucket->slot[n];
		if (!slot->word[0] ||
		    (slot->word[0] == wanted->word[0] && slot->word[1] == wanted->word[1] &&
		     slot->word[2] == wanted->word[2]))
			goto found;
	}
	return NULL;
found:
	slot = somewhere_in(bucket, slot);
	if (slot && !slot->word[0]) {
		slot->word[1] = wanted->word[1];
		slot->word[2] = wanted->word[2];
		slot->total.tokens = rate;
		slot->total.refilled_ns = bpf_ktime_get_ns();
		slot->word[0] = wanted->word[0];
	}
	return slot;
}

static __always_inline __u32 hash_of(const struct slot *wanted)
{
	__u64 hash = wanted->word[0] * 0x9e3779b97f4a7c15 + wanted->word[1] * 0xc2b2ae3d27d4eb4f +
		     wanted->word[2] * 0x165667b19e3779f9;

	return hash >> 40;
}

#endif
