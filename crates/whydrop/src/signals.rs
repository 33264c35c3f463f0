//! SIGINT and SIGTERM end a window early; they do not end the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Set once a signal has asked for the end.
#[derive(Debug, Clone)]
pub(crate) struct Ended(Arc<AtomicBool>);

impl Ended {
    /// Listens from now on. A second signal of the same kind ends the program at once: whoever
    /// presses Ctrl-C twice means it.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .context("cannot listen for signals")?;
        }
        Ok(Self(flag))
    }

    /// True once a signal came.
    pub(crate) fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
