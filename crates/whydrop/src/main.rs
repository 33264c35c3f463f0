//! whydrop: why does this Linux host drop packets, and what makes it stop?

mod cli;
mod commands;
mod config;
mod evidence_file;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod laps;
mod observe;
mod output;
mod privilege;
mod progress;
mod redact;
mod signals;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let command = match config::defaults(cli::Arguments::command(), &words) {
        Ok(command) => command,
        Err(error) => return failure::report(&error),
    };
    let named = words.get(1).and_then(|word| word.to_str());
    let named = named.filter(|name| command.find_subcommand(name).is_some()).map(str::to_owned);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| cli::Arguments::from_arg_matches(&matches));
    match parsed {
        Ok(arguments) => commands::run(arguments),
        Err(error) => failure::usage(&error, named.as_deref()),
    }
}
