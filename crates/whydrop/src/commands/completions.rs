//! `whydrop completions`: what a shell reads to complete the command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(shell: Shell) -> anyhow::Result<ExitCode> {
    // Into memory first: a reader that went away must not end this in a panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "whydrop", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(failure::CLEAN)
}
