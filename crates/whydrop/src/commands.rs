//! One file per command, and the way from the command line to them.

mod changes;
mod completions;
mod diagnose;
mod explain;
mod fix;
mod kernel;
mod lab;
mod man;
mod reasons;
mod record;
mod sockets;
mod top;
mod undo;
pub(crate) mod watch;

use std::process::ExitCode;

use crate::cli::{Arguments, Command};
use crate::failure;

/// Runs what was asked for and gives the exit status.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        None => diagnose::run(&arguments.diagnose),
        Some(Command::Diagnose(options)) => diagnose::run(&options),
        Some(Command::Fix(options)) => fix::run(&options),
        Some(Command::Changes(options)) => changes::run(&options),
        Some(Command::Undo(options)) => undo::run(&options),
        Some(Command::Watch(options)) => watch::run(&options),
        Some(Command::Record(options)) => record::run(&options),
        Some(Command::Top(options)) => top::run(&options),
        Some(Command::Sockets(options)) => sockets::run(&options),
        Some(Command::Explain(options)) => explain::run(&options),
        Some(Command::Reasons(options)) => reasons::run(&options),
        Some(Command::Kernel(options)) => kernel::run(&options),
        Some(Command::Lab(options)) => lab::run(&options.command),
        Some(Command::Completions { shell }) => completions::run(shell),
        Some(Command::Man { folder }) => man::run(&folder),
        Some(Command::LabActor(options)) => return lab::act(&options.arguments),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}
