//! The collectors against the running kernel, in network namespaces made for the purpose
//! (`wdcol-*`).
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails and talks so")]

mod busy;
mod counters;
mod devices;
mod listeners;
mod netns;
mod owners;
mod presence;
mod scale;
mod sockets;
mod stack;
mod unprivileged;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// An observer holds every namespace that it finds, those of another test too, and that would be
/// taken for this test's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a test needs to run; says why if it is refused.
fn root() -> Option<MutexGuard<'static, ()>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}
