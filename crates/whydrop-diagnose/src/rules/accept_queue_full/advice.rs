//! What to change when an accept queue is full, and what is often changed in vain.

use whydrop_model::{Namespace, Remedy};

use super::{Refusals, SOMAXCONN, Variant};
use crate::{command, listen, programs};

/// What must be edited.
pub(super) fn object(refusals: &Refusals<'_>) -> String {
    let endpoint = refusals.listener.endpoint();
    match refusals.variant {
        Variant::SomaxconnCap => format!("net.core.somaxconn (for listener {endpoint})"),
        Variant::StaleCap | Variant::AppBacklog => format!("listen() backlog of {endpoint}"),
        Variant::SlowAccept | Variant::Stopped => format!("program that accepts on {endpoint}"),
    }
}

/// One sentence that names the thing to change.
pub(super) fn summary(refusals: &Refusals<'_>) -> String {
    let owner = owner(refusals);
    let endpoint = refusals.listener.endpoint();
    let backlog = refusals.listener.backlog.after;
    let proposed = proposed(refusals);
    match refusals.variant {
        Variant::Stopped => format!(
            "{owner} is stopped and accepts nothing on {endpoint}; its accept queue (backlog \
             {backlog}) is full"
        ),
        Variant::SlowAccept => format!(
            "{owner} accepts too slowly on {endpoint}: its accept queue (backlog {backlog}) stayed \
             full for {:.1} s",
            refusals.course.pinned.as_secs_f64()
        ),
        Variant::SomaxconnCap => format!(
            "net.core.somaxconn caps the accept queue of {owner} on {endpoint} at {backlog}; bursts \
             need {proposed}"
        ),
        Variant::StaleCap => format!(
            "{owner} still listens on {endpoint} with backlog {backlog}, the cap of the time it \
             called listen(); it has to listen again"
        ),
        Variant::AppBacklog => format!(
            "{owner} asked for a backlog of only {backlog} on {endpoint}; bursts need {proposed}"
        ),
    }
}

/// The cure, with what would not help.
pub(super) fn remedies(refusals: &Refusals<'_>) -> Vec<Remedy> {
    let (summary, commands) = match refusals.variant {
        Variant::Stopped => resume(refusals),
        Variant::SlowAccept => accept_faster(refusals),
        Variant::SomaxconnCap => raise_somaxconn(refusals),
        Variant::StaleCap => listen_again(refusals),
        Variant::AppBacklog => raise_backlog(refusals),
    };
    vec![Remedy { summary, commands, useless: useless(refusals) }]
}

/// For refusals that no listener shows.
pub(super) fn look_again(namespace: &Namespace) -> Remedy {
    Remedy {
        summary: "Run again while the service listens, as root, to see which listener refuses"
            .into(),
        commands: command::within(namespace, "ss -ltnmp").into_iter().collect(),
        useless: Vec::new(),
    }
}

fn owner(refusals: &Refusals<'_>) -> String {
    match refusals.listener.owners.first() {
        Some(process) => format!("{} (pid {})", process.comm, process.pid),
        None => "the program (not visible to this user)".into(),
    }
}

fn proposed(refusals: &Refusals<'_>) -> u64 {
    let needed = listen::needed_backlog(refusals.listener, &refusals.course);
    listen::proposed_backlog(needed).max(refusals.listener.backlog.after)
}

pub(super) fn somaxconn(refusals: &Refusals<'_>) -> Option<u64> {
    refusals.namespace.sysctl(SOMAXCONN).and_then(|cap| u64::try_from(cap).ok())
}

fn look(refusals: &Refusals<'_>) -> Option<String> {
    let port = refusals.listener.port;
    command::within(refusals.namespace, &format!("ss -ltnmp 'sport = :{port}'"))
}

fn raise_cap(refusals: &Refusals<'_>, to: u64) -> Option<String> {
    command::within(refusals.namespace, &format!("sysctl -w net.core.somaxconn={to}"))
}

fn measured(refusals: &Refusals<'_>) -> String {
    format!(
        "twice the longest queue seen ({}) plus the most clients refused at once ({})",
        refusals.listener.peak(),
        refusals.course.burst
    )
}

