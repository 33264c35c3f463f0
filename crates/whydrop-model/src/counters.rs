//! A kernel counter, read at both ends of the observed window.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters by the kernel's own name, grouped as the kernel groups them: `TcpExt.ListenOverflows`,
/// `Udp.RcvbufErrors`, `rx_missed_errors`.
pub type Counters = BTreeMap<String, Pair>;

/// More than any host counts, of packets or bytes, in a window: 72 petabytes.
pub const MOST: u64 = 1 << 56;

/// One counter's value at the start and at the end of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Value when the window opened; zero for an object born inside the window.
    pub before: u64,
    /// Value when the window closed, or when the object was last seen.
    pub after: u64,
}

impl Pair {
    /// Growth within the window. A counter that went backwards was reset (or the object replaced):
    /// what it shows now is all that can be claimed. At most [`MOST`], which no host reaches, so
    /// that sums of growth do not overflow, whatever a file claims.
    #[must_use]
    pub fn delta(self) -> u64 {
        self.after.checked_sub(self.before).unwrap_or(self.after).min(MOST)
    }

    /// Growth of a counter that the kernel keeps in 32 bits and lets wrap (`softnet_stat`,
    /// `sk_drops`).
    #[must_use]
    pub fn delta32(self) -> u64 {
        u64::from((self.after as u32).wrapping_sub(self.before as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Pair};

    #[test]
    fn growth_reset_and_wrap() {
        assert_eq!(Pair { before: 3, after: 10 }.delta(), 7);
        assert_eq!(Pair { before: 10, after: 4 }.delta(), 4);
        assert_eq!(Pair { before: 0, after: u64::MAX }.delta(), MOST);
        let wrapped = Pair { before: u64::from(u32::MAX) - 1, after: 3 };
        assert_eq!(wrapped.delta32(), 5);
    }
}
