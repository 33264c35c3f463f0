//! A BPF program attached to a cgroup drops what its processes send or receive.
//!
//! `__cgroup_bpf_run_filter_skb` (`kernel/bpf/cgroup.c`, 6.18) refuses: on the way out the packet is freed
//! as `BPF_CGROUP_EGRESS` and the sender gets EPERM, on the way in as `SOCKET_FILTER`. Which programs see
//! the socket's packets is known, which of them refused is not. Look-alike: a filter of the socket itself,
//! which its own rule took before this one.

use whydrop_model::{CgroupPrograms, Evidence, Process, Severity, SocketProtocol};

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
        let evidence = case.evidence();
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, variant| {
            let way = variant.unwrap_or_default();
            let owner = owner(group);
            let known = evidence.cgroup_programs.iter();
            let known = owner.and_then(|owner| known.into_iter().find(|it| it.pid == owner.pid));
            let path = known.map(|known| &known.path);
            let path = path.or_else(|| owner.and_then(|owner| owner.cgroup.as_ref()));
            let programs = known.and_then(|known| {
                let ids = if way == "egress" { &known.egress } else { &known.ingress };
                traced::listed(ids.iter().map(|id| named(evidence, *id)))
            });
            let cgroup = path.cloned().unwrap_or_else(|| "the process's cgroup".into());
            let what = match variant {
                Some("egress") => format!("what its processes send to {}", group.targets()),
                _ => format!("what its processes receive on port {}", group.own_ports()),
            };
            let object = match &programs {
                Some(programs) => format!("cgroup program {programs} ({way}) of {cgroup}"),
                None => format!("cgroup program ({way}) of {cgroup}"),
            };
            let programs = programs.map(|programs| format!(" ({programs})")).unwrap_or_default();
            let show = |it: &CgroupPrograms| format!("bpftool cgroup show {} effective", it.folder);
            Told {
                object: Some(object),
                summary: format!(
                    "A BPF program{programs} attached to {cgroup} or above it drops {what}"
                ),
                cure: "Change it where it comes from: `IPAddressAllow=` of a systemd unit, the policy of \
                       the container network or security agent; it is an access control, so allow the \
                       prefix and not everything"
                    .into(),
                command: Some(known.map_or("bpftool cgroup tree".into(), show)),
                useless: &["firewall rules: the packet must pass both"],
                ..Told::default()
            }
        });
    }
}

/// A program, as `bpftool` would list it.
fn named(evidence: &Evidence, id: u32) -> String {
    match evidence.bpf_programs.get(&id) {
        Some(name) => format!("{name} (id {id})"),
        None => format!("id {id}"),
    }
}

/// The process whose socket it was, if one was seen.
fn owner<'e>(group: &Group<'e>) -> Option<&'e Process> {
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
    of_socket.chain(of_listener).next()
}
