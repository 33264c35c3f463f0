//! `whydrop record`: evidence into a file.

use std::process::ExitCode;

use crate::cli::Record;
use crate::{evidence_file, failure, observe, output, redact};

/// Runs the command.
pub(crate) fn run(options: &Record) -> anyhow::Result<ExitCode> {
    evidence_file::check_writable(&options.output)?;
    let evidence = observe::observe(&options.observe, options.duration)?;
    let evidence = if options.redact { redact::redact(&evidence)? } else { evidence };
    evidence_file::write(&options.output, &evidence)?;
    let shown = options.output.display();
    output::message(&format!(
        "whydrop: {:.1} s of evidence in {shown}; `whydrop diagnose {shown}` reports on it",
        evidence.window.seconds
    ));
    Ok(failure::CLEAN)
}
