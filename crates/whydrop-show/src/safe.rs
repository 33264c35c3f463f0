//! Text from outside, made harmless for a terminal.

use std::fmt::{self, Write as _};

/// Displays text with control characters (and other invisible direction or format characters)
/// escaped as `\u{..}`, so that a hostile process or device name cannot move the cursor, change
/// colours or forge lines.
#[derive(Debug, Clone, Copy)]
pub struct Safe<'a>(pub &'a str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || is_invisible(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Bidirectional overrides, zero-width characters and line separators.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::Safe;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(Safe("eth0").to_string(), "eth0");
        assert_eq!(Safe("a\x1b[31mb\n").to_string(), r"a\u{1b}[31mb\u{a}");
        assert_eq!(Safe("\u{202e}live").to_string(), r"\u{202e}live");
        assert_eq!(Safe("größer").to_string(), "größer");
    }
}
