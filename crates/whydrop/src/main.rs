//! whydrop: why does this Linux host drop packets, and what makes it stop?

mod cli;
mod commands;
mod config;
mod evidence_file;
mod failure;
mod laps;
mod observe;
mod output;
mod progress;
mod redact;
mod signals;
mod trace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => commands::run(arguments),
        Err(error) => failure::usage(&error),
    }
}
