//! The hand of whydrop: makes a change that a diagnosis proposed, and takes it back.
//!
//! The only crate that changes a host. Every change is written to a [`Journal`] on disk before
//! anything is touched, so that [`Changes::undo`] can restore what was there whatever happens in
//! between, the end of this process included. Nothing is written that was not read first.
//!
//! This crate decides nothing: what to change comes from the diagnosis, whether to keep it from its
//! caller.

mod change;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod journal;
mod persist;
mod record;
mod socket;
mod target;
mod undo;

pub use change::{Changes, Planned, Step, plan};
pub use error::Error;
pub use journal::{DEFAULT_JOURNAL, Journal};
pub use persist::{Conflict, Persistent, persistent};
pub use record::{Record, RecordedFile, RecordedWrite, State};
pub use undo::{Left, Undone};
