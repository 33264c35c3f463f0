//! How statements and verdicts are written.

use whydrop_model::RuleVerdict;

use super::{IP6, attribute, be32, be64};
use crate::netlink::text;

pub(super) fn verdict_text(verdict: Option<&RuleVerdict>) -> String {
    match verdict {
        Some(RuleVerdict::Accept) => "accept".to_owned(),
        Some(RuleVerdict::Drop) => "drop".to_owned(),
        Some(RuleVerdict::Reject) => "reject".to_owned(),
        Some(RuleVerdict::Queue { number, bypass }) => {
            format!("queue num {number}{}", if *bypass { " bypass" } else { "" })
        }
        Some(RuleVerdict::Jump(chain)) => format!("jump {chain}"),
        Some(RuleVerdict::Goto(chain)) => format!("goto {chain}"),
        Some(RuleVerdict::Return) => "return".to_owned(),
        Some(RuleVerdict::Stolen) => "stolen".to_owned(),
        None => "continue".to_owned(),
    }
}

pub(super) fn limit(nest: &[u8]) -> String {
    let number = |wanted| attribute(nest, wanted).and_then(be32).unwrap_or(0);
    let rate = attribute(nest, 1).and_then(be64).unwrap_or(0);
    let unit = match attribute(nest, 2).and_then(be64).unwrap_or(0) {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        604_800 => "week".to_owned(),
        other => format!("{other} seconds"),
    };
    let over = if number(5) & 1 != 0 { "over " } else { "" };
    let (bytes, burst) = (number(4) == 1, number(3));
    let kind = if bytes { " bytes" } else { "" };
    let usual = if bytes { 0 } else { 5 };
    let burst = match burst {
        burst if burst == usual => String::new(),
        burst => format!(" burst {burst} {}", if bytes { "bytes" } else { "packets" }),
    };
    format!("limit rate {over}{rate}{kind}/{unit}{burst}")
}

pub(super) fn quota(nest: &[u8]) -> String {
    let mut bytes = attribute(nest, 1).and_then(be64).unwrap_or(0);
    let over = attribute(nest, 2).and_then(be32).unwrap_or(0) & 1 != 0;
    let mut unit = "bytes";
    for larger in ["kbytes", "mbytes"] {
        if bytes > 0 && bytes.is_multiple_of(1024) {
            (bytes, unit) = (bytes / 1024, larger);
        } else {
            break;
        }
    }
    format!("quota {}{bytes} {unit}", if over { "over " } else { "" })
}

pub(super) fn log(nest: &[u8]) -> String {
    const LEVELS: [&str; 9] =
        ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];
    let mut log = "log".to_owned();
    if let Some(prefix) = attribute(nest, 2).map(text) {
        log = format!("{log} prefix \"{prefix}\"");
    }
    if let Some(group) = attribute(nest, 1).and_then(|it| Some([*it.first()?, *it.get(1)?])) {
        log = format!("{log} group {}", u16::from_be_bytes(group));
    }
    if let Some(level) = attribute(nest, 5).and_then(be32).filter(|level| *level != 4) {
        log = format!("{log} level {}", LEVELS.get(level as usize).unwrap_or(&"?"));
    }
    log
}

/// Codes of `reject with icmpx`, of ICMP and of ICMPv6.
const ANY: [(u8, &str); 4] =
    [(0, "no-route"), (1, "port-unreachable"), (2, "host-unreachable"), (3, "admin-prohibited")];
const ICMP: [(u8, &str); 7] = [
    (0, "net-unreachable"),
    (1, "host-unreachable"),
    (2, "prot-unreachable"),
    (3, "port-unreachable"),
    (9, "net-prohibited"),
    (10, "host-prohibited"),
    (13, "admin-prohibited"),
];
const ICMP6: [(u8, &str); 4] =
    [(0, "no-route"), (1, "admin-prohibited"), (3, "addr-unreachable"), (4, "port-unreachable")];

pub(super) fn reject(family: u8, nest: &[u8]) -> String {
    let kind = attribute(nest, 1).and_then(be32).unwrap_or(0);
    let code = attribute(nest, 2).and_then(|it| it.first()).copied();
    let name = |names: &[(u8, &'static str)]| {
        names.iter().find(|it| Some(it.0) == code).map_or("?", |it| it.1)
    };
    let how = match (kind, family) {
        (1, _) => return "reject with tcp reset".to_owned(),
        (2, _) => name(&ANY),
        (_, IP6) => name(&ICMP6),
        _ => name(&ICMP),
    };
    let protocol = match (kind, family) {
        (2, _) => "icmpx",
        (_, IP6) => "icmpv6",
        _ => "icmp",
    };
    match how {
        // What `reject` alone stands for.
        "port-unreachable" => "reject".to_owned(),
        other => format!("reject with {protocol} {other}"),
    }
}
