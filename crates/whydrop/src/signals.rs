//! SIGINT, SIGTERM and the end of the terminal (SIGHUP) end a window early; they do not end the program.
//! And waiting, which a signal ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::low_level::unregister;

const UNHEARD: &str = "cannot listen for signals";

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
        // Under nohup the end of the terminal is to do nothing.
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        Self::listen_to([SIGINT, SIGTERM].into_iter().chain(hangup))
    }

    /// Likewise for what is of use in a terminal alone. The end of that ends the program on the spot, also
    /// under nohup: much that would tidy up a terminal cannot bear that there is none.
    pub(crate) fn listen_in_terminal() -> anyhow::Result<Self> {
        let mut ended = Self::listen_to([SIGINT, SIGTERM])?;
        let always = Arc::new(AtomicBool::new(true));
        let hard = register_conditional_shutdown(SIGHUP, 128 + SIGHUP, always);
        ended.listening.push(hard.context(UNHEARD)?);
        Ok(ended)
    }

    fn listen_to(signals: impl IntoIterator<Item = i32>) -> anyhow::Result<Self> {
        let mut ended = Self { flag: Arc::new(AtomicBool::new(false)), listening: Vec::new() };
        for signal in signals {
            let flag = || Arc::clone(&ended.flag);
            let hard = register_conditional_shutdown(signal, 130, flag());
            let soft = signal_hook::flag::register(signal, flag());
            for id in [hard, soft] {
                ended.listening.push(id.context(UNHEARD)?);
            }
        }
        Ok(ended)
    }

    /// True once a signal came.
    pub(crate) fn yet(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// Waits until one of these can be read. A signal ends it, too, which a sleep of the standard library
/// goes on after. False if one of them will never be, because its other end is gone.
pub(crate) fn pause(at_most: Duration, until: &[BorrowedFd<'_>]) -> bool {
    let limit = Timespec::try_from(at_most).unwrap_or_default();
    let sources = until.iter().copied();
    let mut waiting: Vec<PollFd<'_>> =
        sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
    let _ = poll(&mut waiting, Some(&limit));
    !waiting.iter().any(|source| source.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Ends the wait of another thread: can be read once it has rung, until it is hushed.
#[derive(Debug, Clone)]
pub(crate) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags).context("cannot make an eventfd")?)))
    }

    pub(crate) fn ring(&self) {
        // One that is refused because it rang 2^64 times unheard rings still.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn hush(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
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
