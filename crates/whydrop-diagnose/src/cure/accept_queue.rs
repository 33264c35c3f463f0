//! A longer accept queue for a listener whose bursts do not fit.
//!
//! The queue's length is what the program asked for, capped by `net.core.somaxconn` at the moment of
//! `listen()`. So the change is a new `listen()` on the living socket, with the cap raised before it
//! where it binds. A queue that never drained gets no longer one: what is short then is service.

use whydrop_model::{Answer, Listener, Proposal, SocketOf, Target, Write};

use super::{Patient, left_out, measured, shortage};
use crate::listen::{self, Course};
use crate::programs;

const SOMAXCONN: &str = "net.core.somaxconn";

pub(super) fn answer(patient: &Patient<'_>) -> Option<Answer> {
    let listener = listener(patient)?;
    match patient.variant() {
        "slow-accept" => Some(Answer::Capacity(shortage::of(
            patient,
            &listener.owners,
            "time of the accepting threads",
            "connections arrive faster than the program accepts them, for longer than a client waits",
        ))),
        "somaxconn-cap" | "app-backlog" | "stale-cap" => longer_queue(patient, listener),
        _ => None,
    }
}

fn listener<'e>(patient: &Patient<'e>) -> Option<&'e Listener> {
    let socket = patient.finding.site.socket.as_deref()?;
    let named = |one: &&Listener| format!("tcp {}", one.endpoint()) == socket;
    patient.namespace.listeners.iter().filter(named).max_by_key(|one| one.drops.delta32())
}

fn longer_queue(patient: &Patient<'_>, listener: &Listener) -> Option<Answer> {
    let owner = listener.owners.first()?;
    let course = Course::of(listener, patient.evidence);
    let needed = listen::needed_backlog(listener, &course);
    let now = listener.backlog.after;
    let proposed = listen::proposed_backlog(needed).max(now);
    let cap = patient.namespace.sysctl(SOMAXCONN).and_then(|cap| u64::try_from(cap).ok());
    let raise = cap.is_some_and(|cap| cap < proposed);
    let mut writes = Vec::new();
    if raise {
        writes.push(patient.sysctl(SOMAXCONN, proposed));
    }
    writes.push(Write {
        netns: patient.netns(),
        target: Target::Backlog(SocketOf {
            pid: owner.pid,
            comm: owner.comm.clone(),
            inode: listener.inode,
            endpoint: listener.endpoint().to_string(),
        }),
        old: Some(now.to_string()),
        new: proposed.to_string(),
    });
    let raised = if raise { ", after raising the cap of this namespace to it" } else { "" };
    let setting = programs::backlog_setting(owner);
    let place = setting.map_or_else(
        || format!("the backlog argument of {}'s listen() call", owner.comm),
        |(place, _)| place.to_owned(),
    );
    let afterwards = setting.map_or("restart it", |(_, setting)| setting.afterwards);
    let arrivals = patient.grown("Tcp.PassiveOpens") as f64 / patient.seconds();
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Give {} (pid {}) an accept queue of {proposed} instead of {now} on {}: listen() again on \
             its own socket{raised}",
            owner.comm,
            owner.pid,
            listener.endpoint()
        ),
        writes,
        measured: vec![
            measured("longest accept queue seen", u64::from(listener.peak())),
            measured("most clients refused for the first time within one second", course.burst),
            measured("milliseconds without draining", course.pinned.as_millis() as u64),
            measured("connections accepted in the window", patient.grown("Tcp.PassiveOpens")),
        ],
        sizing: Some(format!(
            "2 x ({} waiting + {} refused at once) = {}, rounded up to {proposed}; {arrivals:.1} \
             connections per second were taken on average, so the queue drains",
            listener.peak(),
            course.burst,
            needed.saturating_mul(2)
        )),
        risk: "Connections that wait take memory, and the last of a full queue waits longest; a program \
               that stalls for long answers clients that have given up"
            .into(),
        weakens: None,
        interrupts: None,
        permanent: vec![format!(
            "The new length holds until {} restarts: set {place} to {proposed} and {afterwards} at the \
             next occasion",
            owner.comm
        )],
        left_out: left_out(patient.finding),
    })))
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Answer, Evidence, Proposal};

    use crate::cure::cures;
    use crate::{Thresholds, diagnose, sample};

    fn burst(backlog: u64, somaxconn: &str) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.ListenOverflows", 60);
        sample::count(&mut evidence, "TcpExt.ListenDrops", 60);
        let namespace = &mut evidence.namespaces[0];
        namespace.sysctls.insert(super::SOMAXCONN.into(), somaxconn.into());
        let full = (backlog + 1) as u32;
        namespace.listeners.push(sample::listener(
            backlog,
            60,
            &[(0, 0, 0), (100, full, 60), (400, 0, 60)],
        ));
        evidence
    }

    fn proposal(evidence: &Evidence) -> Proposal {
        let report = diagnose(evidence, &Thresholds::default());
        match &cures(evidence, &report, &Thresholds::default())[0].answer {
            Answer::Change(proposal) => (**proposal).clone(),
            other => panic!("{other:?}"),
        }
    }

    fn writes(evidence: &Evidence) -> Vec<(String, Option<String>, String)> {
        let writes = proposal(evidence).writes.into_iter();
        writes.map(|write| (write.target.to_string(), write.old, write.new)).collect()
    }

    #[test]
    fn the_cap_is_raised_only_where_it_binds() {
        let live = "backlog of 0.0.0.0:9000 of server (pid 77)".to_owned();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(writes(&burst(8, "4096")), [(live.clone(), some("8"), "160".into())]);
        assert_eq!(
            writes(&burst(8, "8")),
            [
                ("net.core.somaxconn".into(), some("8"), "160".into()),
                (live, some("8"), "160".into())
            ]
        );
    }

    #[test]
    fn folklore_is_named_with_its_reason() {
        let left_out = proposal(&burst(8, "4096")).left_out.join("\n");
        assert!(left_out.contains("tcp_max_syn_backlog: with SYN cookies on"), "{left_out}");
        assert!(left_out.contains("tcp_tw_reuse: it lets this host's own clients"), "{left_out}");
    }

    #[test]
    fn a_queue_that_never_drains_is_a_shortage() {
        let mut evidence = burst(8, "4096");
        evidence.namespaces[0].listeners[0].steps.pop();
        let report = diagnose(&evidence, &Thresholds::default());
        let cures = cures(&evidence, &report, &Thresholds::default());
        let Answer::Capacity(shortage) = &cures[0].answer else { panic!("{report:?}") };
        assert_eq!(shortage.resource, "time of the accepting threads of server (pid 77)");
    }
}
