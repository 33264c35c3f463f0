// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What scenarios attach to control groups: programs that refuse every packet
 * that the sockets of the group receive, or send.
 */
#define SEC(name) __attribute__((section(name), used))

/* Verdict of a cgroup_skb program: anything but 1 refuses. */
#define REFUSE 0

SEC("cgroup_skb/ingress") int lab_ingress(void *skb)
{
	return REFUSE;
}

SEC("cgroup_skb/egress") int lab_egress(void *skb)
{
	return REFUSE;
}

char terms[] SEC("license") = "Dual BSD/GPL";
