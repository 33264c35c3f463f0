//! Receive queues as a table, in the manner of `ss`.

use std::io::{self, Write};

use whydrop_model::{NotChecked, Queue, QueueOwner, Queues, SocketProtocol};

use crate::safe::Safe;
use crate::style::{FAINT, FAULT, NOTICE, STRONG};

/// Above so many percent of its limit a queue is worth a look before it loses anything.
const NEARLY_FULL: u64 = 80;

const HEADINGS: [&str; 9] =
    ["netid", "local", "queued", "peak", "limit", "full", "drops", "bound by", "owner"];

/// Columns of numbers, which end where their heading ends.
const NUMBERS: std::ops::Range<usize> = 2..7;

/// Writes one line per queue. Queues that lost something, or nearly did, are marked in words and in
/// colour.
pub fn write(queues: &Queues, out: &mut dyn Write) -> io::Result<()> {
    let several = queues.queues.iter().any(|queue| queue.netns != queues.queues[0].netns);
    let rows: Vec<[String; 9]> = queues.queues.iter().map(|queue| row(queue, several)).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let headings = HEADINGS.map(str::to_owned);
    writeln!(out, "{STRONG}{}{STRONG:#}", line(&headings, &widths))?;
    for (queue, row) in queues.queues.iter().zip(&rows) {
        let text = line(row, &widths);
        match (queue.drops, queue.percent()) {
            (1.., _) => writeln!(out, "{FAULT}{text}  LOSES{FAULT:#}")?,
            (0, Some(NEARLY_FULL..)) => writeln!(out, "{NOTICE}{text}  nearly full{NOTICE:#}")?,
            _ => writeln!(out, "{text}")?,
        }
    }
    for NotChecked { what, why } in &queues.not_checked {
        writeln!(out, "{FAINT}not checked: {}: {}{FAINT:#}", Safe(what), Safe(why))?;
    }
    Ok(())
}

fn line(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());
        let (before, after) =
            if NUMBERS.contains(&at) { (padding.as_str(), "") } else { ("", padding.as_str()) };
        text.push_str(before);
        text.push_str(cell);
        text.push_str(after);
        text.push_str("  ");
    }
    text.truncate(text.trim_end().len());
    text
}

fn row(queue: &Queue, with_netns: bool) -> [String; 9] {
    let known = |number: Option<u64>| number.map_or_else(|| "-".into(), |it| it.to_string());
    let mut local = Safe(&queue.local).to_string();
    if with_netns {
        let netns = match (&queue.netns.name, queue.netns.inode) {
            (Some(name), _) => Safe(name).to_string(),
            (None, Some(inode)) => format!("net:[{inode}]"),
            (None, None) => "?".into(),
        };
        local = format!("{local} in {netns}");
    }
    // Without a look in between, the most seen is only what is there now.
    let peak = if queue.looks > 0 { queue.peak.to_string() } else { "-".into() };
    [
        kind(queue.protocol).into(),
        local,
        queue.queued.to_string(),
        peak,
        known(queue.limit),
        queue.percent().map_or_else(|| "-".into(), |percent| format!("{percent}%")),
        queue.drops.to_string(),
        Safe(queue.bound_by.as_deref().unwrap_or("-")).to_string(),
        queue.owner.as_ref().map_or_else(|| "-".into(), owner),
    ]
}

fn kind(protocol: SocketProtocol) -> &'static str {
    match protocol {
        SocketProtocol::Tcp => "tcp",
        SocketProtocol::Udp => "udp",
        SocketProtocol::Raw => "raw",
        SocketProtocol::Packet => "packet",
        SocketProtocol::Unix => "unix",
        SocketProtocol::Netlink => "netlink",
    }
}

fn owner(owner: &QueueOwner) -> String {
    let others = match owner.others {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let place = owner
        .pod
        .as_ref()
        .and_then(|pod| pod.name.as_deref())
        .or(owner.container.as_deref())
        .or(owner.unit.as_deref())
        .map(|place| format!(", {}", Safe(place)));
    format!("{} (pid {}){others}{}", Safe(&owner.comm), owner.pid, place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use whydrop_model::{NetnsRef, ReportWindow, SOCKETS_SCHEMA};

    use super::*;

    fn queue(local: &str, peak: u64, drops: u64) -> Queue {
        Queue {
            netns: NetnsRef { inode: Some(1), name: None },
            protocol: SocketProtocol::Tcp,
            listening: true,
            local: local.into(),
            queued: 1,
            peak,
            looks: 9,
            limit: Some(10),
            bound_by: Some("net.core.somaxconn".into()),
            drops,
            drops_ever: drops,
            owner: Some(QueueOwner {
                pid: 7,
                comm: "a\x1b[2J".into(),
                unit: Some("web.service".into()),
                container: None,
                pod: None,
                others: 2,
            }),
        }
    }

    fn written(queues: Vec<Queue>) -> String {
        let window = ReportWindow { start: String::new(), seconds: 2.0 };
        let why = NotChecked { what: "x".into(), why: "y".into() };
        let queues =
            Queues { schema: SOCKETS_SCHEMA.into(), window, queues, not_checked: vec![why] };
        let mut out = Vec::new();
        write(&queues, &mut out).expect("written");
        anstream::adapter::strip_str(&String::from_utf8(out).expect("UTF-8")).to_string()
    }

    #[test]
    fn a_table_names_what_loses_and_what_nearly_does() {
        let text = written(vec![queue("1:80", 11, 3), queue("1:81", 8, 0), queue("1:8080", 1, 0)]);
        let expected = r"netid  local   queued  peak  limit  full  drops  bound by            owner
tcp    1:80         1    11     10  110%      3  net.core.somaxconn  a\u{1b}[2J (pid 7) and 2 more, web.service  LOSES
tcp    1:81         1     8     10   80%      0  net.core.somaxconn  a\u{1b}[2J (pid 7) and 2 more, web.service  nearly full
tcp    1:8080       1     1     10   10%      0  net.core.somaxconn  a\u{1b}[2J (pid 7) and 2 more, web.service
not checked: x: y
";
        assert_eq!(text, expected);
    }

    #[test]
    fn namespaces_are_named_where_there_are_several() {
        let mut other = queue("1:81", 0, 0);
        other.netns = NetnsRef { inode: Some(2), name: Some("blue".into()) };
        let text = written(vec![queue("1:80", 0, 0), other]);
        assert!(text.contains("1:80 in net:[1] ") && text.contains("1:81 in blue "), "{text}");
        assert!(written(Vec::new()).starts_with("netid"));
    }
}
