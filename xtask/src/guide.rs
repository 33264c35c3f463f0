//! docs/guide.md: its commands are run as they stand, in the lab, and must say what the guide shows.
//!
//! A fenced block `console` holds commands, each behind `# `, and what they print. The first one of the
//! guide opens the lab's shell, the others are typed there. Outputs are compared by their words: numbers
//! differ from run to run, and with them where lines end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::scratch::Scratch;

const FENCE: &str = "```console\n";
const END: &str = "```\n";
/// Before each command.
const PROMPT: &str = "# ";
/// What opens the lab's shell; the name of the scenario follows.
const SHELL: &str = "whydrop lab shell ";
/// Begins the last part of a report.
const NOT_CHECKED: &str = "\nNot checked\n";
/// Between what two commands say.
const MARK: &str = "\u{1e}";

/// A command of the guide and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: String,
}

/// A guide in pieces: text, and between two texts a block of steps.
type Pieces = (Vec<String>, Vec<Vec<Step>>);

/// The guide with what its commands print now; the same text as before if that is the same but for
/// numbers.
pub(crate) fn document(program: &Path, guide: &str) -> Result<String> {
    let (texts, mut blocks) = pieces(guide)?;
    let commands: Vec<_> = blocks.iter().flatten().map(|step| step.command.clone()).collect();
    let mut outputs = outputs(program, &commands)?.into_iter();
    for step in blocks.iter_mut().flatten() {
        let output = outputs.next().context("fewer answers than commands")?;
        if plain(&step.output) != plain(&output) {
            step.output = output;
        }
    }
    Ok(joined(&texts, &blocks))
}

/// Cuts a guide into its pieces.
fn pieces(guide: &str) -> Result<Pieces> {
    let (mut texts, mut blocks) = (Vec::new(), Vec::new());
    let mut rest = guide;
    while let Some((text, behind)) = rest.split_once(FENCE) {
        let (block, behind) = behind.split_once(END).context("a block without its end")?;
        let mut steps: Vec<Step> = Vec::new();
        for line in block.split_inclusive('\n') {
            match (line.strip_prefix(PROMPT), steps.last_mut()) {
                (Some(command), _) => {
                    let command = command.trim_end().to_owned();
                    steps.push(Step { command, output: String::new() });
                }
                (None, Some(step)) => step.output.push_str(line),
                (None, None) => bail!("a block begins with `{}`, which is no command", line.trim()),
            }
        }
        texts.push(text.to_owned());
        blocks.push(steps);
        rest = behind;
    }
    texts.push(rest.to_owned());
    Ok((texts, blocks))
}

fn joined(texts: &[String], blocks: &[Vec<Step>]) -> String {
    let mut guide = String::new();
    for (number, text) in texts.iter().enumerate() {
        guide.push_str(text);
        if let Some(steps) = blocks.get(number) {
            guide.push_str(FENCE);
            for Step { command, output } in steps {
                let _ = write!(guide, "{PROMPT}{command}\n{output}");
            }
            guide.push_str(END);
        }
    }
    guide
}

/// What each command prints.
fn outputs(program: &Path, commands: &[String]) -> Result<Vec<String>> {
    let Some((first, typed)) = commands.split_first() else { bail!("the guide has no commands") };
    let scenario = first.strip_prefix(SHELL).context("the first command opens the lab's shell")?;
    let scratch = Scratch::new("guide")?;
    let settings = scratch.path().join("whydrop");
    fs::create_dir_all(&settings)?;
    // The journal of this host is not for trying things out.
    let journal = format!("journal = '{}'", scratch.path().join("changes").display());
    let tables = ["fix", "changes", "undo"].map(|command| format!("[{command}]\n{journal}\n"));
    fs::write(settings.join("config.toml"), tables.concat())?;
    let mut script = String::new();
    for command in typed {
        let _ = write!(script, "printf '{MARK}'\n{command}\n");
    }
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" lab shell \"$1\" -- sh -c \"$2\" 2>&1"])
        .arg(program)
        .args([scenario, &script])
        .env("XDG_CONFIG_HOME", scratch.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .context("sh")?;
    let said = String::from_utf8(output.stdout).context("the guide's commands print text")?;
    let said: Vec<_> = said.split(MARK).map(str::to_owned).collect();
    ensure!(
        said.len() == commands.len(),
        "the guide's commands ended early ({}):\n{}",
        output.status,
        said.last().map_or("", String::as_str)
    );
    Ok(said)
}

/// Words of what was printed, numbers made equal, and of equal lines in a row only one. What a machine
/// could not look at, because it lacks something or is busy, is its own affair.
fn plain(output: &str) -> Vec<String> {
    let seen = output.split(NOT_CHECKED).next().unwrap_or_default();
    let mut lines: Vec<String> = seen.lines().map(without_numbers).collect();
    lines.dedup();
    lines.join(" ").split_whitespace().map(str::to_owned).collect()
}

/// The line with `0` for each number, and without the machine that a report begins with.
fn without_numbers(line: &str) -> String {
    let line = match line.split_once(';') {
        Some((machine, rest)) if machine.contains(", Linux ") => rest,
        _ => line,
    };
    let (mut plain, mut number, mut hexadecimal) = (String::new(), false, false);
    for letter in line.chars() {
        hexadecimal = number && (letter == 'x' || (hexadecimal && letter.is_ascii_hexdigit()));
        let within = number && (hexadecimal || matches!(letter, '.' | ',' | ':'));
        let digit = letter.is_ascii_digit() || within;
        match (digit, number) {
            (true, false) => plain.push('0'),
            (true, true) => {}
            (false, _) => plain.push(letter),
        }
        number = digit;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Step, joined, pieces, plain};

    const GUIDE: &str =
        "# A\n\n```console\n# one\nsays 1\n# two\n```\nB\n```console\n# three\n```\nC\n";

    #[test]
    fn a_guide_is_cut_and_joined_again() {
        let (texts, blocks) = pieces(GUIDE).unwrap();
        let step =
            |command: &str, output: &str| Step { command: command.into(), output: output.into() };
        assert_eq!(
            blocks,
            [vec![step("one", "says 1\n"), step("two", "")], vec![step("three", "")]]
        );
        assert_eq!(joined(&texts, &blocks), GUIDE);
        assert!(pieces("```console\n# one\n").is_err());
        assert!(pieces("```console\nno command\n```\n").is_err());
    }

    #[test]
    fn outputs_are_compared_by_their_words() {
        let first = "12:00:01.5  10 packets, of 3\n12:00:02.1  7 packets, of 12\n";
        assert_eq!(plain(first), plain("9:00:00.25 8 packets,\n  of 4"));
        assert_ne!(plain(first), plain("9:00:00.25 8 packets, in 4"));
        assert_ne!(plain("a 1\nb 2\na 1"), plain("a 1\nb 2"));
        assert_eq!(plain("a 1\n\nNot checked\n  x: busy\n"), plain("a 2\n"));
        assert_eq!(plain("f+0x4a by 10.0.0.1:80"), plain("f+0x12 by 10.9.9.9:5"));
        assert_eq!(
            plain("vm, Linux 6.18.44-x, 2 CPUs; 3.0 s"),
            plain("shop, Linux 7.2, 1 CPU; 4 s")
        );
    }
}
