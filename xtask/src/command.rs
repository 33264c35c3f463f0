//! Running other programs: each command line is shown before it runs.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Cargo itself, the one that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Shows the command line, runs it with our own terminal, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs it silently and returns its standard output; standard error is passed on.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{line}`"))
}

fn command_line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{command_line, output, run};

    #[test]
    fn a_command_line_is_shown_without_the_programs_folder() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["fmt", "--all"]);
        assert_eq!(command_line(&command), "cargo fmt --all");
    }

    #[test]
    fn failures_name_the_command() {
        let error = run(&mut Command::new("false")).unwrap_err();
        assert!(format!("{error:#}").contains("`false` failed"), "{error:#}");
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start `no-such-program-here`"), "{error:#}");
        assert_eq!(output(Command::new("echo").arg("hello")).unwrap(), "hello\n");
    }
}
