//! Numbers that are judgement and not kernel constants.

use std::time::Duration;

/// Where a rule has to draw a line that the kernel does not draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// A queue that stayed full at least this long is served too slowly; a shorter time is a burst.
    /// Default one second: a refused client tries again after one second, so a queue that is still
    /// full then refuses it again.
    pub pinned: Duration,
    /// Share of SYN cookies that came back as connections above which the senders are real clients
    /// in a burst, and below which they are a flood. Default one half.
    pub cookies_answered: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { pinned: Duration::from_secs(1), cookies_answered: 0.5 }
    }
}