fn raise_somaxconn(refusals: &Refusals<'_>) -> (String, Vec<String>) {
    let proposed = proposed(refusals);
    let summary = format!(
        "Raise net.core.somaxconn to {proposed} in this namespace ({}), then let {} call listen() \
         again (restart it; many reload): a listener keeps the cap of the moment it called listen()",
        measured(refusals),
        owner(refusals)
    );
    (summary, raise_cap(refusals, proposed).into_iter().chain(look(refusals)).collect())
}

fn raise_backlog(refusals: &Refusals<'_>) -> (String, Vec<String>) {
    let proposed = proposed(refusals);
    let setting = refusals.listener.owners.iter().find_map(programs::backlog_setting);
    let place = setting.map_or("the backlog argument of its listen() call", |(place, _)| place);
    let cap = somaxconn(refusals).filter(|cap| *cap < proposed);
    let also = if cap.is_some() { " and net.core.somaxconn with it" } else { "" };
    let summary = format!(
        "Raise {place} to {proposed}{also} ({}), then let {} listen again",
        measured(refusals),
        owner(refusals)
    );
    let raise = cap.and_then(|_| raise_cap(refusals, proposed));
    (summary, raise.into_iter().chain(look(refusals)).collect())
}

fn listen_again(refusals: &Refusals<'_>) -> (String, Vec<String>) {
    let cap = somaxconn(refusals);
    let mut owners = refusals.listener.owners.iter();
    let asks = owners.find_map(|owner| programs::usual_backlog(owner, cap)).unwrap_or(0);
    let summary = format!(
        "Restart {}: it usually asks for {asks}, and net.core.somaxconn now allows it; nothing else \
         has to change",
        owner(refusals)
    );
    (summary, look(refusals).into_iter().collect())
}

fn accept_faster(refusals: &Refusals<'_>) -> (String, Vec<String>) {
    let summary = format!(
        "Make {} accept faster: look for a blocked or single accepting thread, the open-files limit \
         and CPU throttling. A larger backlog only turns refusals into waiting",
        owner(refusals)
    );
    let commands = refusals.listener.owners.first().map(|process| {
        let pid = process.pid;
        vec![
            format!("grep -E '^(State|Threads|.*ctxt_switches)' /proc/{pid}/status"),
            format!("grep 'open files' /proc/{pid}/limits; ls /proc/{pid}/fd | wc -l"),
        ]
    });
    (summary, commands.unwrap_or_default())
}

fn resume(refusals: &Refusals<'_>) -> (String, Vec<String>) {
    let pid = refusals.listener.owners.first().map_or(0, |process| process.pid);
    let summary = format!(
        "Let {} run again (or end it, so that clients are refused at once and can go elsewhere); \
         find out who stopped it: a debugger, SIGSTOP, job control",
        owner(refusals)
    );
    (summary, vec![format!("kill -CONT {pid}")])
}

/// The usual advice that would change nothing here, with the reason.
fn useless(refusals: &Refusals<'_>) -> Vec<String> {
    let backlog = refusals.listener.backlog.after;
    let mut useless = Vec::new();
    match refusals.variant {
        Variant::SomaxconnCap => useless.push(
            "net.core.somaxconn without a new listen(): the queue keeps the length it got then".into(),
        ),
        Variant::Stopped | Variant::SlowAccept => useless.push(
            "net.core.somaxconn or a larger backlog: a longer queue in front of a program that does \
             not take from it fills as well"
                .into(),
        ),
        Variant::StaleCap | Variant::AppBacklog => {
            if let Some(cap) = somaxconn(refusals).filter(|cap| *cap > backlog) {
                useless.push(format!(
                    "net.core.somaxconn alone: it already allows {cap}, the program asked for less"
                ));
            }
        }
    }
    if refusals.namespace.sysctl("net.ipv4.tcp_syncookies").is_some_and(|on| on > 0) {
        useless.push(
            "net.ipv4.tcp_max_syn_backlog: with SYN cookies on it limits nothing; the SYN queue is not \
             what is full"
                .into(),
        );
    }
    useless.push(
        "net.ipv4.tcp_tw_reuse: it lets this host's own clients reuse ports and never touches a \
         listener"
            .into(),
    );
    useless
}
