//! Ways to write a report.
//!
//! To add one: a file in `format/` with a unit struct that implements [`Format`], and two lines
//! here.

use std::io;

use whydrop_model::Report;

mod json;
pub(crate) mod text;

/// A way to write a [`Report`]. Adds no number of its own.
pub trait Format: std::fmt::Debug + Sync {
    /// Value of `--format`.
    fn name(&self) -> &'static str;

    /// One line for `--help`.
    fn help(&self) -> &'static str;

    /// Writes the report, for a terminal `width` columns wide where that matters.
    fn write(&self, report: &Report, width: usize, out: &mut dyn io::Write) -> io::Result<()>;
}

/// All formats, the default first.
pub const FORMATS: &[&dyn Format] = &[&text::Text, &json::Json];

/// The format of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}
