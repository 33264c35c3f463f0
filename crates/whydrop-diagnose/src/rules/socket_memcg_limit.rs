//! The memory limit of a control group, at which its sockets may take no more.
//!
//! `PROTO_MEM` with the tracepoint `sock:sock_exceed_buf_limit` (`__sk_mem_raise_allocated()`,
//! `net/core/sock.c`, 6.18) while the protocol as a whole is far from `tcp_mem` and `udp_mem`. The group
//! is that of the socket's owner: with cgroup v2 `memory.max`, with v1 `memory.kmem.tcp.limit_in_bytes`.

use whydrop_model::{
    Cgroup, EvidenceItem, EvidenceKind, Process, Remedy, Severity, SocketProtocol,
};

use crate::case::{Case, Conclusion, Loss};
use crate::memory_limit::{self, EVENT, Limit};
use crate::rule::Rule;
use crate::traced::Group;

/// See the module.
pub(super) struct SocketMemcgLimit;

const ID: &str = "socket-memcg-limit";
/// Files that limit the memory of sockets, by hierarchy, with what is used of them and what counts
/// the refusals.
const LIMITS: [(&str, &str, &str, &str); 2] = [
    (
        "memory",
        "memory.kmem.tcp.limit_in_bytes",
        "memory.kmem.tcp.usage_in_bytes",
        "memory.kmem.tcp.failcnt",
    ),
    ("cgroup2", "memory.max", "memory.current", "memory.events.max"),
];

impl Rule for SocketMemcgLimit {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for (l4, variant) in [(6, "tcp"), (17, "udp")] {
            for group in memory_limit::take(case, l4, Limit::Group) {
                conclude(case, &group, variant);
            }
        }
    }
}

/// A group with a limit, and what of it the evidence knows.
struct Limited<'e> {
    group: &'e Cgroup,
    file: &'static str,
    limit: &'e str,
    used: Option<u64>,
    refused: u64,
}

/// The group of these processes that refused most often, the smallest first among equals.
fn limited<'e>(case: &Case<'e>, owners: &[&Process]) -> Option<Limited<'e>> {
    let holds = |group: &&Cgroup| owners.iter().any(|process| group.holds(process));
    let groups = case.evidence().cgroups.iter().filter(holds).filter_map(|group| {
        let (_, file, used, refused) =
            LIMITS.into_iter().find(|(hierarchy, ..)| *hierarchy == group.hierarchy)?;
        let limit = group.settings.get(file).filter(|limit| *limit != "max")?;
        Some(Limited {
            group,
            file,
            limit,
            used: group.counters.get(used).map(|pair| pair.after),
            refused: group.counters.get(refused).map_or(0, |pair| pair.delta()),
        })
    });
    let size = |one: &Limited<'_>| one.limit.parse::<u64>().unwrap_or(u64::MAX);
    groups.max_by_key(|one| (one.refused, std::cmp::Reverse(size(one))))
}

fn conclude(case: &mut Case<'_>, group: &Group<'_>, variant: &'static str) {
    let holder = group.holder();
    let protocol = if variant == "tcp" { SocketProtocol::Tcp } else { SocketProtocol::Udp };
    let listeners = group.namespace.iter().flat_map(|it| &it.listeners).flat_map(|it| &it.owners);
    let sockets = group.namespace.iter().flat_map(|it| &it.sockets);
    let of_protocol = sockets.filter(|it| it.protocol == protocol).flat_map(|it| &it.owners);
    let pid = holder.and_then(|holder| holder.process()).map(|process| process.pid);
    let owners: Vec<&Process> =
        listeners.chain(of_protocol).filter(|one| pid.is_none_or(|pid| one.pid == pid)).collect();
    let limited = limited(case, &owners);
    let owner = holder.map_or("a program".into(), |holder| holder.owner());
    let path = limited.as_ref().map(|one| one.group.path.clone());
    let mut agreeing = Vec::new();
    let fired: u64 = case
        .evidence()
        .events
        .totals
        .iter()
        .filter(|one| one.event == EVENT && one.netns == group.netns)
        .map(|one| one.packets)
        .sum();
    if fired > 0 {
        agreeing.push(EvidenceItem::new(EvidenceKind::Event, EVENT, fired));
    }
    let state = |name: String, value: String| EvidenceItem::new(EvidenceKind::State, name, value);
    if let Some(one) = &limited {
        let used = one.used.map_or("?".into(), |used| used.to_string());
        let name =
            format!("{} of {}, at the end against the limit, in bytes", one.file, one.group.path);
        agreeing.push(state(name, format!("{used} of {}", one.limit)));
    }
    let name = path.clone().unwrap_or_else(|| format!("control group of {owner}"));
    let confidence = group.confidence(&agreeing);
    let site = group.site(case, Some(format!("memory limit of {name}")));
    let unit = owners.iter().find_map(|process| process.unit.as_deref());
    let commands = match (&limited, unit) {
        (Some(one), _) if one.group.hierarchy == "memory" => {
            vec![format!("cat /sys/fs/cgroup/memory{}/{}", one.group.path, one.file)]
        }
        (_, Some(unit)) => vec![format!("systemctl show -p MemoryMax {unit}")],
        (Some(one), None) => vec![format!("cat /sys/fs/cgroup{}/{}", one.group.path, one.file)],
        (None, None) => Vec::new(),
    };
    case.conclude(
        ID,
        Conclusion {
            variant: Some(variant),
            severity: Severity::Critical,
            confidence,
            loss: Loss::traced(group.packets),
            site: holder.map_or(site.clone(), |holder| holder.at(site)),
            summary: format!(
                "The sockets of {owner} may take no more memory: the limit of {name} is reached, and what \
                 arrives is thrown away"
            ),
            evidence: group.proof().into_iter().chain(agreeing).collect(),
            remedies: vec![Remedy {
                summary: "Raise the memory limit of that group to its working set and the queues of its \
                          sockets, or let its programs read faster"
                    .into(),
                commands,
                useless: vec![
                    "net.ipv4.tcp_mem and udp_mem: the host as a whole is far from them".into(),
                    "SO_RCVBUF and tcp_rmem: larger buffers reach the group's limit sooner".into(),
                ],
            }],
        },
    );
}
