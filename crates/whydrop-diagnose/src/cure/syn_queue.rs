//! SYN cookies for a listener whose half-open connections have no room left.

use whydrop_model::{Answer, Proposal};

use super::{Patient, left_out, measured};

pub(super) fn answer(patient: &Patient<'_>) -> Option<Answer> {
    const COOKIES: &str = "net.ipv4.tcp_syncookies";
    if patient.namespace.sysctl(COOKIES) != Some(0) {
        return None;
    }
    let half_open =
        patient.namespace.listeners.iter().filter_map(|one| one.half_open_peak).max().unwrap_or(0);
    Some(Answer::Change(Box::new(Proposal {
        summary: "Switch SYN cookies on: a full SYN queue then answers with a cookie and refuses nobody"
            .into(),
        writes: vec![patient.sysctl(COOKIES, 1)],
        measured: vec![
            measured("most half-open connections seen at once", u64::from(half_open)),
            measured("SYNs refused", patient.finding.packets),
        ],
        sizing: None,
        risk: "A connection made from a cookie has no window scaling and no SACK unless both sides use TCP \
               timestamps"
            .into(),
        weakens: None,
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}
