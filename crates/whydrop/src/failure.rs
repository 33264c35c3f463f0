//! What the user is told when something cannot be done: one line with what, why and what to do.

use std::process::ExitCode;

/// Ran, nothing of class fault.
pub(crate) const CLEAN: ExitCode = ExitCode::SUCCESS;

/// Ran, and found a fault.
pub(crate) fn fault() -> ExitCode {
    ExitCode::from(1)
}

/// Could not run.
pub(crate) fn could_not_run() -> ExitCode {
    ExitCode::from(2)
}

/// Made a change and took it back.
pub(crate) fn taken_back() -> ExitCode {
    ExitCode::from(3)
}

/// Answers a command line that asks for help or the version, or says in one line what is wrong with
/// it. `command` is the one it names, if any.
pub(crate) fn usage(error: &clap::Error, command: Option<&str>) -> ExitCode {
    if !error.use_stderr() {
        // A reader that does not read the help misses nothing.
        let _ = error.print();
        return CLEAN;
    }
    let text = error.to_string();
    let before_usage = text.split("Usage:").next().unwrap_or(&text);
    let line = before_usage.split_whitespace().collect::<Vec<_>>().join(" ");
    let line =
        line.trim_start_matches("error: ").trim_end_matches("For more information, try '--help'.");
    let shown = whydrop_show::Safe(line.trim());
    let command = command.map(|name| format!(" {name}")).unwrap_or_default();
    crate::output::message(&format!("whydrop: {shown} (see `whydrop{command} --help`)"));
    could_not_run()
}

/// Prints the error in one line and gives the exit status. A reader that went away (`whydrop watch |
/// head`) is no error.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        io.or_else(json) == Some(std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return CLEAN;
    }
    let line = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    crate::output::message(&format!("whydrop: {}", whydrop_show::Safe(&line)));
    could_not_run()
}
