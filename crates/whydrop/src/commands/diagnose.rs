//! `whydrop diagnose`: evidence, live or recorded, to a report.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use whydrop_model::{Class, Evidence, Report};

use crate::cli::Diagnose;
use crate::privilege::{Part, Privileges};
use crate::{config, evidence_file, failure, observe, output};

/// Runs the command.
pub(crate) fn run(options: &Diagnose) -> anyhow::Result<ExitCode> {
    let settings = config::read(options.observe.config.as_deref())?;
    let evidence = match &options.file {
        Some(path) => {
            Privileges::reduce(Part::File, []);
            evidence_file::read(path)?
        }
        None => live(options)?,
    };
    let report = whydrop_diagnose::diagnose(&evidence, &settings.thresholds);
    let mut out = output::stdout();
    options.format.write(&report, output::width(), &mut out)?;
    out.flush()?;
    // A disk that filled meanwhile costs the file, not the report.
    if let Some(path) = &options.save {
        evidence_file::write(path, &evidence)?;
    }
    Ok(exit_status(&report))
}

fn live(options: &Diagnose) -> anyhow::Result<Evidence> {
    let outputs = options.save.iter().chain(&options.observe.ready_file);
    let privileges = Privileges::reduce(Part::Everything, outputs.map(PathBuf::as_path));
    if let Some(path) = &options.save {
        evidence_file::check_writable(path)?;
    }
    observe::observe(&options.observe, options.duration, &privileges)
}

fn exit_status(report: &Report) -> ExitCode {
    if report.findings.iter().any(|finding| finding.class == Class::Fault) {
        failure::fault()
    } else {
        failure::CLEAN
    }
}
