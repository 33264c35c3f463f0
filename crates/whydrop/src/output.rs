//! Standard output and standard error: colours only for terminals, and never a panic when the
//! reader has gone.

use std::io::{self, Write};

use anstream::AutoStream;

/// Width where the terminal does not tell.
const USUAL_WIDTH: usize = 100;

/// Standard output, buffered; styles are stripped unless it is a terminal that wants them
/// (`NO_COLOR`, `CLICOLOR`, `TERM` are honoured).
pub(crate) fn stdout() -> impl Write {
    io::BufWriter::new(AutoStream::auto(io::stdout()))
}

/// Columns of the terminal on standard output.
pub(crate) fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    match columns {
        Ok(columns) if columns >= 40 => columns.min(USUAL_WIDTH + 20),
        _ => USUAL_WIDTH,
    }
}

/// One line on standard error. If nobody can read it, nobody can be told.
pub(crate) fn message(line: &str) {
    let _ = writeln!(AutoStream::auto(io::stderr()), "{line}");
}
