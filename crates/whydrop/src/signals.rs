//! SIGINT and SIGTERM end a window early; they do not end the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::unregister;

/// Set once a signal has asked for the end. What it listens for ends with it; until somebody listens
/// again such a signal does nothing.
#[derive(Debug)]
pub(crate) struct Ended {
    flag: Arc<AtomicBool>,
    listening: Vec<SigId>,
}

impl Ended {
    /// Listens from now on. A second signal of the same kind ends the program at once: whoever
    /// presses Ctrl-C twice means it.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let mut ended = Self { flag: Arc::new(AtomicBool::new(false)), listening: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            let flag = || Arc::clone(&ended.flag);
            let hard = signal_hook::flag::register_conditional_shutdown(signal, 130, flag());
            let soft = signal_hook::flag::register(signal, flag());
            for id in [hard, soft] {
                ended.listening.push(id.context("cannot listen for signals")?);
            }
        }
        Ok(ended)
    }

    /// True once a signal came.
    pub(crate) fn yet(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        for &id in &self.listening {
            unregister(id);
        }
    }
}
