//! Matches and targets of xtables, which `iptables-nft` uses where nftables has nothing of its own:
//! named, and read only as far as they decide about a packet.

use whydrop_model::RuleVerdict;

/// True for a match that holds only below or above a rate or a number.
pub(super) fn limits(name: &str) -> bool {
    matches!(name, "limit" | "hashlimit" | "connlimit" | "quota" | "recent" | "statistic")
}

/// What a target does to a packet; `None` if the packet goes on.
pub(super) fn verdict(name: &str, info: &[u8]) -> Option<RuleVerdict> {
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    match name {
        "REJECT" => Some(RuleVerdict::Reject),
        // `struct xt_NFQ_info_v3`: number, how many, flags of which the first is to bypass. Older
        // ones are shorter.
        "NFQUEUE" => Some(RuleVerdict::Queue {
            number: half(0).unwrap_or(0),
            bypass: half(4).unwrap_or(0) & 1 != 0,
        }),
        "TARPIT" | "SYNPROXY" => Some(RuleVerdict::Stolen),
        _ => None,
    }
}
