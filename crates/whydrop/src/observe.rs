//! One window of one host: the tracer and the counters over the same time, as evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use whydrop_collect::{Observation, Roots, Watch};
use whydrop_model::{
    CgroupPrograms, EVIDENCE_SCHEMA, EventEvidence, Evidence, Exemplar, Host, Namespace,
    NotChecked, ObservedWindow, Scope, TracerEvidence,
};
use whydrop_probe::CgroupHook;

use crate::cli::Observe;
use crate::privilege::Privileges;
use crate::progress::Progress;
use crate::signals::Ended;
use crate::trace::Trace;

/// How long a wait may last. A signal ends it, unless it comes just before it begins; a ring that
/// fills up does so, too. To wake up is most of what an idle window costs.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Reasons with which programs on control groups refuse packets; of those received, and those sent.
const BY_CGROUP: [&str; 2] = ["SOCKET_FILTER", "BPF_CGROUP_EGRESS"];

/// Observes this host until `duration` is over or a signal comes. What cannot be examined is in the
/// evidence; only a wrong request is an error.
pub(crate) fn observe(
    what: &Observe,
    duration: Duration,
    privileges: &Privileges,
) -> anyhow::Result<Evidence> {
    let ended = Ended::listen()?;
    let (host, mut not_checked) = whydrop_collect::host();
    let mut trace = Trace::start(what);
    privileges.attached(|| trace.is_readable());
    // The tracer's window encloses that of the counters: whatever a counter saw, the tracer had its
    // chance to see.
    let counters = Watch::open(whydrop_collect::Options {
        netns: what.netns.clone(),
        ..whydrop_collect::Options::default()
    })?;
    let began = Instant::now();
    if let Some(path) = &what.ready_file {
        announce(path)?;
    }
    let mut progress = Progress::new(duration);
    while let Some(left) = duration.checked_sub(began.elapsed()).filter(|_| !ended.yet()) {
        progress.update(left, Some(trace.kept() as u64));
        if trace.wait(left.min(TICK), None) {
            counters.hurry();
        }
    }
    drop(progress);
    let counted = counters.close();
    let (tracer, events, untraced) = trace.finish(&counted.namespaces);
    not_checked.extend(untraced);
    let seen = Seen { tracer, events, counted, not_checked, interrupted: ended.yet() };
    Ok(evidence(host, what, seen))
}

/// What the sources told of one window.
pub(crate) struct Seen {
    pub(crate) tracer: TracerEvidence,
    pub(crate) events: EventEvidence,
    pub(crate) counted: Observation,
    /// What could not be examined, beside what is in `counted`.
    pub(crate) not_checked: Vec<NotChecked>,
    pub(crate) interrupted: bool,
}

/// Puts together what was seen.
pub(crate) fn evidence(host: Host, what: &Observe, seen: Seen) -> Evidence {
    let Seen { mut tracer, mut events, counted, mut not_checked, interrupted } = seen;
    let Observation {
        opened,
        length,
        namespaces,
        softnet,
        protocol_memory,
        cgroups,
        cpu_side,
        neighbour_tables,
        not_checked: uncounted,
    } = counted;
    let window = ObservedWindow {
        start: jiff::Timestamp::try_from(opened).unwrap_or_default().to_string(),
        seconds: length.as_secs_f64(),
        interrupted,
    };
    not_checked.extend(uncounted);
    let scope = Scope { netns: what.netns.clone() };
    confine(&mut tracer, &mut events, &namespaces, &scope);
    name_devices(&mut tracer, &mut events, &namespaces);
    let (cgroup_programs, unasked) = cgroup_programs(&tracer, &namespaces);
    not_checked.extend(unasked);
    let (bpf_programs, unnamed) = program_names(&namespaces, &cgroup_programs);
    not_checked.extend(unnamed);
    Evidence {
        schema: EVIDENCE_SCHEMA.into(),
        host,
        window,
        scope,
        tracer,
        events,
        softnet,
        cpu_side,
        neighbour_tables,
        protocol_memory,
        cgroups,
        cgroup_programs,
        bpf_programs,
        namespaces,
        not_checked,
    }
}

/// Tells whoever waits that the window is open.
pub(crate) fn announce(path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, b"").with_context(|| format!("cannot create {}", path.display()))
}

