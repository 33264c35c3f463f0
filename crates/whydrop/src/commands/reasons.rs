//! `whydrop reasons`: the running kernel's drop reasons, by its own list.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;
use whydrop_diagnose::reasons;
use whydrop_show::Safe;
use whydrop_show::style::{FAINT, STRONG};

use crate::cli::{Plain, Reasons};
use crate::{failure, output};

/// What is said of a reason that is newer than this release.
const UNKNOWN: &str = "newer than this whydrop";

/// Runs the command.
pub(crate) fn run(options: &Reasons) -> anyhow::Result<ExitCode> {
    let kernel = whydrop_probe::Reasons::read(&options.kernel_btf)?;
    let mut out = output::stdout();
    match options.format {
        Plain::Json => {
            let rows: Vec<_> = kernel
                .iter()
                .map(|reason| {
                    let known = reasons::find(&reason.name);
                    json!({
                        "name": reason.name,
                        "value": reason.value,
                        "subsystem": reason.subsystem,
                        "layer": known.map(|known| known.layer),
                        "class": known.map(|known| known.class),
                        "meaning": known.map(|known| known.meaning),
                    })
                })
                .collect();
            serde_json::to_writer_pretty(&mut out, &rows)?;
            writeln!(out)?;
        }
        Plain::Text => {
            for reason in kernel.iter() {
                let known = reasons::find(&reason.name);
                let (layer, meaning) =
                    known.map_or(("-", UNKNOWN), |known| (known.layer, known.meaning));
                writeln!(
                    out,
                    "{STRONG}{:<28}{STRONG:#} {FAINT}{layer:<11}{FAINT:#} {meaning}",
                    Safe(&reason.name).to_string()
                )?;
            }
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}
