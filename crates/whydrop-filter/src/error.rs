//! Why an expression is refused: where, what, and what to write instead.

use std::fmt;
use std::ops::Range;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Byte offset of what is wrong.
    position: usize,
    /// The words that are wrong, as they were written; empty at the end of the expression.
    found: String,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// Something wrong with these bytes of the expression.
    pub(crate) fn new(text: &str, place: Range<usize>, message: impl Into<String>) -> Self {
        let found = text.get(place.clone()).unwrap_or_default().to_owned();
        Self { position: place.start, found, message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Byte offset in the expression of what is wrong; its length if something is missing at the
    /// end.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What to write instead, if that is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {}", self.message, self.position + 1)?;
        if self.found.is_empty() {
            f.write_str(" (the end)")?;
        } else {
            write!(f, " ({})", self.found)?;
        }
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
