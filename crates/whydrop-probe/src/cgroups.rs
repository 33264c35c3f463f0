//! Which BPF programs see the packets of a control group's sockets. Nothing here attaches or changes one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// `BPF_PROG_QUERY` of `bpf(2)` (4.15+).
const BPF_PROG_QUERY: libc::c_long = 16;
/// `BPF_F_QUERY_EFFECTIVE`: with the programs of the groups above.
const EFFECTIVE: u32 = 1;
/// Programs asked for: the kernel has at most 64 on one group, and few have more than a handful.
const MOST: usize = 64;

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupHook {
    /// Those for its sockets (`BPF_CGROUP_INET_INGRESS`).
    Ingress = 0,
    /// Those of its sockets (`BPF_CGROUP_INET_EGRESS`).
    Egress = 1,
}

/// The part of `union bpf_attr` that is for a query (`include/uapi/linux/bpf.h`, 6.18). Longer than any
/// kernel's: what a newer one writes behind the fields known here finds room.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    hook: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    unused: u32,
    rest: [u64; 14],
}

/// Ids of the programs that see these packets of the sockets in a control group (v2), in the order in
/// which they run; those of the groups above it are among them. `group` is the group's folder.
///
/// Needs `CAP_NET_ADMIN` beside `CAP_BPF`, or `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the folder cannot be opened, or the kernel does not answer.
pub fn cgroup_programs(group: &Path, hook: CgroupHook) -> io::Result<Vec<u32>> {
    let folder = File::open(group)?;
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        target: folder.as_raw_fd().cast_unsigned(),
        hook: hook as u32,
        flags: EFFECTIVE,
        programs: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    #[expect(unsafe_code, reason = "bpf(2) is to be had by a bare system call alone")]
    // SAFETY: the kernel writes into `query`, whose size it is told, and at most `count` numbers where
    // `programs` points: into `ids`, which is as long and outlives the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            std::ptr::from_mut(&mut query),
            size_of::<Query>(),
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(query.count).unwrap_or(0);
    Ok(ids.into_iter().take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_control_group_is_an_error() {
        assert!(cgroup_programs(Path::new("/proc/no-such-folder"), CgroupHook::Egress).is_err());
        assert!(cgroup_programs(Path::new("/proc"), CgroupHook::Ingress).is_err());
    }
}
