//! `whydrop sockets`: receive queues, how full they got, and what bounds them.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use whydrop_collect::Watch;
use whydrop_model::ReportWindow;

use crate::cli::{Plain, Sockets};
use crate::observe::{TICK, announce};
use crate::privilege::{Part, Privileges};
use crate::progress::Progress;
use crate::signals::{Ended, pause};
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(options: &Sockets) -> anyhow::Result<ExitCode> {
    let ended = Ended::listen()?;
    Privileges::reduce(Part::Counters, options.ready_file.as_deref());
    let watch = Watch::open(whydrop_collect::Options {
        netns: options.netns.clone(),
        ..whydrop_collect::Options::default()
    })?;
    let began = Instant::now();
    if let Some(path) = &options.ready_file {
        announce(path)?;
    }
    let mut progress = Progress::new(options.duration);
    while let Some(left) = options.duration.checked_sub(began.elapsed()).filter(|_| !ended.yet()) {
        progress.update(left, None);
        pause(left.min(TICK), &[]);
    }
    drop(progress);
    let seen = watch.close();
    let window = ReportWindow {
        start: jiff::Timestamp::try_from(seen.opened).unwrap_or_default().to_string(),
        seconds: seen.length.as_secs_f64(),
    };
    let queues = whydrop_diagnose::queues(&seen.namespaces, window, seen.not_checked);
    let mut out = output::stdout();
    match options.format {
        Plain::Text => whydrop_show::queues::write(&queues, &mut out)?,
        Plain::Json => {
            serde_json::to_writer_pretty(&mut out, &queues)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}
