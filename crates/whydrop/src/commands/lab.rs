//! `whydrop lab`: reproductions of packet loss.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::json;
use whydrop_diagnose::knowledge::nearest;
use whydrop_lab::{Job, Outcome, Runner, ScenarioInfo};
use whydrop_show::style::{FAINT, STRONG};

use crate::cli::{LabCommand, LabRun, Plain};
use crate::progress::StatusLine;
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(command: &LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::List { format } => list(*format),
        LabCommand::Run(options) => play(options),
        LabCommand::Shell { name, command } => shell(name, command),
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
                write!(out, "{STRONG}{}{STRONG:#}", one.name)?;
                let cause = one.cause.as_deref().filter(|cause| *cause != one.name);
                writeln!(out, "{}", cause.map_or(String::new(), |cause| format!("  ({cause})")))?;
                writeln!(out, "    {FAINT}{}{FAINT:#}", one.about)?;
            }
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}

fn play(options: &LabRun) -> anyhow::Result<ExitCode> {
    let chosen = if options.all { whydrop_lab::list()? } else { named(&options.names)? };
    let mut jobs = Vec::new();
    if options.together {
        jobs.push(Job::together(chosen.into_iter().map(|one| one.name).collect()));
    } else {
        for ScenarioInfo { name, remedy, fix, .. } in chosen {
            jobs.push(Job::one(name.clone()));
            jobs.extend((options.remedy && remedy).then(|| Job::remedied(name.clone())));
            jobs.extend((options.fix && fix).then(|| Job::fixed(name)));
        }
    }
    let jobs = vec![jobs; options.repeat.get()].concat();
    let program = std::env::current_exe().context("cannot find the own program")?;
    let runner = Runner::new(program)?.attaching(options.attach);
    let width = options.jobs.unwrap_or_else(whydrop_lab::usual_width);
    let start = Instant::now();
    let mut line = StatusLine::new();
    let outcomes = runner.run_all(&jobs, width, &mut |progress| {
        let whydrop_lab::Progress { done, total, playing } = progress;
        line.update(&format!("{done} of {total} played; now {}", playing.join(", ")));
    });
    drop(line);
    let (outcomes, seconds) = (outcomes?, start.elapsed().as_secs_f64());
    let mut out = output::stdout();
    match options.format {
        Plain::Text => whydrop_lab::write_table(&outcomes, seconds, &mut out)?,
        Plain::Json => whydrop_lab::write_json(&outcomes, seconds, &mut out)?,
    }
    out.flush()?;
    let wrong = outcomes.iter().any(Outcome::is_wrong);
    Ok(if wrong { failure::fault() } else { failure::CLEAN })
}

/// Gives the exit status of the command, as a shell does.
fn shell(name: &str, words: &[OsString]) -> anyhow::Result<ExitCode> {
    let scenarios = named(std::slice::from_ref(&name.to_owned()))?;
    let [ScenarioInfo { name, .. }] = &scenarios[..] else {
        let names: Vec<_> = scenarios.iter().map(|one| one.name.as_str()).collect();
        bail!("several scenarios reproduce {name}; choose one: {}", names.join(", "));
    };
    let program = std::env::current_exe().context("cannot find the own program")?;
    let mut command = match words {
        [] => Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest);
            command
        }
    };
    // So that `whydrop` is this very program there, wherever it is installed.
    let own = program.parent().map(Path::to_path_buf);
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&usual)))?;
    command.env("PATH", path);
    let status = whydrop_lab::shell(&program, name, command, |about, namespaces| {
        output::message(&format!("{STRONG}{name}{STRONG:#}: {about}"));
        let scope = whydrop_lab::SCOPE;
        output::message(&format!(
            "  ${scope}    {FAINT}limits a command to this scenario{FAINT:#}"
        ));
        for one in namespaces {
            output::message(&format!("  ${}  {FAINT}{}{FAINT:#}", one.variable, one.name));
        }
        output::message("Its traffic comes again and again; all of it vanishes when you leave.");
    })?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(failure::fault(), ExitCode::from))
}

/// The scenarios of these names; a cause stands for all that reproduce it.
fn named(names: &[String]) -> anyhow::Result<Vec<ScenarioInfo>> {
    // Planned ones are not listed, since no rule explains them yet, but can be played by name.
    let known = [whydrop_lab::list()?, whydrop_lab::planned()?].concat();
    let mut chosen = Vec::new();
    for name in names {
        let of = |fits: fn(&ScenarioInfo) -> Option<&str>| {
            known.iter().filter(move |one| fits(one) == Some(name)).cloned()
        };
        let before = chosen.len();
        chosen.extend(of(|one| Some(&one.name)));
        if chosen.len() == before {
            chosen.extend(of(|one| one.cause.as_deref()));
        }
        if chosen.len() == before {
            bail!(unknown(name, &known));
        }
    }
    Ok(chosen)
}

fn unknown(name: &str, known: &[ScenarioInfo]) -> String {
    let names = known.iter().flat_map(|one| [Some(one.name.as_str()), one.cause.as_deref()]);
    let near = nearest(name, names.flatten());
    let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
    format!("no scenario and no cause is called {name}: {near}`whydrop lab list` names them all")
}
