//! `whydrop changes`: what whydrop changed on this host.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;
use whydrop_cure::Journal;
use whydrop_show::Safe;
use whydrop_show::style::{FAINT, STRONG};

use crate::cli::{Changes, Plain};
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(options: &Changes) -> anyhow::Result<ExitCode> {
    let records = Journal::new(&options.journal.journal).records()?;
    let mut out = output::stdout();
    if options.format == Plain::Json {
        let document = json!({ "schema": "whydrop.changes/1", "changes": records });
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else if records.is_empty() {
        writeln!(out, "whydrop has changed nothing on this host")?;
    } else {
        for record in &records {
            let effect = record.effect.map(|effect| format!(", {effect}")).unwrap_or_default();
            writeln!(
                out,
                "{STRONG}{:>4}  {}{effect}{STRONG:#}  {}  {}",
                record.id,
                record.state,
                Safe(&record.at),
                Safe(&record.summary)
            )?;
            for write in &record.writes {
                let became = write.became.as_ref().unwrap_or(&write.new);
                let target = write.target.to_string();
                let (old, new) = (Safe(&write.old), Safe(became));
                writeln!(out, "      {FAINT}{}: {old} -> {new}{FAINT:#}", Safe(&target))?;
            }
            for file in &record.files {
                let path = file.path.display().to_string();
                writeln!(out, "      {FAINT}{}{FAINT:#}", Safe(&path))?;
            }
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}
