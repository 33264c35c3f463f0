//! The program under test, run from outside as a user would run it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, process};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use whydrop_model::{Attach, Report};

use crate::LabError;
use crate::cast;
use crate::part::{ActorSpec, Part};
use crate::wait::Stop;

/// Longest wait until it watches. A processor that is emulated takes ten times as long as a real one.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for its report after it was told to end.
const REPORT_LIMIT: Duration = Duration::from_secs(60);
/// Window asked for, in seconds: longer than any scenario, which ends it with SIGINT.
pub(crate) const WINDOW: &str = "120";

/// A diagnosis that is watching. Dropping it kills it.
pub(crate) struct Diagnosis {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    ready: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// Exit status; `None` if a signal ended it.
    pub(crate) exit: Option<i32>,
    /// The report, or why there is none.
    pub(crate) report: Result<Box<Report>, String>,
}

impl Diagnosis {
    /// Starts it on these namespaces and waits until it watches.
    pub(crate) fn start<'n>(
        program: &Path,
        attach: Option<Attach>,
        namespaces: impl IntoIterator<Item = &'n str>,
        ready: PathBuf,
        stop: &Stop,
    ) -> Result<Self, LabError> {
        let mut arguments = ["diagnose", "--duration", WINDOW, "--format", "json"].to_vec();
        for name in namespaces {
            arguments.extend(["--netns", name]);
        }
        if let Some(attach) = attach {
            arguments.extend(["--attach", attach.name()]);
        }
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        Self::watch(program, arguments, ready, stop)
    }

    /// Starts the program with a command that watches, and waits until it does.
    pub(crate) fn watch(
        program: &Path,
        mut arguments: Vec<String>,
        ready: PathBuf,
        stop: &Stop,
    ) -> Result<Self, LabError> {
        arguments.extend(["--ready-file".into(), ready.to_string_lossy().into_owned()]);
        // By way of an actor, so that it dies with the runner.
        let part = Part::Become { program: program.to_owned(), arguments };
        let comm = "lab-diagnosis".into();
        let spec = ActorSpec { runner: process::id(), netns: None, comm, cgroup: None, part };
        let mut command = cast::command(program, &spec)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|source| LabError::Program { path: program.into(), source })?;
        // Read as they come: a full pipe would stop it.
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        let mut diagnosis = Self { child, stdout, stderr, ready };
        diagnosis.wait_ready(stop)?;
        Ok(diagnosis)
    }

    fn wait_ready(&mut self, stop: &Stop) -> Result<(), LabError> {
        let waited = stop.until(READY_LIMIT, "the diagnosis to watch", || {
            if self.ready.exists() {
                return Ok(Some(()));
            }
            match self.ended()? {
                Some(status) => Err(self.complaint(&format!("ended before it watched: {status}"))),
                None => Ok(None),
            }
        });
        match waited {
            Err(LabError::TimedOut { limit, .. }) => {
                self.kill();
                Err(self.complaint(&format!("did not watch within {} s", limit.as_secs())))
            }
            other => other,
        }
    }

    /// Tells it to end and gives its answer.
    pub(crate) fn finish(mut self, stop: &Stop) -> Result<Answer, LabError> {
        let (status, text) = self.end(stop)?;
        let report = match serde_json::from_slice(&text) {
            Ok(report) => Ok(Box::new(report)),
            Err(error) => {
                let what = format!("printed no report ({error}), {status}");
                Err(self.complaint(&what).to_string())
            }
        };
        Ok(Answer { exit: status.code(), report })
    }

    /// Tells it to end, and gives its exit status and what it printed.
    pub(crate) fn end(&mut self, stop: &Stop) -> Result<(ExitStatus, Vec<u8>), LabError> {
        if let Some(status) = self.ended()? {
            return Err(self.complaint(&format!("ended before it was told to: {status}")));
        }
        let signalled = kill_process(Pid::from_child(&self.child), Signal::INT);
        signalled.map_err(LabError::io("sending SIGINT to the diagnosis"))?;
        let status = match stop.until(REPORT_LIMIT, "the report", || self.ended()) {
            Err(LabError::TimedOut { limit, .. }) => {
                self.kill();
                let seconds = limit.as_secs();
                return Err(self.complaint(&format!("gave no report within {seconds} s of SIGINT")));
            }
            status => status?,
        };
        let text = self.stdout.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((status, text))
    }

    /// Kills it and whatever it may have started. It leads a group of its own.
    fn kill(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child.try_wait().map_err(LabError::io("waiting for the diagnosis"))
    }

    /// `what`, with the last line that the program wrote to standard error. Only for a program that
    /// has ended.
    pub(crate) fn complaint(&mut self, what: &str) -> LabError {
        let said = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let said = last.map(|line| format!(": {line}")).unwrap_or_default();
        LabError::Diagnosis(format!("the diagnosis {what}{said}"))
    }
}

impl Drop for Diagnosis {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.ready);
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut text);
        text
    })
}
