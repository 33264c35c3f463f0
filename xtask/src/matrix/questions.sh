# What every kernel of the matrix is asked, in a guest or on the host. Each answer follows a line with
# its name. BRIEF and LONG are names of scenarios; whydrop is on the path.
place=whydrop-matrix-$$
scratch=/tmp/$place
mkdir "$scratch" || exit 1
trap 'ip netns del "$place" 2>/dev/null; rm -rf "$scratch"' EXIT
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null

# What was complained of, on a line of its own whatever was printed before.
complaint() {
    echo
    echo "@@ complaint"
    cat "$scratch/said"
}
# ask NAME COMMAND...: what it prints, and what it complains of.
ask() {
    echo "@@ $1"
    shift
    "$@" 2>"$scratch/said"
    complaint
}

ask kernel whydrop kernel --format json
ask reasons whydrop reasons --format json
ask table cat /sys/kernel/tracing/events/skb/kfree_skb/format

# Something for the collectors to read.
ip netns add "$place"
inside() { ip netns exec "$place" "$@"; }
inside ip link set lo up
inside ip link add matrix-a type veth peer name matrix-b
inside ip link set matrix-a up
inside ip link set matrix-b up
inside ip address add 192.0.2.1/24 dev matrix-a
inside ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev matrix-a
inside tc qdisc add dev matrix-a root handle 1: htb
inside tc filter add dev matrix-a parent 1: protocol ip bpf da bytecode '1,6 0 0 2,'
inside nft 'add table inet matrix; add chain inet matrix input { type filter hook input priority 0; };
    add rule inet matrix input ct state new counter accept'
ask record whydrop record --duration 1 --netns "$place" --output "$scratch/evidence"
ask evidence zcat "$scratch/evidence"

for way in tp_btf raw_tp tp; do
    rm -f "$scratch/ready" "$scratch/calls"
    # Beside it, so that the process we know is whydrop.
    strace -D -f --seccomp-bpf -T -s 64 -e trace=bpf -o "$scratch/calls" \
        whydrop --attach $way --netns "$place" --duration 120 --format json --ready-file "$scratch/ready" \
        >"$scratch/report" 2>"$scratch/said" &
    tracer=$!
    while [ ! -e "$scratch/ready" ] && kill -0 $tracer 2>/dev/null; do sleep 0.1; done
    echo "@@ programs $way"
    for file in /proc/$tracer/fdinfo/*; do
        echo "fd: ${file##*/}"
        grep -E '^(prog_type|verified_insns)' "$file" 2>/dev/null
    done
    # A shell has its background jobs ignore SIGINT.
    kill -TERM $tracer
    wait $tracer
    echo "@@ report $way"
    cat "$scratch/report"
    complaint
    echo "@@ loads $way"
    grep -E 'BPF_PROG_LOAD|BPF_RAW_TRACEPOINT_OPEN|resumed' "$scratch/calls"
    ask "lab $way" whydrop lab run --jobs 1 --attach $way --format json $BRIEF
done
ask lab whydrop lab run --jobs 1 --format json $LONG
echo "@@ end"
