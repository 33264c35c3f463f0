//! What should have emptied a queue did not get to run: the CPU is the cause, the queue its victim.
//!
//! Runs after the rules for queues and takes over the packets of their findings where the evidence
//! shows that the reader, or the CPU that serves a card, was kept from running: by its control group's
//! CPU quota (throttled), by the hypervisor (steal), by other work on that CPU (irq-off), or by a lack
//! of CPUs (no variant). The finding it takes them from stays, without packets, and says that it
//! follows. A reader that sleeps is not starved: its quota was not used up and it was not waiting.

use whydrop_model::{
    Cgroup, Confidence, Evidence, EvidenceItem, EvidenceKind, Finding, Link, Process, Remedy,
    Severity, Site,
};

use crate::case::{Case, Conclusion};
use crate::ring::{self, Why};
use crate::rule::Rule;

/// See the module.
pub(super) struct CpuStarvation;

const ID: &str = "cpu-starvation";

/// Causes that may only follow from a reader that does not run. A stopped one is another matter.
const FOLLOWERS: [&str; 5] = [
    "udp-receive-buffer-full",
    "accept-queue-full",
    "tcp-socket-backlog-full",
    "raw-socket-buffer-full",
    "tun-reader-slow",
];

/// The cause in one case.
struct Starved {
    variant: Option<&'static str>,
    object: String,
    summary: String,
    evidence: Vec<EvidenceItem>,
    remedy: Remedy,
    confidence: Confidence,
}

impl Rule for CpuStarvation {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for at in 0..case.findings().len() {
            let finding = &case.findings()[at];
            if finding.packets == 0 {
                continue;
            }
            let starved = if finding.cause == "nic-rx-ring-overrun" {
                card(case, finding)
            } else if FOLLOWERS.contains(&finding.cause.as_str())
                && finding.variant.as_deref() != Some("stopped")
            {
                reader(case, finding)
            } else {
                None
            };
            if let Some(starved) = starved {
                take_over(case, at, starved);
            }
        }
    }
}

/// Concludes the cause, and leaves the finding that it explains without packets.
fn take_over(case: &mut Case<'_>, at: usize, starved: Starved) {
    let loss = case.hand_over(at, ID, &starved.object);
    let follower = case.findings()[at].cause.clone();
    let site = Site { object: Some(starved.object), ..case.findings()[at].site.clone() };
    let mut evidence = starved.evidence;
    evidence.push(EvidenceItem::new(EvidenceKind::Event, "what follows from it", follower));
    let conclusion = Conclusion {
        variant: starved.variant,
        severity: Severity::Critical,
        confidence: starved.confidence,
        loss,
        site,
        summary: starved.summary,
        evidence,
        remedies: vec![starved.remedy],
    };
    case.conclude(ID, conclusion);
}

/// What kept the reader of a full queue from running.
fn reader(case: &Case<'_>, finding: &Finding) -> Option<Starved> {
    let evidence = case.evidence();
    let process = process(evidence, finding)?;
    let full = time_full(evidence, finding).unwrap_or(evidence.window.seconds);
    let limits = case.thresholds();
    let throttled = evidence
        .cgroups
        .iter()
        .filter(|group| group.holds(process))
        .filter_map(|group| Some((group, throttled_seconds(group)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, seconds)| *seconds > 0.0 && *seconds >= limits.throttled * full);
    if let Some((group, seconds)) = throttled {
        return Some(by_quota(evidence, process, group, seconds));
    }
    let waited = process.run_delay_ns.map_or(0.0, |pair| pair.delta() as f64 / 1e9);
    (waited >= limits.starved * evidence.window.seconds && waited >= limits.throttled * full)
        .then(|| by_others(process, waited, evidence.window.seconds))
}

/// The process that a finding names, with all that is known of it.
fn process<'e>(evidence: &'e Evidence, finding: &Finding) -> Option<&'e Process> {
    let pid = finding.site.process.as_ref()?.pid;
    let namespaces = evidence.namespaces.iter();
    namespaces
        .flat_map(|one| {
            let sockets = one.sockets.iter().flat_map(|socket| &socket.owners);
            one.listeners.iter().flat_map(|listener| &listener.owners).chain(sockets)
        })
        .find(|process| process.pid == pid)
}

