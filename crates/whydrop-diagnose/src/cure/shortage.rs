//! Which resource is short where a program serves more slowly than it is asked.

use whydrop_model::{Answer, Pair, Process, Shortage};

use super::{Patient, left_out};

/// What kept a reader from running is what is short.
#[expect(clippy::unnecessary_wraps, reason = "the signature of all kinds")]
pub(super) fn starved(patient: &Patient<'_>) -> Option<Answer> {
    let finding = patient.finding;
    let advice: Vec<_> = finding.remedies.iter().map(|remedy| remedy.summary.as_str()).collect();
    Some(Answer::Capacity(Shortage {
        resource: finding.site.object.clone().unwrap_or_else(|| "CPU time".into()),
        why: finding.summary.clone(),
        advice: advice.join(". "),
        left_out: left_out(finding),
    }))
}

/// The shortage of the owners of a socket; `otherwise` names what it is where no limit is reached.
pub(super) fn of(
    patient: &Patient<'_>,
    owners: &[Process],
    otherwise: &str,
    why: &str,
) -> Shortage {
    let known = owners.iter().find_map(|owner| limit(patient, owner));
    let (resource, proof, advice) = known.unwrap_or_else(|| {
        let owner = owners
            .first()
            .map_or("the program".into(), |one| format!("{} (pid {})", one.comm, one.pid));
        let advice =
            "Let it do less between two calls, or serve with more threads, processes or hosts";
        (format!("{otherwise} of {owner}"), String::new(), advice.into())
    });
    Shortage {
        resource,
        why: if proof.is_empty() { why.to_owned() } else { format!("{why}; {proof}") },
        advice,
        left_out: left_out(patient.finding),
    }
}

/// A limit that a process is at: the resource, the proof and what to do.
fn limit(patient: &Patient<'_>, owner: &Process) -> Option<(String, String, String)> {
    let Patient { evidence, thresholds, .. } = *patient;
    let name = format!("{} (pid {})", owner.comm, owner.pid);
    if let Some((open, limit)) = owner.files.and_then(|files| Some((files.open, files.limit?)))
        && open >= limit
    {
        return Some((
            format!("open files of {name}"),
            format!("it has {open} of {limit} files open, so accept() fails"),
            format!("Raise its limit of open files (LimitNOFILE= of its unit), now {limit}"),
        ));
    }
    for cgroup in evidence.cgroups.iter().filter(|cgroup| cgroup.holds(owner)) {
        let grown = |name: &str| cgroup.counters.get(name).map_or(0, |pair| pair.delta());
        let (throttled, periods) =
            (grown("cpu.stat.nr_throttled"), grown("cpu.stat.nr_periods").max(1));
        if throttled as f64 > periods as f64 * thresholds.quota_short {
            return Some((
                format!("CPU quota of {}", cgroup.path),
                format!("it was throttled in {throttled} of {periods} periods"),
                "Raise the quota (cpu.max; CPUQuota= of its unit, the CPU limit of its container)"
                    .into(),
            ));
        }
    }
    let waited = owner.run_delay_ns.map_or(0, Pair::delta) as f64 / 1e9;
    (waited > evidence.window.seconds * thresholds.starved).then(|| {
        (
            format!("CPU time for {name}"),
            format!("its threads were ready for {waited:.1} s and had no CPU"),
            "Give it more CPUs, or take other work off those it runs on".into(),
        )
    })
}
