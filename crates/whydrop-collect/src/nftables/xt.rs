//! Matches and targets of xtables, which `iptables-nft` uses where nftables has nothing of its own:
//! named, and read only as far as they decide about a packet.

use whydrop_model::RuleVerdict;

/// True for a match that holds only below or above a rate or a number.
pub(super) fn limits(name: &str) -> bool {
    matches!(name, "limit" | "hashlimit" | "connlimit" | "quota" | "recent" | "statistic")
}

/// States as `XT_CONNTRACK_STATE_BIT` numbers them.
const STATES: [(u16, &str); 5] = [
    (1 << 0, "invalid"),
    (1 << 1, "established"),
    (1 << 2, "related"),
    (1 << 3, "new"),
    (1 << 8, "untracked"),
];

/// A match in the words of `nft`; `None` if it says more than that.
pub(super) fn match_text(name: &str, info: &[u8]) -> Option<String> {
    /// `XT_CONNTRACK_STATE`, alone.
    const STATE: u16 = 1;
    /// `XT_CONNTRACK_STATE_ALIAS`: it was written as `-m state`.
    const ALIAS: u16 = 1 << 13;
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    // `struct xt_conntrack_mtinfo3` of `include/uapi/linux/netfilter/xt_conntrack.h`, since 2.6.38:
    // eight addresses, two times, five ports, then which of them matter and which are inverted.
    let (states, inverted) = match name {
        "conntrack" if half(146)? & !ALIAS == STATE => (half(150)?, half(148)? & STATE != 0),
        "state" => (half(0)?, false),
        _ => return None,
    };
    let known = STATES.iter().fold(0, |all, (bit, _)| all | bit);
    if states == 0 || states & !known != 0 {
        return None;
    }
    let names: Vec<_> =
        STATES.iter().filter(|(bit, _)| states & bit != 0).map(|(_, name)| *name).collect();
    Some(format!("ct state {}{}", if inverted { "!= " } else { "" }, names.join(",")))
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

#[cfg(test)]
mod tests {
    use super::match_text;

    #[test]
    fn states_are_read_and_whatever_else_is_asked_is_not() {
        let info = |flags: u16, inverted: u16, states: u16| {
            let mut info = vec![0; 156];
            info[146..148].copy_from_slice(&flags.to_ne_bytes());
            info[148..150].copy_from_slice(&inverted.to_ne_bytes());
            info[150..152].copy_from_slice(&states.to_ne_bytes());
            match_text("conntrack", &info)
        };
        assert_eq!(info(1, 0, 1).as_deref(), Some("ct state invalid"));
        assert_eq!(info(1, 0, 6).as_deref(), Some("ct state established,related"));
        assert_eq!(info(1, 1, 6).as_deref(), Some("ct state != established,related"));
        assert_eq!(info(1 | 1 << 13, 0, 0x100).as_deref(), Some("ct state untracked"));
        assert_eq!(info(3, 0, 1), None, "another condition beside it");
        assert_eq!(info(1, 0, 0x81), None, "a state without a name here");
        assert_eq!(match_text("conntrack", &[0; 20]), None, "of another version");
        assert_eq!(match_text("state", &8_u32.to_ne_bytes()).as_deref(), Some("ct state new"));
        assert_eq!(match_text("owner", &[0; 200]), None);
    }
}
