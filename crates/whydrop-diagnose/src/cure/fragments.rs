//! Memory for fragments that wait for the rest of their datagram.

use whydrop_model::{Answer, Proposal};

use super::{Patient, left_out, measured, rounded_up};
use crate::receive;

pub(super) fn answer(patient: &Patient<'_>) -> Option<Answer> {
    let grown = |counter: &str, timeouts: &str| {
        patient.grown(counter).saturating_sub(patient.grown(timeouts))
    };
    let families = [
        ("net.ipv4.ipfrag_high_thresh", grown("Ip.ReasmFails", "Ip.ReasmTimeout")),
        ("net.ipv6.ip6frag_high_thresh", grown("snmp6.Ip6ReasmFails", "snmp6.Ip6ReasmTimeout")),
    ];
    let (name, failed) = families.into_iter().max_by_key(|(_, failed)| *failed)?;
    let now = patient.namespace.sysctl(name).and_then(|value| u64::try_from(value).ok())?;
    let charged = receive::truesize(receive::USUAL_LENGTH);
    // The limit may already be as large as its type has room for.
    let needed = now.saturating_add(failed.saturating_mul(charged));
    let proposed = rounded_up(needed.saturating_mul(2));
    Some(Answer::Change(Box::new(Proposal {
        summary: format!("Let fragments take {proposed} bytes of memory instead of {now} ({name})"),
        writes: vec![patient.sysctl(name, proposed)],
        measured: vec![
            measured("bytes allowed", now),
            measured("fragments refused for want of memory", failed),
            measured("bytes charged for a full-sized fragment", charged),
        ],
        sizing: Some(format!(
            "2 x ({now} + {failed} fragments x {charged} bytes) = {}, rounded up to {proposed}",
            needed.saturating_mul(2)
        )),
        risk: "Anyone who can send fragments can fill this memory".into(),
        weakens: None,
        interrupts: None,
        permanent: vec![
            "Fragments are the deeper fault: a smaller datagram (EDNS 1232, NFS over TCP) or the right MTU \
             needs no reassembly"
                .into(),
        ],
        left_out: left_out(patient.finding),
    })))
}
