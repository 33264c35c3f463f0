//! `whydrop watch`: drops as they happen, counted, or into a capture file; or those of a file.

use std::process::ExitCode;

use anyhow::bail;
use whydrop_filter::Program;

use crate::cli::Watch;
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
        let screen = Screen::new(options, conditions)?;
        replay::run(path, options, filter.as_ref(), screen)?;
        return Ok(failure::CLEAN);
    }
    conditions.check_reasons(&options.kernel_btf)?;
    live::run(options, filter.as_ref(), conditions)?;
    Ok(failure::CLEAN)
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
