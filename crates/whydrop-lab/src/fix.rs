//! Lets the program cure what a scenario loses, from outside as a user would: recorded, changed, the
//! same traffic clean and judged so, undone, every setting as before, and lost again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::diagnosis::{Diagnosis, WINDOW};
use crate::netns::Tag;
use crate::outcome::Unplayed;
use crate::run::play;
use crate::scenario::{Fix, NoFix, Scenario, find};
use crate::stage::{Claims, Stage};
use crate::{Job, LabError, Outcome, Runner, counters};

/// Settings of the stage by their names.
type Settings = BTreeMap<String, String>;

/// Sysctls that count or that somebody else sets.
const NO_SETTINGS: &[&str] = &["nf_conntrack_count", "stable_secret"];

/// Longest wait for what follows from a setting: linkwatch may take a second.
const FOLLOW_LIMIT: Duration = Duration::from_secs(30);

/// One story: a scenario, its stage and a folder for what the program leaves.
struct Story<'s> {
    runner: &'s Runner,
    scenario: &'s Scenario,
    /// What must hold while the change is in force.
    clean: Claims,
    stage: Stage<'s>,
    tag: &'s Tag,
    folder: Folder,
    failures: Vec<String>,
}

/// A folder that goes away with its guard.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Names are never used twice, so what is left is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Runner {
    /// Lets the program cure one scenario.
    pub(crate) fn fix(&self, job: &Job, scenarios: &[Scenario]) -> Result<Outcome, LabError> {
        let [scenario] = scenarios else { return Err(LabError::NoRemedy(job.name())) };
        let clean = match &scenario.fix {
            Some(fix) if !fix.counters.is_empty() => fix.counters.clone(),
            _ => find(&scenario.name)?.remedied()?.counters,
        };
        let tag = Tag::new()?;
        let stage = match Stage::set(scenario, &tag, &self.program, &self.stop) {
            Err(error) if error.means_skipped() => {
                return Ok(Outcome::unplayed(job, Unplayed::Skipped(error.to_string())));
            }
            stage => stage?,
        };
        let folder = std::env::temp_dir().join(tag.netns("fix"));
        fs::create_dir(&folder).map_err(LabError::io(folder.display().to_string()))?;
        let folder = Folder(folder);
        let failures = Vec::new();
        let mut story = Story { runner: self, scenario, clean, stage, tag: &tag, folder, failures };
        let (expected, told) = match (&scenario.fix, &scenario.no_fix) {
            (Some(fix), _) => ("cured and undone".into(), story.cured(fix)),
            (None, Some(no_fix)) => {
                let names: Vec<_> = no_fix.answer.iter().map(|one| one.name()).collect();
                (format!("answered by {}", names.join("|")), story.answered(no_fix))
            }
            (None, None) => return Err(LabError::NoFix(job.name())),
        };
        let got = match told {
            Err(LabError::Diagnosis(why)) => {
                story.failures.push(why);
                "no answer".into()
            }
            told => told?,
        };
        Ok(Outcome::fixed(job, expected, got, story.failures))
    }
}

