//! What fuzzers call, and the tests that replay what they kept. Not in any other build.

use std::path::Path;

use clap::CommandFactory as _;
use whydrop_diagnose::cure::{cures, trial};
use whydrop_diagnose::{Thresholds, diagnose};
use whydrop_model::Report;
use whydrop_show::format::FORMATS;

use crate::commands::watch;
use crate::{cli, config, evidence_file};

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// Columns of the terminal.
const WIDTH: usize = 80;

/// The document in an evidence file, which is then diagnosed, cured and shown.
///
/// # Panics
///
/// If the sums of the report are not right, its JSON is not read back, or something of it could do
/// something to a terminal.
pub fn evidence(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(evidence) = evidence_file::document(text, Path::new("file")) else { return };
    let report = diagnose(&evidence, &Thresholds::default());
    let ledger = &report.ledger;
    assert_eq!(ledger.lost, ledger.explained + ledger.unexplained);
    for format in FORMATS {
        let mut shown = Vec::new();
        format.write(&report, WIDTH, &mut shown).expect("memory");
        if format.name() == "json" {
            let read: Report = serde_json::from_slice(&shown).expect("a report");
            let mut again = Vec::new();
            format.write(&read, WIDTH, &mut again).expect("memory");
            assert!(again == shown, "{}", String::from_utf8_lossy(&shown));
        } else {
            check_terminal(&shown);
        }
    }
    let cures = cures(&evidence, &report, &Thresholds::default());
    for cure in &cures {
        let _ = trial::trial(&evidence, &report, cure);
    }
    let mut shown = Vec::new();
    whydrop_show::cures::write(&cures, WIDTH, &mut shown).expect("memory");
    check_terminal(&shown);
    watch::fuzz::recording(&evidence);
}

/// A capture file, as `watch -r` shows it.
///
/// # Panics
///
/// If text could do something to a terminal, or what was written cannot be read.
pub fn capture(data: &[u8]) {
    watch::fuzz::capture(data);
}

/// A configuration file, and the command line with its defaults.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok((_, command)) = config::of_text(text, cli::Arguments::command()) else { return };
    for words in [&["whydrop"][..], &["whydrop", "watch", "tcp"]] {
        let _ = command.clone().try_get_matches_from(words);
    }
}

/// Makes sure that there is nothing but text, ends of lines and styles.
pub(crate) fn check_terminal(shown: &[u8]) {
    let shown = str::from_utf8(shown).expect("text");
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            let mut style = rest.by_ref().take_while(|c| *c != 'm');
            assert_eq!(style.next(), Some('['), "{shown:?}");
            assert!(style.all(|c| c.is_ascii_digit() || c == ';'), "{shown:?}");
        } else {
            assert!(c == '\n' || !c.is_control(), "{shown:?}");
        }
    }
}

#[test]
fn what_fuzzers_kept_passes() {
    replay::corpus("evidence", evidence);
    replay::corpus("capture", capture);
    replay::corpus("config", config);
}