/// Seconds for which the queue stayed full at a stretch, if its course is known.
fn time_full(evidence: &Evidence, finding: &Finding) -> Option<f64> {
    let inode = finding.site.netns.as_ref()?.inode?;
    let namespace = evidence.namespace(inode)?;
    let named = finding.site.socket.as_deref()?;
    if let Some(listener) =
        namespace.listeners.iter().find(|it| format!("tcp {}", it.endpoint()) == named)
    {
        return Some(crate::listen::Course::of(listener, evidence).pinned.as_secs_f64());
    }
    let end = evidence.window.length().as_millis() as u64;
    namespace
        .sockets
        .iter()
        .filter(|it| !it.steps.is_empty())
        .find(|it| it.local.is_some_and(|local| named.ends_with(&format!(" {local}"))))
        .map(|socket| {
            let rcvbuf = socket.memory.map_or(0, |memory| memory.rcvbuf);
            socket.longest_at_least(rcvbuf / 4 * 3, end) as f64 / 1000.0
        })
}

/// Seconds for which the group was throttled, over all CPUs; `None` if it does not tell.
fn throttled_seconds(group: &Cgroup) -> Option<f64> {
    let grown = |name: &str| group.counters.get(name).map(|pair| pair.delta() as f64);
    grown("cpu.stat.throttled_usec")
        .map(|micros| micros / 1e6)
        .or_else(|| grown("cpu.stat.throttled_time").map(|nanos| nanos / 1e9))
}

/// CPUs that the quota grants; `None` if there is none.
fn quota(group: &Cgroup) -> Option<(f64, u64)> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (quota, period) = if let Some(max) = group.settings.get("cpu.max") {
        let (quota, period) = max.split_once(' ')?;
        (number(quota)?, number(period)?)
    } else {
        let of = |name: &str| group.settings.get(name).and_then(|text| number(text));
        (of("cpu.cfs_quota_us")?, of("cpu.cfs_period_us")?)
    };
    (period > 0).then(|| (quota as f64 / period as f64, period))
}

fn by_quota(evidence: &Evidence, process: &Process, group: &Cgroup, seconds: f64) -> Starved {
    use EvidenceKind::{Counter, State};
    let window = evidence.window.seconds;
    let path = &group.path;
    let periods = group.counters.get("cpu.stat.nr_throttled").map_or(0, |pair| pair.delta());
    let mut proof = vec![
        EvidenceItem::new(Counter, format!("{path} cpu.stat nr_throttled"), periods),
        EvidenceItem::new(Counter, format!("{path} throttled, seconds"), format!("{seconds:.2}")),
    ];
    for name in ["cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"] {
        let setting = group.settings.get(name);
        proof.extend(
            setting.map(|it| EvidenceItem::new(State, format!("{path} {name}"), it.clone())),
        );
    }
    let unit = process.unit.as_ref().filter(|unit| path.ends_with(&format!("/{unit}")));
    let whose = unit.map_or_else(|| format!("control group {path}"), Clone::clone);
    let granted = quota(group).map_or(String::new(), |(cpus, _)| format!(" of {cpus:.2} CPUs"));
    Starved {
        variant: Some("throttled"),
        object: format!("CPU quota of {whose}"),
        summary: format!(
            "{} (pid {}) did not get to run: {whose} used up its CPU quota{granted} and was throttled for \
             {seconds:.1} s of {window:.1} s",
            process.comm, process.pid
        ),
        evidence: proof,
        remedy: raise(process, group, unit, seconds / window),
        confidence: Confidence::Confirmed,
    }
}

