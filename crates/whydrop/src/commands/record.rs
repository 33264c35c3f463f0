//! `whydrop record`: evidence into a file.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Record;
use crate::privilege::{Part, Privileges};
use crate::{evidence_file, failure, observe, output, redact};

/// Runs the command.
pub(crate) fn run(options: &Record) -> anyhow::Result<ExitCode> {
    let outputs = options.observe.ready_file.iter().chain([&options.output]);
    let privileges = Privileges::reduce(Part::Everything, outputs.map(PathBuf::as_path));
    evidence_file::check_writable(&options.output)?;
    let evidence = observe::observe(&options.observe, options.duration, &privileges)?;
    let evidence = if options.redact { redact::redact(&evidence)? } else { evidence };
    evidence_file::write(&options.output, &evidence)?;
    let shown = options.output.display();
    output::message(&format!(
        "whydrop: {:.1} s of evidence in {shown}; `whydrop diagnose {shown}` reports on it",
        evidence.window.seconds
    ));
    Ok(failure::CLEAN)
}
