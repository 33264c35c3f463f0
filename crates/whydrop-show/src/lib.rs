//! How whydrop says what it found.
//!
//! A [`Format`](format::Format) turns a report into bytes and adds no number of its own. Text is
//! written with ANSI styles; whoever owns the stream strips them where they are not wanted.
//! Nothing that came from outside (names of devices, processes, namespaces) reaches a terminal
//! unescaped.

pub mod cures;
pub mod drops;
pub mod format;
pub mod pcapng;
pub mod queues;
mod safe;
pub mod stacks;
pub mod style;

#[cfg(test)]
mod fixture;

pub use safe::Safe;
