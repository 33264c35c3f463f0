//! A BPF program attached to a cgroup drops what its processes send or receive.
//!
//! `__cgroup_bpf_run_filter_skb` (`kernel/bpf/cgroup.c`, 6.18) refuses: on the way out the packet is freed
//! as `BPF_CGROUP_EGRESS` and the sender gets EPERM, on the way in as `SOCKET_FILTER`. Look-alike: a
//! filter of the socket itself, which its own rule took before this one.

use whydrop_model::{Severity, SocketProtocol};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct CgroupBpfDrop;

const ID: &str = "cgroup-bpf-drop";
const KINDS: &[Kind] = &[
    Kind { variant: Some("egress"), signatures: &[drops("BPF_CGROUP_EGRESS", "*")], counters: &[] },
    Kind { variant: Some("ingress"), signatures: &[drops("SOCKET_FILTER", "*")], counters: &[] },
];

impl Rule for CgroupBpfDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let way = variant.unwrap_or_default();
            let cgroup = cgroup(group).unwrap_or_else(|| "the process's cgroup".into());
            let what = match variant {
                Some("egress") => format!("what its processes send to {}", group.targets()),
                _ => format!("what its processes receive on port {}", group.own_ports()),
            };
            Told {
                object: Some(format!("cgroup program ({way}) of {cgroup}")),
                summary: format!("A BPF program attached to {cgroup} or above it drops {what}"),
                cure: "Change it where it comes from: `IPAddressAllow=` of a systemd unit, the policy of \
                       the container network or security agent; it is an access control, so allow the \
                       prefix and not everything"
                    .into(),
                command: Some("bpftool cgroup tree".into()),
                useless: &["firewall rules: the packet must pass both"],
                ..Told::default()
            }
        });
    }
}

/// The cgroup of the process whose socket it was, if one was seen.
fn cgroup(group: &Group<'_>) -> Option<String> {
    let inode = group.socket()?.inode;
    let namespace = group.namespace?;
    let of_socket = namespace
        .sockets
        .iter()
        .filter(|socket| socket.protocol != SocketProtocol::Unix && socket.inode == inode)
        .flat_map(|socket| &socket.owners);
    let of_listener = namespace
        .listeners
        .iter()
        .filter(|listener| listener.inode == inode)
        .flat_map(|listener| &listener.owners);
    of_socket.chain(of_listener).find_map(|process| process.cgroup.clone())
}
