//! Waiting for a condition: by asking again, within a limit, and not after the user said stop.
//!
//! Nothing in the lab sleeps in the hope that something has happened meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::LabError;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Set when the user wants the run to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop flag that SIGINT, SIGTERM and SIGHUP set from now on.
    pub(crate) fn on_signals() -> io::Result<Self> {
        Self::on(&[SIGINT, SIGTERM, SIGHUP])
    }

    /// One that only SIGTERM and SIGHUP set: SIGINT is caught and left to somebody else.
    pub(crate) fn on_signals_but_interrupts() -> io::Result<Self> {
        signal_hook::flag::register(SIGINT, Arc::default())?;
        Self::on(&[SIGTERM, SIGHUP])
    }

    fn on(signals: &[i32]) -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in signals {
            signal_hook::flag::register(*signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Sets it.
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// One that is never set.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Asks `look` until it gives a value, fails, `limit` has passed, or the user says stop.
    pub(crate) fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut() -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            // Read before looking: a value that is there at the deadline still counts.
            let late = Instant::now() >= deadline;
            if self.0.load(Ordering::Relaxed) {
                return Err(LabError::Interrupted);
            }
            if let Some(value) = look()? {
                return Ok(value);
            }
            if late {
                return Err(LabError::TimedOut { what: what.to_owned(), limit });
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_appears() {
        let mut looks = 0;
        let got = Stop::never().until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn gives_up_at_the_limit() {
        let got = Stop::never().until(Duration::from_millis(20), "a miracle", || Ok(None::<()>));
        assert_eq!(got.unwrap_err().to_string(), "gave up after 0.02 s: a miracle");
    }

    #[test]
    fn stops_when_told() {
        let stop = Stop(Arc::new(AtomicBool::new(true)));
        let got = stop.until(Duration::from_secs(5), "x", || Ok(Some(1)));
        assert!(matches!(got, Err(LabError::Interrupted)));
    }
}
