//! One line on the terminal that says how it goes.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// Windows shorter than this need no progress.
const WORTH_IT: Duration = Duration::from_secs(2);

/// A line on standard error that is written over and over; silent unless that is a terminal.
#[derive(Debug)]
pub(crate) struct StatusLine {
    visible: bool,
    written: bool,
}

impl StatusLine {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self { visible: io::stderr().is_terminal(), written: false }
    }

    /// Says something else, as far as it fits.
    pub(crate) fn update(&mut self, text: &str) {
        if self.visible {
            self.written = true;
            let columns = rustix::termios::tcgetwinsize(io::stderr());
            let columns = columns.map_or(usize::MAX, |size| usize::from(size.ws_col));
            // The last column stays free: some terminals would go on in the next line.
            let text: String = text.chars().take(columns.saturating_sub(1)).collect();
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.written {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A countdown.
#[derive(Debug)]
pub(crate) struct Progress {
    line: Option<StatusLine>,
    shown: Option<u64>,
}

impl Progress {
    /// A countdown for a window of this length.
    pub(crate) fn new(window: Duration) -> Self {
        Self { line: (window > WORTH_IT).then(StatusLine::new), shown: None }
    }

    /// Says how long is left, if that changed, and how many drops were seen, if they are traced.
    pub(crate) fn update(&mut self, left: Duration, drops: Option<u64>) {
        let seconds = left.as_millis().div_ceil(1000) as u64;
        if let Some(line) = self.line.as_mut().filter(|_| self.shown != Some(seconds)) {
            self.shown = Some(seconds);
            let drops = drops.map(|drops| format!("; {drops} drops shown in detail"));
            line.update(&format!(
                "watching for {seconds} s more{} (Ctrl-C ends early)",
                drops.unwrap_or_default()
            ));
        }
    }
}
