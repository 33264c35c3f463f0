//! `whydrop man`: manual pages from the command line's own descriptions.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::Arguments;
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("cannot write manual pages into {}", folder.display()))?;
    output::message(&format!(
        "whydrop: manual pages in {0}; read one with `man {0}/whydrop.1`",
        folder.display()
    ));
    Ok(failure::CLEAN)
}
