//! `whydrop watch`: drops as they happen, counted, or into a capture file; or those of a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use whydrop_filter::Program;

use crate::cli::Watch;
use crate::privilege::{Part, Privileges};
use crate::{failure, output};

mod conditions;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod live;
mod names;
mod replay;
mod screen;
mod surroundings;

use conditions::Conditions;
use screen::Screen;

/// Runs the command.
pub(crate) fn run(options: &Watch) -> anyhow::Result<ExitCode> {
    let filter = filter(options)?;
    let conditions = Conditions::new(&options.only)?;
    if let Some(path) = &options.read {
        Privileges::reduce(Part::File, outputs(options));
        let screen = Screen::new(options, conditions)?;
        replay::run(path, options, filter.as_ref(), screen)?;
        return Ok(failure::CLEAN);
    }
    let part = if options.quick { Part::Drops } else { Part::Everything };
    let privileges = Privileges::reduce(part, outputs(options));
    conditions.check_reasons(&options.kernel_btf)?;
    live::run(options, filter.as_ref(), conditions, &privileges)?;
    Ok(failure::CLEAN)
}

/// The files that it will write.
fn outputs(options: &Watch) -> impl Iterator<Item = &Path> {
    let files = options.write.iter().chain(&options.flame).chain(&options.ready_file);
    files.map(PathBuf::as_path).filter(|path| path.as_os_str() != "-")
}

/// The filter in the last arguments; `None` without one.
fn filter(options: &Watch) -> anyhow::Result<Option<Program>> {
    let expression = options.filter.join(" ");
    if expression.trim().is_empty() {
        return Ok(None);
    }
    match whydrop_filter::compile(&expression) {
        Ok(program) => Ok(Some(program)),
        Err(error) => bail!("filter `{expression}`: {error}"),
    }
}

/// So many drops of class benign, in words.
fn benign(number: u64) -> String {
    format!("{number} benign drop{}", if number == 1 { "" } else { "s" })
}

/// Says on standard error what was not shown.
fn tell(line: &str) {
    output::message(&format!("whydrop: {line}"));
}
