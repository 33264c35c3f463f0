//! What it took the kernel to accept each BPF program, seen from outside the program that loads them:
//! its `bpf` calls as strace wrote them, and what `/proc/PID/fdinfo` says of the descriptors.

use std::collections::BTreeMap;

/// One program that was loaded and stayed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    /// As the loader gave it, which cuts it short; whole if it is that of its raw tracepoint.
    pub(super) name: String,
    /// Instructions before the verifier saw them.
    pub(super) instructions: u64,
    /// Instructions that the verifier went through; kernels before 5.16 do not tell.
    pub(super) verified: Option<u64>,
    /// How long the call took.
    pub(super) seconds: f64,
}

/// The programs that `fdinfo` still has.
pub(super) fn read(calls: &str, fdinfo: &str) -> Vec<Load> {
    let held = held(fdinfo);
    let tracepoints = tracepoints(calls);
    // Of several calls that gave the same descriptor, the last one is about what it holds now.
    let last: BTreeMap<u64, Load> = loads(calls).into_iter().collect();
    let found = last.into_iter().filter_map(|(descriptor, load)| {
        let whole = tracepoints.get(&descriptor).filter(|whole| whole.starts_with(&load.name));
        let name = whole.map_or(load.name.as_str(), |whole| whole).to_owned();
        Some(Load { name, verified: *held.get(&descriptor)?, ..load })
    });
    found.collect()
}

/// Names of the raw tracepoints to which programs were attached, by the descriptor of the program.
fn tracepoints(calls: &str) -> BTreeMap<u64, &str> {
    calls.lines().filter_map(tracepoint).collect()
}

/// The descriptor of the program and the name of the tracepoint, if the call attaches one.
fn tracepoint(line: &str) -> Option<(u64, &str)> {
    let (_, call) = line.split_once("bpf(BPF_RAW_TRACEPOINT_OPEN, {raw_tracepoint={name=\"")?;
    let (name, rest) = call.split_once('"')?;
    let (_, descriptor) = rest.split_once("prog_fd=")?;
    Some((descriptor.split('}').next()?.parse().ok()?, name))
}

/// Descriptors that are programs, and what was verified of each.
fn held(fdinfo: &str) -> BTreeMap<u64, Option<u64>> {
    let mut held = BTreeMap::new();
    let mut descriptor = None;
    for line in fdinfo.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().parse().ok();
        match key {
            "fd" => descriptor = value,
            "prog_type" => drop(descriptor.map(|it| held.insert(it, None))),
            "verified_insns" => drop(descriptor.map(|it| held.insert(it, value))),
            _ => {}
        }
    }
    held
}

/// Successful loads and the descriptor that each gave.
fn loads(calls: &str) -> Vec<(u64, Load)> {
    let mut begun = BTreeMap::new();
    let mut loads = Vec::new();
    for line in calls.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        if let Some(load) = load(call) {
            begun.insert(thread, load);
        } else if !call.contains("resumed>") {
            continue;
        }
        // A call that another thread interrupted ends in a line of its own.
        if call.ends_with("<unfinished ...>") {
            continue;
        }
        let Some(load) = begun.remove(thread) else { continue };
        if let Some((descriptor, seconds)) = result(call) {
            loads.push((descriptor, Load { seconds, ..load }));
        }
    }
    loads
}

/// What a call loads, if it is a load.
fn load(call: &str) -> Option<Load> {
    let arguments = call.trim_start().strip_prefix("bpf(BPF_PROG_LOAD, ")?;
    let (_, instructions) = arguments.split_once("insn_cnt=")?;
    let (_, name) = arguments.split_once("prog_name=\"")?;
    Some(Load {
        name: name.split('"').next()?.to_owned(),
        instructions: instructions.split(',').next()?.parse().ok()?,
        verified: None,
        seconds: 0.0,
    })
}

/// The descriptor and the time at the end of a line: `) = 27 <0.012345>`.
fn result(call: &str) -> Option<(u64, f64)> {
    let (_, result) = call.rsplit_once(" = ")?;
    let (descriptor, seconds) = result.split_once(" <")?;
    Some((descriptor.parse().ok()?, seconds.strip_suffix('>')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Load, read};

    const CALLS: &str = "\
7 bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_SOCKET_FILTER, insn_cnt=2, prog_name=\"probe\"}, 148) = 9 <0.000100>
7 bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_TRACING, insn_cnt=700, prog_name=\"drop_tp_btf\"}, 148 <unfinished ...>
8 bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_RAW_TRACEPOINT, insn_cnt=50, prog_name=\"late\"}, 148) = -1 EACCES (Permission denied) <0.002>
8 bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_RAW_TRACEPOINT, insn_cnt=60, prog_name=\"xdp_excepti\"}, 148) = 11 <0.003000>
8 bpf(BPF_RAW_TRACEPOINT_OPEN, {raw_tracepoint={name=\"xdp_exception\", prog_fd=11}}, 148) = 12 <0.000100>
7 <... bpf resumed>) = 9 <0.020000>
";

    #[test]
    fn a_load_is_told_by_its_descriptor_and_what_became_of_it() {
        let fdinfo = "fd: 3\nfd: 9\nprog_type:\t26\nverified_insns:\t1234\nfd: 11\nprog_type:\t17\nfd: 12\n\
                      prog_type:\t17\n";
        let load = |name: &str, instructions, verified, seconds| Load {
            name: name.to_owned(),
            instructions,
            verified,
            seconds,
        };
        assert_eq!(
            read(CALLS, fdinfo),
            [load("drop_tp_btf", 700, Some(1234), 0.02), load("xdp_exception", 60, None, 0.003)]
        );
    }
}
