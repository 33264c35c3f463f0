//! Keeps a scenario going while somebody looks at it: its traffic again and again, beside a shell or
//! another command that knows its namespaces. Judges nothing.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::LabError;
use crate::netns::Tag;
use crate::run::{play, prepare};
use crate::scenario::{Scenario, find};
use crate::stage::Stage;
use crate::turn::Turn;
use crate::wait::Stop;

/// Between two plays: servers that stall for a moment are ready again, and losses stay few.
const PAUSE: Duration = Duration::from_secs(1);

/// The environment variable with the options that limit a command of the program to the scenario.
pub const SCOPE: &str = "LAB";

/// A namespace of the scenario that is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The environment variable that holds its name: `LAB_A` for the role `a`.
    pub variable: String,
    /// Its name, as in `ip netns`.
    pub name: String,
}

/// Plays the scenario `name` again and again until `command` ends, and gives how that ended.
///
/// `program` plays the parts, as for [`Runner`](crate::Runner). `told` learns what the scenario is
/// about and its namespaces before the command starts. From now on SIGTERM and SIGHUP end the command
/// and the play; SIGINT is for the command alone.
///
/// # Errors
///
/// The scenario is unknown or cannot be played here, or the command cannot be started.
pub fn shell(
    program: &Path,
    name: &str,
    mut command: Command,
    told: impl FnOnce(&str, &[Namespace]),
) -> Result<ExitStatus, LabError> {
    let scenario = find(name)?;
    let stop = Stop::on_signals_but_interrupts().map_err(LabError::io("catching signals"))?;
    prepare()?;
    let _turn = Turn::wait(scenario.alone.is_some(), &stop)?;
    let mut stage = Stage::set(&scenario, &Tag::new()?, program, &stop)?;
    let namespaces: Vec<_> = stage
        .lan()
        .iter()
        .map(|(role, netns)| Namespace {
            variable: format!("LAB_{}", role.to_uppercase()),
            name: netns.name().to_owned(),
        })
        .collect();
    told(&scenario.about, &namespaces);
    command.envs(namespaces.into_iter().map(|one| (one.variable, one.name)));
    let scope: Vec<_> = stage.observed().map(|name| format!("--netns {name}")).collect();
    command.env(SCOPE, scope.join(" "));
    let what = format!("starting {}", command.get_program().to_string_lossy());
    let mut child = command.spawn().map_err(LabError::io(what))?;
    let running = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .map_err(LabError::io("watching the command"))?;
    thread::scope(|scope| {
        // Every step of the play asks the flag, so it breaks off as soon as the command ends.
        scope.spawn(|| {
            has_ended(&running, None);
            stop.now();
        });
        let played = keep_playing(&mut stage, &scenario, &stop);
        if !has_ended(&running, Some(&Timespec::default())) {
            // As when a terminal closes: a shell obeys, and passes it on.
            let _ = pidfd_send_signal(&running, Signal::HUP);
        }
        let status = child.wait().map_err(LabError::io("waiting for the command"))?;
        played.map(|()| status)
    })
}

/// Until told to stop.
fn keep_playing(stage: &mut Stage<'_>, scenario: &Scenario, stop: &Stop) -> Result<(), LabError> {
    let again = scenario.fix.as_ref().map_or(&[][..], |fix| &fix.again);
    let mut once = || {
        play(std::slice::from_mut(stage))?;
        stage.dismiss();
        match stop.until(PAUSE, "the next play", || Ok(None::<()>)) {
            Err(LabError::TimedOut { .. }) | Ok(()) => stage.carry_out(again),
            Err(error) => Err(error),
        }
    };
    loop {
        match once() {
            Ok(()) => {}
            Err(LabError::Interrupted) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until a process has ended, at most this long; true if it has.
fn has_ended(process: &impl std::os::fd::AsFd, limit: Option<&Timespec>) -> bool {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], limit) {
            Err(Errno::INTR) => {}
            // What cannot be watched is as good as gone.
            ended => return ended != Ok(0),
        }
    }
}