/// The quota with what was missing, in whole steps of a twentieth of a CPU.
fn raise(process: &Process, group: &Cgroup, unit: Option<&String>, missing: f64) -> Remedy {
    let enough =
        quota(group).map(|(cpus, period)| (((cpus + missing) * 20.0).ceil() / 20.0, period));
    let v1 = group.hierarchy != "cgroup2";
    let command = enough.map(|(cpus, period)| {
        let micros = (cpus * period as f64).round();
        if let Some(unit) = unit {
            format!("systemctl set-property {unit} CPUQuota={:.0}%", cpus * 100.0)
        } else if v1 {
            format!("echo {micros:.0} > /sys/fs/cgroup/cpu{}/cpu.cfs_quota_us", group.path)
        } else {
            format!("echo '{micros:.0} {period}' > /sys/fs/cgroup{}/cpu.max", group.path)
        }
    });
    let keep = match (&process.pod, &process.container) {
        (Some(_), _) => "; to keep it, the CPU limit of the pod's container",
        (None, Some(_)) => "; to keep it, the CPU limit of the container",
        (None, None) => "",
    };
    let to = enough.map_or(String::new(), |(cpus, _)| {
        format!(" to {cpus:.2} CPUs: what it has, and the time for which it was throttled")
    });
    Remedy {
        summary: format!("Raise the CPU quota{to}{keep}"),
        commands: command.into_iter().collect(),
        useless: vec![
            "a larger buffer or backlog first: it turns the loss into delay and hides the quota"
                .into(),
        ],
    }
}

fn by_others(process: &Process, waited: f64, window: f64) -> Starved {
    Starved {
        variant: None,
        object: format!("CPU time of {} (pid {})", process.comm, process.pid),
        summary: format!(
            "{} (pid {}) was ready to run and had no CPU for {waited:.1} s (all its threads together) in \
             {window:.1} s",
            process.comm, process.pid
        ),
        evidence: vec![EvidenceItem::new(
            EvidenceKind::State,
            format!("pid {} waited for a CPU, seconds", process.pid),
            format!("{waited:.2}"),
        )],
        remedy: Remedy {
            summary: "Free CPU time for it: fewer programs on these CPUs, CPUs of its own, a higher weight"
                .into(),
            commands: vec![format!("renice -n -5 -p {}", process.pid)],
            useless: vec![
                "a larger buffer or backlog first: it turns the loss into delay".into(),
            ],
        },
        confidence: Confidence::Likely,
    }
}

/// What kept the CPUs of a card from running.
fn card(case: &Case<'_>, finding: &Finding) -> Option<Starved> {
    let inode = finding.site.netns.as_ref()?.inode?;
    let device = finding.site.device.as_deref()?;
    let here = |link: &Link| link.name == device;
    let overrun = ring::overruns(case)
        .into_iter()
        .find(|one| one.namespace.inode == inode && here(one.link))?;
    let (variant, load, summary, remedy) = match overrun.why(case.evidence()) {
        Why::Stolen(load) => (
            "steal",
            load,
            format!(
                "The hypervisor took CPU {} away for {} of the time, so {device} was not served",
                load.cpu,
                ring::percent(load.steal)
            ),
            Remedy {
                summary: "Move this machine to a less loaded host, or give it CPUs of its own"
                    .into(),
                commands: vec!["mpstat -P ALL 1 5".into()],
                useless: vec!["a larger ring: it only covers shorter gaps".into()],
            },
        ),
        Why::Kept(load) => (
            "irq-off",
            load,
            format!(
                "CPU {} was busy with something else than packets, so {device} was not served",
                load.cpu
            ),
            Remedy {
                summary: format!(
                    "Find what runs on CPU {} with interrupts or softirqs off or at real-time priority, \
                     and move it or the interrupts of {device} elsewhere",
                    load.cpu
                ),
                commands: vec![format!(
                    "ps -eLo psr,cls,rtprio,pcpu,pid,comm --sort=-pcpu | awk '$1 == {}' | head",
                    load.cpu
                )],
                useless: vec!["a larger ring: it only covers shorter gaps".into()],
            },
        ),
        _ => return None,
    };
    let mut evidence = overrun.proof();
    evidence.push(ring::state_of(&load));
    evidence.dedup();
    Some(Starved {
        variant: Some(variant),
        object: format!("CPU {}", load.cpu),
        summary,
        evidence,
        remedy,
        confidence: Confidence::Likely,
    })
}
