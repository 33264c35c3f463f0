//! The screen of `whydrop top`: what is lost now, where, and why.
//!
//! [`Screen`] takes one [`Lap`] after the other, and keys, and draws itself onto whatever terminal
//! it is given. It observes nothing, knows no clock and touches no terminal mode: all that is the
//! business of its owner.

mod draw;
mod history;
mod keys;
mod rows;
mod screen;

use std::collections::BTreeMap;
use std::time::Duration;

pub use screen::{Flow, Looks, Screen};

use whydrop_model::{DropTotal, Exemplar, Report};

/// What one stretch of time showed.
#[derive(Debug, Clone)]
pub struct Lap {
    /// Its diagnosis.
    pub report: Report,
    /// What the tracer counted in it, by key.
    pub totals: Vec<DropTotal>,
    /// Drops of it in detail.
    pub exemplars: Vec<Exemplar>,
    /// Names of network namespaces, by inode.
    pub namespaces: BTreeMap<u64, String>,
    /// How much of it, at its beginning, the screen was told of as a [rest](Screen::rest).
    pub quiet: Duration,
}
