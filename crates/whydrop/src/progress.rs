//! One line on the terminal that says how long it still takes.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// Windows shorter than this need no progress.
const WORTH_IT: Duration = Duration::from_secs(2);

/// A countdown on standard error; silent unless that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    visible: bool,
    shown: Option<u64>,
}

impl Progress {
    /// A countdown for a window of this length.
    pub(crate) fn new(window: Duration) -> Self {
        Self { visible: window > WORTH_IT && io::stderr().is_terminal(), shown: None }
    }

    /// Says how long is left, if that changed.
    pub(crate) fn update(&mut self, left: Duration, drops: u64) {
        let seconds = left.as_millis().div_ceil(1000) as u64;
        if self.visible && self.shown != Some(seconds) {
            self.shown = Some(seconds);
            let _ = write!(
                io::stderr(),
                "\rwatching for {seconds} s more; {drops} drops shown in detail (Ctrl-C ends early) "
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
