//! Has the questions answered: by a kernel in qemu, or by the one that runs here.
//!
//! Says how far it is whenever it comes to the next question, and never waits without end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::answers::last_question;
use super::{BRIEF, LONG, kernels};
use crate::command;

const QUESTIONS: &str = include_str!("questions.sh");
const INIT: &str = include_str!("init.sh");
const INITRAMFS: &str = include_str!("initramfs.sh");

/// Whoever is not done after so long hangs. On a quiet machine a guest takes a fifth of it.
const LIMIT: Duration = Duration::from_secs(1200);
/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// What has to be told to whoever runs the questions.
fn scenarios() -> [(&'static str, String); 2] {
    [("BRIEF", BRIEF.join(" ")), ("LONG", LONG.join(" "))]
}

/// What a kernel of Debian's answers in qemu.
pub(super) fn guest(name: &str, kernel: &Path, program: &Path, folder: &Path) -> Result<String> {
    let file = |name: &str| folder.join(name);
    let named = scenarios().map(|(name, value)| format!("{name}='{value}'\n")).concat();
    fs::write(file("questions"), named + QUESTIONS)?;
    fs::write(file("init"), INIT)?;
    fs::write(file("initramfs.sh"), INITRAMFS)?;
    let initramfs = Temporary(file("initramfs"));
    command::run(
        Command::new("bash")
            .args([&file("initramfs.sh"), kernel, program, &file("init"), &file("questions")])
            .arg(&initramfs.0),
    )
    .context("the guest's file system cannot be made")?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-cpu", "max", "-smp", "2"])
        // One thread for both CPUs: with one for each, a CPU may still run an instruction that the other
        // has patched (a breakpoint of a static branch), and the kernel panics.
        .args(["-m", "1536", "-accel", "tcg,thread=single"])
        // On a busy machine the test of the timer may fail, and the kernel panics.
        .args(["-append", "console=ttyS0 panic=-1 quiet loglevel=1 no_timer_check"])
        .arg("-kernel")
        .arg(kernels::image(kernel)?)
        .arg("-initrd")
        .arg(&initramfs.0);
    for line in ["console", "answers"] {
        qemu.arg("-serial").arg(format!("file:{}", file(line).display()));
        File::create(file(line))?;
    }
    let ended = wait(name, &mut qemu, &file("answers"));
    let heard = read(&file("answers"))?;
    ended.with_context(|| last_words(&read(&file("console")).unwrap_or_default()))?;
    if !heard.ends_with("@@ end\n") {
        let at = last_question(&heard).unwrap_or("its boot");
        bail!("it died at `{at}`; {}", last_words(&read(&file("console"))?));
    }
    Ok(heard)
}

/// What this host's kernel answers.
pub(super) fn host(program: &Path, folder: &Path) -> Result<String> {
    fs::create_dir_all(folder)?;
    let file = |name: &str| folder.join(name);
    fs::write(file("questions"), QUESTIONS)?;
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let own = program.parent().unwrap_or(Path::new("."));
    // What is mounted there goes with it.
    let mut questions = Command::new("unshare");
    questions
        .args(["--mount", "sh"])
        .arg(file("questions"))
        .envs(scenarios())
        .env("PATH", format!("{}:{path}", own.display()))
        .stdout(File::create(file("answers"))?)
        .stderr(File::create(file("console"))?);
    let ended = wait("this host", &mut questions, &file("answers"));
    ended.with_context(|| last_words(&read(&file("console")).unwrap_or_default()))?;
    read(&file("answers"))
}

/// What was answered when this was last visited.
pub(super) fn earlier(folder: &Path) -> Result<String> {
    read(&folder.join("answers"))
}

/// Runs it to its end, which must come in time, and tells which question it is at.
fn wait(name: &str, command: &mut Command, answers: &Path) -> Result<()> {
    let mut child = Running(command.stdin(Stdio::null()).spawn()?);
    let began = Instant::now();
    let mut told = String::new();
    while child.0.try_wait()?.is_none() {
        let heard = read(answers)?;
        let at = last_question(&heard).unwrap_or("boot");
        if at != told {
            println!("{name}: {at} ({:.0} s)", began.elapsed().as_secs_f64());
            at.clone_into(&mut told);
        }
        if began.elapsed() > LIMIT {
            bail!("it was not done within {} s and hung at `{at}`", LIMIT.as_secs());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// What came over a serial line: its lines end in CR LF.
fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).replace('\r', ""))
}

/// The end of what the console said, in one line.
fn last_words(console: &str) -> String {
    let panic = console.lines().find(|line| line.contains("Kernel panic"));
    let last = console.lines().rfind(|line| !line.trim().is_empty());
    match panic.or(last) {
        Some(line) => format!("the last word was: {}", line.trim()),
        None => "it said nothing".to_owned(),
    }
}

/// A process that does not outlive its observer.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended already there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that goes with its user.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_panic_is_a_better_word_than_the_last() {
        let console = "boot\n[ 1.0] Kernel panic - not syncing: no init\n[ 1.1] ---[ end\n";
        assert!(last_words(console).ends_with("Kernel panic - not syncing: no init"));
        assert_eq!(last_words("a\n b \n\n"), "the last word was: b");
        assert_eq!(last_words(""), "it said nothing");
    }
}
