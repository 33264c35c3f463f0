//! The outside of a lab process: starts it, listens to it, and makes sure that it ends.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::LabError;
use crate::netns::ProcessStat;
use crate::part::{ActorSpec, Message};
use crate::wait::Stop;

/// Longest wait for an actor to get ready: it only has to start and to listen.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running actor, killed when dropped.
///
/// The kernel kills an actor when the thread that started it ends, so it must not be handed to a
/// thread that lives longer.
#[derive(Debug)]
pub(crate) struct Actor {
    name: String,
    child: Child,
    said: Receiver<Message>,
}

impl Actor {
    /// Starts `program lab-actor SPEC`.
    pub(crate) fn start(program: &Path, spec: &ActorSpec) -> Result<Self, LabError> {
        let name = spec.comm.clone();
        let mut child = command(program, spec)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Program { path: program.into(), source })?;
        let (tell, said) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the actor's standard output.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let message = serde_json::from_str(&line)
                        .unwrap_or_else(|_| Message::Failed(format!("said `{line}`")));
                    if tell.send(message).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { name, child, said })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for what `pick` accepts; anything else that the actor says is a failure.
    pub(crate) fn hear<T>(
        &self,
        stop: &Stop,
        limit: Duration,
        pick: impl Fn(&Message) -> Option<T>,
    ) -> Result<T, LabError> {
        let failed = |message: String| LabError::Actor { name: self.name.clone(), message };
        let what = format!("lab process `{}` to answer", self.name);
        stop.until(limit, &what, || match self.said.try_recv() {
            Ok(message) => match (pick(&message), message) {
                (Some(picked), _) => Ok(Some(picked)),
                (None, Message::Failed(why)) => Err(failed(why)),
                (None, other) => Err(failed(format!("said {other:?} out of turn"))),
            },
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(failed("ended without a word".into())),
        })
    }

    /// Waits until a server listens.
    pub(crate) fn wait_ready(&self, stop: &Stop) -> Result<(), LabError> {
        self.hear(stop, READY_LIMIT, |message| (*message == Message::Ready).then_some(()))
    }

    /// Has a server call `listen()` again.
    pub(crate) fn relisten(&mut self, stop: &Stop) -> Result<(), LabError> {
        if let Some(stdin) = &mut self.child.stdin {
            let what = format!("telling lab process `{}`", self.name);
            stdin.write_all(b"relisten\n").map_err(LabError::io(what))?;
        }
        self.hear(stop, READY_LIMIT, |message| (*message == Message::Relistened).then_some(()))
    }

    /// Stops it with SIGSTOP and waits until it stands.
    pub(crate) fn suspend(&self, stop: &Stop) -> Result<(), LabError> {
        let what = format!("lab process `{}` stopped", self.name);
        kill_process(Pid::from_child(&self.child), Signal::STOP).map_err(LabError::io(&*what))?;
        stop.until(READY_LIMIT, &what, || {
            let stat = ProcessStat::read(self.pid());
            Ok(stat.is_some_and(|stat| stat.state == 'T').then_some(()))
        })
    }
}

/// The command line of an actor.
pub(crate) fn command(program: &Path, spec: &ActorSpec) -> Result<Command, LabError> {
    let spec = serde_json::to_string(spec).map_err(LabError::io("describing an actor"))?;
    let mut command = Command::new(program);
    // The terminal's SIGINT is for the runner, which ends its children itself.
    command.args(["lab-actor", &spec]).process_group(0);
    Ok(command)
}

impl Drop for Actor {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process. If it has ended already there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
