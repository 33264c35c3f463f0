//! The few styles that text uses. Meaning never hangs on colour alone.

use anstyle::{AnsiColor, Style};

/// A loss that somebody has to mend.
pub const FAULT: Style = AnsiColor::Red.on_default().bold();
/// A loss by policy or by a peer, or something unsure.
pub const NOTICE: Style = AnsiColor::Yellow.on_default();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Headings.
pub const STRONG: Style = Style::new().bold();
/// Side notes.
pub const FAINT: Style = Style::new().dimmed();