/// Leaves out what happened in namespaces that were not asked for, and makes the sums those of what
/// is left and kept.
fn confine(
    tracer: &mut TracerEvidence,
    events: &mut EventEvidence,
    namespaces: &[Namespace],
    scope: &Scope,
) {
    if !scope.netns.is_empty() {
        let inside =
            |netns: Option<u64>| namespaces.iter().any(|namespace| Some(namespace.inode) == netns);
        tracer.totals.retain(|total| inside(total.netns));
        tracer.exemplars.retain(|exemplar| inside(exemplar.netns));
        events.confine(inside);
    }
    tracer.events = tracer.totals.iter().map(|total| total.packets).sum();
    tracer.sampled = tracer.exemplars.len() as u64;
    let not_kept = tracer.events.saturating_sub(tracer.sampled);
    tracer.ring_full = tracer.ring_full.min(not_kept);
    tracer.suppressed = not_kept - tracer.ring_full;
}

/// The BPF programs on the control groups of sockets whose packets a filter dropped: theirs, or one of
/// the socket itself, which only the diagnosis tells apart. Asks nothing if there was no such packet.
fn cgroup_programs(
    tracer: &TracerEvidence,
    namespaces: &[Namespace],
) -> (Vec<CgroupPrograms>, Option<NotChecked>) {
    let refused = |one: &&Exemplar| BY_CGROUP.contains(&one.reason.as_str());
    let sockets = tracer.exemplars.iter().filter(refused).filter_map(|one| one.socket.as_ref());
    let inodes: BTreeSet<_> = sockets.map(|socket| socket.inode).filter(|it| *it != 0).collect();
    let owners = namespaces.iter().flat_map(|namespace| {
        let sockets = namespace.sockets.iter().map(|it| (it.inode, &it.owners));
        sockets.chain(namespace.listeners.iter().map(|it| (it.inode, &it.owners)))
    });
    let owners = owners.filter(|(inode, _)| inodes.contains(inode)).flat_map(|(_, all)| all);
    let pids: BTreeSet<_> = owners.map(|process| process.pid).collect();
    let mut unasked = None;
    let asked = pids.into_iter().filter_map(|pid| {
        let (path, folder) = whydrop_collect::unified_group(&Roots::default(), pid)?;
        let programs = |hook| whydrop_probe::cgroup_programs(&folder, hook);
        match (programs(CgroupHook::Ingress), programs(CgroupHook::Egress)) {
            (Ok(ingress), Ok(egress)) => {
                let folder = folder.display().to_string();
                Some(CgroupPrograms { pid, path, folder, ingress, egress })
            }
            (Err(why), _) | (_, Err(why)) => {
                let what = format!("BPF programs on control group {path}");
                unasked = Some(NotChecked { what, why: why.to_string() });
                None
            }
        }
    });
    (asked.collect(), unasked)
}

/// Names of the programs at XDP hooks and on control groups, which the kernel tells by id alone.
pub(crate) fn program_names(
    namespaces: &[Namespace],
    groups: &[CgroupPrograms],
) -> (BTreeMap<u32, String>, Option<NotChecked>) {
    let links = namespaces.iter().flat_map(|namespace| &namespace.links);
    let at_xdp = links.filter_map(|link| link.xdp.as_ref()).flat_map(|xdp| &xdp.programs);
    let on_groups = groups.iter().flat_map(|group| group.ingress.iter().chain(&group.egress));
    let ids: BTreeSet<_> = at_xdp.chain(on_groups).copied().collect();
    match whydrop_probe::program_names(&ids) {
        Ok(names) => (names, None),
        Err(why) => {
            let what = "names of BPF programs".into();
            (BTreeMap::new(), Some(NotChecked { what, why: why.to_string() }))
        }
    }
}

/// Gives devices their names, from the links of their namespaces.
fn name_devices(tracer: &mut TracerEvidence, events: &mut EventEvidence, namespaces: &[Namespace]) {
    let mut names = BTreeMap::new();
    for namespace in namespaces {
        for link in &namespace.links {
            names.insert((Some(namespace.inode), link.ifindex), link.name.as_str());
        }
    }
    let name = |netns, ifindex| names.get(&(netns, ifindex)).map(ToString::to_string);
    events.name_devices(name);
    for total in &mut tracer.totals {
        total.device = total.device.take().or_else(|| name(total.netns, total.ifindex));
    }
    for exemplar in &mut tracer.exemplars {
        exemplar.device = exemplar.device.take().or_else(|| name(exemplar.netns, exemplar.ifindex));
    }
}
