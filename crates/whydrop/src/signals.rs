//! SIGINT, SIGTERM and the end of the terminal (SIGHUP) end a window early; they do not end the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{Timespec, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
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
        // Under nohup the end of the terminal is to do nothing.
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
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

/// Waits. A signal ends it, which a sleep of the standard library goes on after.
pub(crate) fn pause(at_most: Duration) {
    let limit = Timespec::try_from(at_most).unwrap_or_default();
    let _ = poll(&mut [], Some(&limit));
}

/// True if this process ignores a signal, by the will of whoever started it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

impl Drop for Ended {
    fn drop(&mut self) {
        for &id in &self.listening {
            unregister(id);
        }
    }
}
