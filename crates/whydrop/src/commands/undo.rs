//! `whydrop undo`: takes changes back.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use whydrop_collect::Roots;
use whydrop_cure::{Changes, Journal, Undone};
use whydrop_show::Safe;

use crate::cli::Undo;
use crate::{failure, output};

/// Runs the command. Nothing in force is no error: it is what was asked for.
pub(crate) fn run(options: &Undo) -> anyhow::Result<ExitCode> {
    let journal = Journal::new(&options.journal.journal);
    // Looked at before the lock is taken, which would make the folder.
    let open: Vec<_> =
        journal.records()?.iter().filter(|it| it.state.is_open()).map(|it| it.id).collect();
    let ids = match options.id {
        Some(id) => vec![id],
        None if options.all => open.iter().rev().copied().collect(),
        None => open.last().copied().into_iter().collect(),
    };
    let mut out = output::stdout();
    if ids.is_empty() {
        writeln!(out, "no change is in force")?;
        out.flush()?;
        return Ok(failure::CLEAN);
    }
    let changes = Changes::open(&journal, Roots::default())?;
    let (mut all, mut failed) = (true, 0);
    let several = ids.len() > 1;
    for id in ids {
        if !open.contains(&id) {
            let record = journal.record(id)?;
            writeln!(out, "change {id} was undone before: {}", Safe(&record.summary))?;
            continue;
        }
        let (record, undone) = match changes.undo(id, options.force, &mut |_| {}) {
            // The others are not to wait for this one.
            Err(error) if several => {
                failed += 1;
                output::message(&format!("whydrop: change {id} is not undone: {error}"));
                continue;
            }
            done => done?,
        };
        all &= undone.left.is_empty();
        let state = if undone.left.is_empty() { "undone" } else { "left as it is" };
        writeln!(out, "change {id} {state}: {}", Safe(&record.summary))?;
        tell(&undone, &mut out)?;
    }
    out.flush()?;
    if failed > 0 {
        bail!(
            "{failed} of the changes could not be undone; `whydrop changes` shows what is in force"
        );
    }
    Ok(if all { failure::CLEAN } else { failure::fault() })
}

fn tell(undone: &Undone, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    for line in &undone.restored {
        writeln!(out, "  restored  {}", Safe(line))?;
    }
    for line in &undone.gone {
        writeln!(out, "  gone      {}", Safe(line))?;
    }
    for left in &undone.left {
        let (what, ours, now) = (Safe(&left.what), Safe(&left.ours), Safe(&left.now));
        writeln!(
            out,
            "  left      {what}: whydrop made it {ours}, somebody made it {now} since; --force restores it"
        )?;
    }
    Ok(())
}