impl Story<'_> {
    /// Plays once while the program records; gives the path of the evidence.
    fn record(&mut self) -> Result<String, LabError> {
        let evidence = self.path("evidence");
        let mut recording = self.watch(&["record", "-o", &evidence, "--duration", WINDOW], true)?;
        let before = self.stage.read()?;
        play(std::slice::from_mut(&mut self.stage))?;
        self.stage.settle(&before)?;
        recording.end(&self.runner.stop)?;
        // Its end removes its ready file, which the next one makes again.
        Ok(evidence)
    }

    /// Asks what the program would do, and gives its answers.
    fn answered(&mut self, no_fix: &NoFix) -> Result<String, LabError> {
        let evidence = self.record()?;
        let output = self.run(&["fix", &evidence, "--format", "json"])?;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| LabError::Diagnosis(format!("fix printed no answer ({error})")))?;
        let cures = answer["cures"].as_array().map_or(&[][..], Vec::as_slice);
        let mut told = Vec::new();
        for expected in &self.scenario.expect {
            let of = |cure: &&Value| cure["cause"] == *expected.cause;
            for cure in cures.iter().filter(of) {
                let kind = cure["answer"].as_object().and_then(|answer| answer.keys().next());
                let kind = kind.cloned().unwrap_or_default();
                let right = no_fix.answer.iter().any(|one| one.name() == kind);
                if !right {
                    self.failures.push(format!("{} is answered by {kind}", expected.cause));
                }
                told.push(kind);
            }
        }
        self.note(!told.is_empty(), || "nothing was answered".into());
        Ok(told.join(", "))
    }

    /// Plays three times; gives the effect of which the program speaks.
    fn cured(&mut self, fix: &Fix) -> Result<String, LabError> {
        let evidence = self.record()?;
        let untouched = self.settings()?;
        let journal = self.path("journal");
        let mut arguments =
            vec!["fix", &evidence, "--apply", "--live", "--verify", WINDOW, "--format", "json"];
        arguments.extend(["--journal", &journal]);
        if fix.weaker_security {
            arguments.push("--allow-weaker-security");
        }
        let mut fixing = self.watch(&arguments, false)?;
        let changed = self.settings()?;
        self.note(changed != untouched, || "no setting was changed".into());
        self.again(fix, "with the change", &self.clean.clone())?;
        let (status, text) = fixing.end(&self.runner.stop)?;
        let answer: Value = serde_json::from_slice(&text)
            .map_err(|error| fixing.complaint(&format!("printed no answer ({error}), {status}")))?;
        let effect = answer["effect"].as_str().unwrap_or("none").to_owned();
        let (was, is) = (&answer["before"], &answer["after"]);
        self.note(effect == "cured", || {
            format!("the effect is {effect}: before {was}, after {is}")
        });
        self.note(status.code() == Some(0), || format!("fix ended with {status}"));
        drop(fixing);

        self.undo(&journal)?;
        self.compare(&untouched)?;
        self.again(fix, "after undo", &self.scenario.counters.clone())?;
        Ok(if self.failures.is_empty() { "cured and undone".into() } else { effect })
    }

    /// Compares all settings with what they were. Some follow the others in the kernel's own time.
    fn compare(&mut self, before: &Settings) -> Result<(), LabError> {
        let same = || Ok((self.settings()? == *before).then_some(()));
        match self.runner.stop.until(FOLLOW_LIMIT, "settings to be as before", same) {
            Err(LabError::TimedOut { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let now = self.settings()?;
        for (name, value) in before {
            let is = now.get(name).map_or("gone", String::as_str);
            self.note(is == value, || format!("after undo {name} is {is}, not {value}"));
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.folder.0.join(name).to_string_lossy().into_owned()
    }

    /// Starts a command that watches; `scoped` if it has to be told what.
    fn watch(&self, arguments: &[&str], scoped: bool) -> Result<Diagnosis, LabError> {
        let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        for name in self.stage.observed().filter(|_| scoped) {
            arguments.extend(["--netns".into(), name.to_owned()]);
        }
        Diagnosis::watch(&self.runner.program, arguments, self.tag.ready_file(), &self.runner.stop)
    }

    fn note(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }

    /// Plays the same traffic once more, and compares what it moves with the claims.
    fn again(&mut self, fix: &Fix, when: &str, claims: &Claims) -> Result<(), LabError> {
        self.stage.carry_out(&fix.again)?;
        let before = self.stage.read_for(claims)?;
        play(std::slice::from_mut(&mut self.stage))?;
        let moved = counters::growth(&before, &self.stage.settle_by(claims, &before)?);
        for (counter, amount) in claims {
            let value = moved.get(counter).copied().unwrap_or(0);
            self.note(amount.holds(value), || format!("{when} {counter} grew by {value}"));
        }
        Ok(())
    }

    fn undo(&mut self, journal: &str) -> Result<(), LabError> {
        let output = self.run(&["undo", "--all", "--journal", journal])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        self.note(output.status.success(), || format!("undo ended with {}: {said}", output.status));
        Ok(())
    }

    /// Runs the program to its end.
    fn run(&self, arguments: &[&str]) -> Result<Output, LabError> {
        let path = self.runner.program.clone();
        let output = Command::new(&path).args(arguments).stdin(Stdio::null()).output();
        output.map_err(|source| LabError::Program { path, source })
    }

    /// All that can be set in the namespaces, as far as it can be read.
    fn settings(&self) -> Result<Settings, LabError> {
        let mut settings = Settings::new();
        for (role, netns) in self.stage.lan().iter() {
            let read = netns.within(|| {
                let mut read = Settings::new();
                sysctls(Path::new("/proc/sys/net"), &mut read);
                for (name, line) in [
                    ("links", "ip -details link show"),
                    ("qdiscs", "tc qdisc show"),
                    ("listeners", "ss -Hltn"),
                    ("datagrams", "ss -Hulmn"),
                ] {
                    read.insert(name.to_owned(), printed(line));
                }
                read
            })?;
            settings
                .extend(read.into_iter().map(|(name, value)| (format!("{role}:{name}"), value)));
        }
        Ok(settings)
    }
}

fn sysctls(folder: &Path, into: &mut Settings) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            sysctls(&path, into);
        } else if !NO_SETTINGS.iter().any(|it| name == *it)
            && let Ok(text) = fs::read_to_string(&path)
        {
            into.insert(path.display().to_string(), text);
        }
    }
}

/// What a program prints, without what moves by itself: of a listener its backlog, of a datagram
/// socket its buffer.
fn printed(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    if !line.starts_with("ss ") {
        return text;
    }
    let settings = text.split_whitespace().filter(|word| word.contains(':') || word.contains("rb"));
    let backlogs = text.lines().filter_map(|line| line.split_whitespace().nth(2));
    let buffer =
        |word: &str| word.split(',').find(|part| part.starts_with("rb")).map(str::to_owned);
    let mut told: Vec<_> = if line.contains("ltn") {
        backlogs.map(str::to_owned).collect()
    } else {
        settings.filter_map(buffer).collect()
    };
    told.sort();
    told.join(" ")
}
