#!/bin/sh
# What a guest of the matrix runs instead of an init system. Answers go out by the second serial line:
# the first is the kernel's own.
export PATH=/usr/sbin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
sh /questions >/dev/ttyS1 2>/dev/console
poweroff -f
