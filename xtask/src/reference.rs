//! docs/reference.md: what `whydrop COMMAND --help` says, for every command there is.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The document, as this program describes itself.
pub(crate) fn document(program: &Path) -> Result<String> {
    let mut text = format!(
        "{}\n\n# Command line\n\nWhat `whydrop COMMAND --help` says, for every command. `-h` is shorter; the \
         manual pages (`man whydrop-diagnose`)\nsay the same.\n",
        crate::docs::MADE
    );
    describe(program, &[], &mut text)?;
    Ok(text)
}

/// One command, then those below it.
fn describe(program: &Path, words: &[&str], into: &mut String) -> Result<()> {
    let help = help(program, words)?;
    let title = [&["whydrop"], words].concat().join(" ");
    let _ = write!(into, "\n## {title}\n\n```text\n{}\n```\n", help.trim_end());
    for name in subcommands(&help) {
        describe(program, &[words, &[name]].concat(), into)?;
    }
    Ok(())
}

fn help(program: &Path, words: &[&str]) -> Result<String> {
    // No terminal anywhere: its width would decide where lines end.
    let output = Command::new(program)
        .args(words)
        .arg("--help")
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.display().to_string())?;
    let words = words.join(" ");
    ensure!(output.status.success(), "`whydrop {words} --help` failed: {}", output.status);
    let help = String::from_utf8(output.stdout).context("help is text")?;
    // Some lines are blanks alone.
    Ok(help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

/// Names below `Commands:`, without `help`, which only repeats the others.
fn subcommands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = listed.take_while(|line| !line.is_empty());
    // What a name is followed by may go on in the next line, further to the right.
    let named = rows.filter_map(|row| row.strip_prefix("  ").filter(|row| !row.starts_with(' ')));
    named.filter_map(|row| row.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[cfg(test)]
mod tests {
    use super::subcommands;

    #[test]
    fn commands_are_found_in_help() {
        let help = "About\n\nCommands:\n  list  List\n        them\n  run   Run\n  help  Print\n\nOptions:\n  -h";
        assert_eq!(subcommands(help), ["list", "run"]);
        assert!(subcommands("Options:\n  -h").is_empty());
    }
}
