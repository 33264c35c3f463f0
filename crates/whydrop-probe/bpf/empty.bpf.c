// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A program that does nothing, attached where drop.bpf.c is: what any program
 * there costs at least. Measurements subtract it.
 */
#include "kernel.h"

SEC("tp_btf/kfree_skb")
int empty_btf(__u64 *ctx)
{
	return 0;
}

char terms[] SEC("license") = "Dual BSD/GPL";
