//! `whydrop lab`: reproductions of packet loss.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use whydrop_lab::{LabError, Outcome, Runner, ScenarioInfo};
use whydrop_show::style::{FAINT, STRONG};

use crate::cli::{LabCommand, Plain};
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(command: &LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::List { format } => list(*format),
        LabCommand::Run { names, all, remedy, format } => {
            let scenarios = whydrop_lab::list()?;
            let names: Vec<String> = if *all {
                scenarios.iter().map(|one| one.name.clone()).collect()
            } else {
                names.clone()
            };
            play(&names, &scenarios, *remedy, *format)
        }
    }
}

/// Plays a part in a reproduction.
pub(crate) fn act(arguments: &[OsString]) -> ExitCode {
    whydrop_lab::actor_main(arguments)
}

fn list(format: Plain) -> anyhow::Result<ExitCode> {
    let mut out = output::stdout();
    let scenarios = whydrop_lab::list()?;
    match format {
        Plain::Json => {
            let rows: Vec<_> = scenarios
                .iter()
                .map(|one| {
                    json!({
                        "name": one.name,
                        "about": one.about,
                        "cause": one.cause,
                        "healthy": one.healthy,
                    })
                })
                .collect();
            serde_json::to_writer_pretty(&mut out, &rows)?;
            writeln!(out)?;
        }
        Plain::Text => {
            for one in &scenarios {
                writeln!(out, "{STRONG}{}{STRONG:#}", one.name)?;
                writeln!(out, "    {FAINT}{}{FAINT:#}", one.about)?;
            }
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}

fn play(
    names: &[String],
    scenarios: &[ScenarioInfo],
    remedy: bool,
    format: Plain,
) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find the own program")?;
    let runner = Runner::new(program)?;
    // Planned ones are not listed, since no rule explains them yet, but can be played by name.
    let planned = whydrop_lab::planned()?;
    let known = |name: &str| scenarios.iter().chain(&planned).any(|one| one.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(LabError::UnknownScenario(name.clone()).into());
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for name in names {
        output::progress(&format!("whydrop: playing {name}"));
        outcomes.push(runner.run(name, false)?);
        let has_remedy =
            scenarios.iter().chain(&planned).any(|one| one.name == *name && one.remedy);
        if remedy && has_remedy {
            output::progress(&format!("whydrop: playing {name} with its remedy"));
            outcomes.push(runner.run(name, true)?);
        }
    }
    let mut out = output::stdout();
    match format {
        Plain::Text => whydrop_lab::write_table(&outcomes, &mut out)?,
        Plain::Json => whydrop_lab::write_json(&outcomes, &mut out)?,
    }
    out.flush()?;
    let wrong = outcomes.iter().any(Outcome::is_wrong);
    Ok(if wrong { failure::fault() } else { failure::CLEAN })
}
